"""Several processes, joined as `torchrun` joins them, do what one does."""

import math
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from src.data.dataset import Batch
from src.evaluation.predictor import classify
from src.training.trainer import StepReport, Trainer
from src.utils import distributed
from src.utils.errors import DataError, DivergedError, Interrupted
from src.utils.files import cached_folder
from tests.training import tiny_pretraining, tiny_training
from tests.training.tiny_training import ALL_RANDOMNESS, NO_DROPOUT
from tests.training.together import together

STEPS = 20
# Batches of one and two sentences too, of which some processes get none; two batches a step; layers frozen and
# computed twice.
UNEVEN: dict[str, Any] = {**NO_DROPOUT, "batch_size": 3, "ema_decay": 0.9, "epochs": 3}
ACCUMULATED: dict[str, Any] = {**NO_DROPOUT, "gradient_accumulation_steps": 2, "label_smoothing": 0.1, "epochs": 9}
FROZEN: dict[str, Any] = {**NO_DROPOUT, "num_hidden_layers": 2, "freeze_layers": 1, "epochs": 9}
FROZEN["gradient_checkpointing"] = True


def arrays(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def train_and_evaluate(options: dict[str, Any]) -> tuple[list[StepReport], dict[str, Any], dict[str, Any]]:
    """Reports of the first steps, the trained model's weights after them, and its evaluation."""
    trainer, reports = tiny_training.trainer(**options, num_threads=1), list[StepReport]()
    while len(reports) < STEPS:
        reports += tiny_training.train_epoch(trainer)
    model = trainer.trained_model
    return reports, arrays(model.state_dict()), trainer.task.evaluate(model).as_dict()


@pytest.mark.parametrize(("options", "count"), [(UNEVEN, 3), (ACCUMULATED, 2), (FROZEN, 2)])
def test_many_processes_do_what_one_does(options: dict[str, Any], count: int) -> None:
    reports, weights, evaluation = train_and_evaluate(options)
    for found, their_weights, their_evaluation in together(count, train_and_evaluate, options):
        for report, expected in zip(found, reports, strict=True):
            assert report.loss == pytest.approx(expected.loss, abs=1e-5)
            assert report.gradient_norm == pytest.approx(expected.gradient_norm, abs=1e-4)
            assert (report.num_tokens, report.num_targets) == (expected.num_tokens, expected.num_targets)
        for name, array in weights.items():
            # Softmax ignores a bias of all keys: its gradient is rounding, of which AdamW makes whole steps.
            if not name.endswith("attention.key.bias"):
                np.testing.assert_allclose(their_weights[name], array, rtol=0, atol=1e-4)
        assert their_evaluation["confusion"] == evaluation["confusion"]
        assert their_evaluation["loss"] == pytest.approx(evaluation["loss"], abs=1e-5)
    assert reports[-1].loss < reports[0].loss
    assert options is not UNEVEN or min(report.num_targets for report in reports) < count


def evaluations(cache: Path) -> tuple[list[int], dict[str, Any], Any]:
    """Masked tokens of the steps of a pre-training, its evaluation, and logits of texts in several windows."""
    trainer = tiny_pretraining.trainer(cache, max_steps=4)
    distributed.seed_per_rank(0)
    targets = [report.num_targets for report in tiny_training.train_epoch(trainer)]
    masked = tiny_pretraining.task(cache, begin_with="random")
    task = tiny_training.task(seq_len=6, long_text="windows", num_threads=1)
    logits = classify(task.model, task.train, task.device, together=True)
    return targets, masked.evaluate(masked.model).as_dict(), logits.numpy()


def test_many_processes_evaluate_as_one_does_and_count_the_masked_tokens_of_all(tmp_path: Path) -> None:
    _, expected, logits = evaluations(tmp_path)  # which fills the cache, too
    ends = together(2, evaluations, tmp_path)
    for targets, found, their_logits in ends:
        assert targets == ends[0][0] and min(targets) > 0
        assert found == pytest.approx(expected, abs=1e-6) and found["n"] > 5
        np.testing.assert_allclose(their_logits, logits, rtol=0, atol=1e-6)


def spoil(where: str) -> list[str]:
    """The names of tensors that steps changed in which the second process alone meets a number that is not finite."""
    trainer, broken = tiny_training.trainer(**NO_DROPOUT, num_threads=1, ema_decay=0.9), [False]
    original = trainer.task.loss

    def loss(model: Any, batch: Batch) -> Tensor:
        return original(model, batch) * (math.nan if where == "loss" and broken[0] else 1)

    trainer.task.loss = loss  # type: ignore[method-assign]
    register: Any = trainer.model.bert.embedding.token.weight.register_hook
    register(lambda gradient: gradient * (math.inf if where == "gradient" and broken[0] else 1))
    batches = [trainer.task.train.collate(distributed.split_between_processes(range(9)))]
    trainer.training_step(batches)
    before = tiny_training.all_tensors(trainer, with_random_states=False)
    broken[0] = distributed.rank() == 1
    for _ in range(2):
        trainer.training_step(batches)
    after = tiny_training.all_tensors(trainer, with_random_states=False)
    with pytest.raises(DivergedError):
        trainer.training_step(batches)
    return [name for name, tensor in after.items() if not torch.equal(tensor, before[name])]


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_number_that_is_not_finite_in_one_process_changes_nothing_in_any(where: str) -> None:
    assert together(2, spoil, where) == [[], []]


def straight_and_resumed(folder: Path) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    """Checkpoints of a run in which the last process alone gets a signal; weights of a straight run and of this one."""

    def begin(name: str) -> tiny_training.Run:
        run = tiny_training.begin(folder / name, **options)
        distributed.seed_per_rank(0)
        return run

    def weights(run: tiny_training.Run) -> dict[str, Any]:
        run.train()
        return arrays(run.trainer.model.state_dict())

    def stop(step: int) -> None:
        if step == 4 and distributed.rank() == distributed.world_size() - 1:
            signal.raise_signal(signal.SIGTERM)

    options: dict[str, Any] = {**ALL_RANDOMNESS, "epochs": 3, "num_threads": 1}
    straight, run = weights(begin("straight")), begin("resumed")
    tiny_training.after_each_step(run, stop)
    with pytest.raises(Interrupted):
        run.train()
    distributed.barrier()
    names = [checkpoint.name for checkpoint in run.folder.checkpoints()]
    distributed.barrier()
    return names, straight, weights(tiny_training.resume(folder / "resumed", **options))


@pytest.mark.parametrize("count", [2, 3])
def test_processes_stop_after_the_same_step_and_go_on_bit_for_bit(count: int, tmp_path: Path) -> None:
    ends = together(count, straight_and_resumed, tmp_path)
    _, straight, _ = ends[0]
    for names, other, resumed in ends:
        assert names[0] == "step-5"  # in which the others are told
        for found in (other, resumed):
            assert all(np.array_equal(straight[name], found[name]) for name in straight)


def interrupted(folder: Path) -> None:
    run = tiny_training.begin(folder, num_threads=1)
    tiny_training.after_each_step(run, lambda step: signal.raise_signal(signal.SIGTERM))
    run.train()


def test_an_error_too_leaves_no_thread_of_the_group(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"Interrupted: stopped in step 2") as caught:
        together(2, interrupted, tmp_path)
    assert "threads are left" not in str(caught.value)


def begin_unlike(folder: Path) -> tuple[dict[str, Any], list[float], int]:
    """Weights of a trainer whose process had others, sums over the processes, and the seed of each."""
    number, task = distributed.rank(), tiny_training.task(num_threads=1)
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.add_(number)
    weights = arrays(Trainer(task).model.state_dict())
    with cached_folder(folder / "made") as unfinished:  # by one of them, while the others wait
        if unfinished is not None:
            (unfinished / str(number)).touch()
            time.sleep(0.2)
    assert len(list((folder / "made").glob("[0-9]"))) == 1
    distributed.refuse_differences("the same")
    with pytest.raises(DataError, match="different data"):
        distributed.refuse_differences({"sentences": number})
    torch.manual_seed(7)
    distributed.seed_per_rank(7)
    return weights, distributed.all_reduce(number, 1), torch.initial_seed()


def test_processes_begin_with_the_weights_of_the_first_and_their_own_random_numbers(tmp_path: Path) -> None:
    wanted = arrays(Trainer(tiny_training.task(num_threads=1)).model.state_dict())
    ends = together(3, begin_unlike, tmp_path)
    for weights, sums, _ in ends:
        assert all(np.array_equal(weights[name], wanted[name]) for name in wanted) and sums == [3, 3]
    seeds = [seed for *_, seed in ends]
    assert seeds[0] == 7 and len(set(seeds)) == 3
