import math
import os
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from src.data.batching import Batch
from src.evaluation.predictor import classify
from src.training.loop import StepReport
from src.training.state import gather_random_states
from src.utils import distributed
from src.utils.errors import DataError, DivergedError
from tests.training import tiny_pretraining, tiny_training
from tests.training.tiny_training import NO_DROPOUT
from tests.training.together import together

STEPS = 20
# Batches of one and two sentences too, of which some processes get none; two batches a step, averages, frozen layers.
UNEVEN: dict[str, Any] = {**NO_DROPOUT, "batch_size": 3, "ema_decay": 0.9, "epochs": 3}
ACCUMULATED: dict[str, Any] = {**NO_DROPOUT, "gradient_accumulation_steps": 2, "label_smoothing": 0.1, "epochs": 9}
FROZEN: dict[str, Any] = {**NO_DROPOUT, "freeze_layers": 1, "epochs": 9}


def arrays(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def without_key_biases(weights: dict[str, Any]) -> dict[str, Any]:
    """Softmax takes no notice of a bias of all keys: its gradient is rounding, of which AdamW makes whole steps."""
    D = len(weights["pooler.dense.bias"])
    found = dict(weights)
    for name in weights:
        if name.endswith("query_key_value.bias"):
            found[name] = np.delete(weights[name], range(D, 2 * D))
    return found


def train_and_evaluate(
    options: dict[str, Any], shares_memory: bool = True
) -> tuple[list[StepReport], dict[str, Any], dict[str, Any]]:
    """Reports of the first steps, the weights after them, and an evaluation."""
    if not shares_memory:  # as in a sandbox
        vars(os).pop("memfd_create", None)
    parts = tiny_training.setup(**options, num_threads=1)
    reports: list[StepReport] = []
    while len(reports) < STEPS:
        parts.trainer.train_epoch(reports.append)
    return reports, arrays(parts.classifier.model.state_dict()), parts.subject.evaluate().as_dict()


@pytest.mark.parametrize(
    ("options", "count", "shares_memory"), [(UNEVEN, 3, True), (ACCUMULATED, 2, True), (FROZEN, 2, False)]
)
def test_many_processes_do_what_one_does(options: dict[str, Any], count: int, shares_memory: bool) -> None:
    reports, weights, evaluation = train_and_evaluate(options)
    for found, their_weights, their_evaluation in together(count, train_and_evaluate, options, shares_memory):
        for report, expected in zip(found, reports, strict=True):
            assert report.loss == pytest.approx(expected.loss, abs=1e-5)
            assert report.gradient_norm == pytest.approx(expected.gradient_norm, abs=1e-4)
            assert (report.tokens, report.predictions) == (expected.tokens, expected.predictions)
        for name, array in without_key_biases(weights).items():
            np.testing.assert_allclose(without_key_biases(their_weights)[name], array, rtol=0, atol=1e-4)
        assert their_evaluation["confusion"] == evaluation["confusion"]
        assert their_evaluation["loss"] == pytest.approx(evaluation["loss"], abs=1e-5)
    assert reports[-1].loss < reports[0].loss


def masked_losses(cache: Any) -> tuple[list[int], dict[str, Any]]:
    parts = tiny_pretraining.setup(cache, max_steps=4)
    distributed.draw_apart(0)
    predictions: list[int] = []
    parts.trainer.train_epoch(lambda report: predictions.append(report.predictions))
    torch.manual_seed(0)
    evaluated = tiny_pretraining.setup(cache, begin_with="random")
    return predictions, evaluated.subject.evaluate().as_dict()


def test_masked_tokens_of_all_are_counted_and_evaluated_alike(tmp_path: Any) -> None:
    _, expected = masked_losses(tmp_path)  # which fills the cache, too
    (predictions, found), (others, same) = together(2, masked_losses, tmp_path)
    assert predictions == others and min(predictions) > 0
    for numbers in (found, same):
        assert numbers == pytest.approx(expected, abs=1e-6)
    assert expected["n"] > 5


def spoil(where: str) -> tuple[list[str], bool]:
    """The names of parameters that a step changed in which the second process alone meets a number that is none."""
    parts = tiny_training.setup(**NO_DROPOUT, num_threads=1, ema_decay=0.9)
    trainer, bad = parts.trainer, distributed.rank() == 1
    original = trainer.objective.summed_loss

    def summed_loss(model: Any, batch: Batch) -> Tensor:
        loss = original(model, batch)
        return loss * math.nan if where == "loss" and bad else loss

    trainer.objective.summed_loss = summed_loss  # type: ignore[method-assign]
    if where == "gradient" and bad:
        weight: Any = trainer.model.bert.embedding.token.weight
        weight.register_hook(lambda gradient: gradient * math.inf)
    trainer.state.make_moments()
    before = tiny_training.all_tensors(trainer, with_random_states=False)
    batches = [trainer.dataset.collate(distributed.share(range(9)))]
    for _ in range(2):
        trainer.training_step(batches)
    changed = [
        name
        for name, tensor in tiny_training.all_tensors(trainer, with_random_states=False).items()
        if not torch.equal(tensor, before[name])
    ]
    try:
        trainer.training_step(batches)
    except DivergedError:
        return changed, True
    return changed, False


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_number_that_is_none_in_one_process_changes_nothing_in_any(where: str) -> None:
    assert together(2, spoil, where) == [([], True)] * 2


def straight_and_resumed(folder: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The weights after all epochs at once, and after a stop in between."""
    options = {**tiny_training.ALL_RANDOMNESS, "epochs": 2, "num_threads": 1}
    found = []
    for stops in (False, True):
        parts = tiny_training.setup(**options)
        distributed.draw_apart(0)
        parts.trainer.train_epoch(lambda report: None)
        if stops:
            states = gather_random_states()
            if distributed.is_first():
                parts.trainer.state.save(folder, states)
            distributed.wait_for_all()
            parts = tiny_training.setup(**options)
            parts.trainer.state.load(folder)
        parts.trainer.train_epoch(lambda report: None)
        found.append(arrays(parts.classifier.model.state_dict()))
    return found[0], found[1]


def test_two_processes_hold_the_same_weights_and_go_on_bit_for_bit(tmp_path: Any) -> None:
    (straight, resumed), (others, others_resumed) = together(2, straight_and_resumed, tmp_path)
    for found in (resumed, others, others_resumed):
        assert all(np.array_equal(straight[name], found[name]) for name in straight)


def windows() -> tuple[Any, Any]:
    parts = tiny_training.setup(seq_len=6, long_text="windows", num_threads=1)
    dataset = parts.trainer.dataset
    found = [
        classify(parts.classifier.model, dataset, parts.trainer.device, together=flag).numpy() for flag in (True, False)
    ]
    return found[0], found[1]


def test_logits_of_texts_in_several_windows_are_those_of_one_process() -> None:
    for shared, alone in together(2, windows):
        np.testing.assert_allclose(shared, alone, rtol=0, atol=1e-6)


def unlike(what: str) -> tuple[float, str]:
    number = distributed.rank()
    weight = torch.full((3,), float(number), requires_grad=True)
    try:
        distributed.begin_alike([weight], {"sentences": number if what == "data" else 7})
    except DataError as error:
        return weight.sum().item(), str(error)
    return weight.sum().item(), ""


def test_processes_begin_with_the_weights_of_the_first_and_refuse_different_data() -> None:
    assert together(2, unlike, "weights") == [(0.0, ""), (0.0, "")]
    for _, error in together(2, unlike, "data"):
        assert "different data" in error
