from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from src.interop.huggingface import load_classifier
from src.model.positional_encoding import LearnedPositionalEncoding
from src.training.checkpoint import EVALUATION
from src.training.optimizer import build_ema, build_optimizer, learning_rate_at
from src.utils.config import OptimizationConfig
from src.utils.files import read_json
from tests.training.tiny_training import NO_DROPOUT, assert_same, begin, task, weights

PEAK = 5e-4
RUNS = (("ema", 0.9), ("plain", 0.0))  # names and decays


def by_name(model: nn.Module, optimizer: torch.optim.Optimizer, option: str) -> dict[str, float]:
    values = {id(parameter): group[option] for group in optimizer.param_groups for parameter in group["params"]}
    return {name: values[id(parameter)] for name, parameter in model.named_parameters() if id(parameter) in values}


def test_matrices_and_embeddings_decay_and_nothing_else() -> None:
    model = task().model
    decayed = nn.Linear | nn.Embedding | LearnedPositionalEncoding
    expected = {
        f"{path}.{name}": 0.3 if name == "weight" and isinstance(part, decayed) else 0.0
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
    model = task(num_hidden_layers=3).model
    optimizer = build_optimizer(model, OptimizationConfig())
    assert by_name(model, optimizer, "layer_scale") == {name: 1.0 for name, _ in model.named_parameters()}
    optimizer = build_optimizer(model, OptimizationConfig(layer_decay=0.5))
    expected = {"bert.embedding.": 1 / 16, "bert.encoder.layers.0.": 1 / 8, "bert.encoder.layers.1.": 1 / 4}
    expected |= {"bert.encoder.layers.2.": 1 / 2, "pooler.": 1.0, "classifier.": 1.0}
    for name, found in by_name(model, optimizer, "layer_scale").items():
        (scale,) = (scale for prefix, scale in expected.items() if name.startswith(prefix))
        assert found == scale


def test_ema_follows_the_recursion_in_double_precision_from_the_first_step_on() -> None:
    torch.manual_seed(0)
    model = nn.Linear(7, 5)
    ema = build_ema(model, decay=0.8)
    assert ema is not None and build_ema(model, decay=0.0) is None
    expected: list[Tensor] = []
    for step in range(60):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter))
        ema.update_parameters(model)
        decay = min(0.8, (1 + step) / (10 + step))
        now = [parameter.detach().double() for parameter in model.parameters()]
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected or now, now, strict=True)]
        for found, wanted in zip(ema.module.parameters(), expected, strict=True):
            torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


def test_the_average_is_evaluated_and_saved_and_changes_nothing_of_the_training(tmp_path: Path) -> None:
    averaged, plain = (begin(tmp_path / name, ema_decay=decay, **NO_DROPOUT) for name, decay in RUNS)
    averaged.train()
    plain.train()
    assert_same(weights(averaged.trainer), weights(plain.trainer))
    ema = averaged.trainer.ema
    assert ema is not None
    average = ema.module.state_dict()
    for folder in (tmp_path / "ema", averaged.folder.checkpoints()[0]):
        assert_same(load_classifier(folder).model.state_dict(), average)
    assert not torch.equal(average["classifier.weight"], weights(plain.trainer)["classifier.weight"])
    assert read_json(tmp_path / "ema" / EVALUATION)["loss"] == averaged.trainer.task.evaluate(ema.module).loss
