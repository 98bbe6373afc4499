from contextlib import suppress

import pytest
import torch
from torch import nn

from src.model.bert import BertForSequenceClassification
from src.training.optimizer import (
    ExponentialMovingAverage,
    build_optimizer,
    clipped_step,
    gradient_norm,
    learning_rate_at,
    set_learning_rate,
)
from src.utils.config import OptimizationConfig
from tests.training.tiny_training import setup

PEAK = 5e-4


def by_name(model: BertForSequenceClassification, optimizer: torch.optim.Optimizer, option: str) -> dict[str, float]:
    values = {id(parameter): group[option] for group in optimizer.param_groups for parameter in group["params"]}
    return {name: values[id(parameter)] for name, parameter in model.named_parameters() if id(parameter) in values}


def test_matrices_and_embeddings_decay_and_nothing_else() -> None:
    model = setup().classifier.model
    expected = {
        f"{path}.{name}": 0.3 if name == "weight" and isinstance(part, nn.Linear | nn.Embedding) else 0.0
        for path, part in model.named_modules()
        for name, _ in part.named_parameters(recurse=False)
    }
    for layer_decay in (1.0, 0.5):
        config = OptimizationConfig(weight_decay=0.3, layer_decay=layer_decay)
        assert by_name(model, build_optimizer(model, config), "weight_decay") == expected
    config = OptimizationConfig(adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-3)
    for group in build_optimizer(model, config).param_groups:
        assert (group["betas"], group["eps"], group["amsgrad"]) == ((0.8, 0.95), 1e-3, False)
    assert any("norm" in name for name in expected) and set(expected.values()) == {0.0, 0.3}


@pytest.mark.parametrize(("total", "ratio"), [(1, 0.0), (97, 0.25)])
def test_learning_rate_is_that_of_transformers_with_steps_from_one(total: int, ratio: float) -> None:
    from transformers import get_linear_schedule_with_warmup

    # Theirs counts steps from 0, so the first one is lost at rate 0. Counted from 1, the same line would lose the last
    # one instead; ours reaches 0 in the step after it, hence the one step more in their schedule.
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)
    theirs = get_linear_schedule_with_warmup(optimizer, max(1, round(ratio * total)), total + 1).lr_lambdas[0]
    for step in range(1, total + 1):
        assert learning_rate_at(step, total, PEAK, ratio) == pytest.approx(PEAK * theirs(step), rel=1e-12)


def test_layer_decay_lowers_the_rate_layer_by_layer_from_the_head_to_the_embeddings() -> None:
    model = setup(num_hidden_layers=3).classifier.model
    optimizer = build_optimizer(model, OptimizationConfig())
    set_learning_rate(optimizer, 0.25)
    assert by_name(model, optimizer, "lr") == {name: 0.25 for name, _ in model.named_parameters()}
    optimizer = build_optimizer(model, OptimizationConfig(layer_decay=0.5))
    set_learning_rate(optimizer, 0.25)
    expected = {"bert.embedding.": 1 / 16, "bert.encoder.layers.0.": 1 / 8, "bert.encoder.layers.1.": 1 / 4}
    expected |= {"bert.encoder.layers.2.": 1 / 2, "pooler.": 1.0, "classifier.": 1.0}
    for name, rate in by_name(model, optimizer, "lr").items():
        (scale,) = (scale for prefix, scale in expected.items() if name.startswith(prefix))
        assert rate == 0.25 * scale


def test_a_clipped_step_is_that_of_clipped_gradients() -> None:
    torch.manual_seed(0)
    ours, theirs = setup().classifier.model, setup().classifier.model
    theirs.load_state_dict(ours.state_dict())
    optimizer, plain = (build_optimizer(model, OptimizationConfig(adam_epsilon=1e-3)) for model in (ours, theirs))
    for size in (1e-3, 1.0, 2e-3, 30.0):  # shorter and longer than the limit
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.grad = size * torch.randn_like(other)
            one.grad = 3 * other.grad
        clipped_step(optimizer, gradient_norm(ours.parameters()) / 3, max_norm=0.7, divisor=3)
        norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), max_norm=0.7)
        plain.step()
        assert (norm > 0.7) == (size > 0.1)
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_average_follows_the_recursion_in_double_precision() -> None:
    torch.manual_seed(0)
    parameters = [torch.randn(3, 2), torch.randn(5)]
    average = ExponentialMovingAverage(parameters, decay=0.8)
    expected = [parameter.double() for parameter in parameters]
    for step in range(1, 60):
        for parameter in parameters:
            parameter.copy_(torch.randn_like(parameter))
        average.update(parameters[:1], step)
        average.update(parameters[1:], step)
        average.update([], step)
        decay = min(0.8, (1 + step) / (10 + step))
        expected = [decay * old + (1 - decay) * new.double() for old, new in zip(expected, parameters, strict=True)]
    for found, wanted in zip(average.averages.values(), expected, strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fails", [False, True])
def test_applied_lends_the_averages_and_gives_both_back_bit_for_bit(fails: bool) -> None:
    torch.manual_seed(0)
    model = nn.Linear(7, 5)
    average = ExponentialMovingAverage(model.parameters(), decay=0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    average.update(list(model.parameters()), 1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    averages = [tensor.clone() for tensor in average.averages.values()]
    with suppress(InterruptedError), average.applied():
        for parameter, lent in zip(model.parameters(), averages, strict=True):
            assert torch.equal(parameter, lent)
        assert not torch.equal(model.state_dict()["weight"], before["weight"])
        if fails:
            raise InterruptedError
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(map(torch.equal, average.averages.values(), averages))
