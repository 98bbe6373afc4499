"""Runs: what they log, evaluate, save and deliver, and how they end and are resumed."""

import math
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.evaluation.metrics import Evaluation
from src.interop.huggingface import load_classifier
from src.training import trainer
from src.training.checkpoint import EVALUATION
from src.training.optimizer import learning_rate_at
from src.training.tasks import ClassificationTask
from src.utils.errors import Interrupted, StorageError
from src.utils.files import read_json
from tests.conftest import all_metrics, metrics
from tests.training import tiny_pretraining
from tests.training.tiny_training import ALL_RANDOMNESS, Run, after_each_step, begin, resume


def model(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def raises_at(run: Run, stop: int, number: int = signal.SIGTERM) -> None:
    """Lets a step be interrupted by a signal."""
    after_each_step(run, lambda step: signal.raise_signal(number) if step == stop else None)


# Metrics


def test_rows_hold_the_mean_loss_since_the_row_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "STEPS_PER_LOG", 4)
    run, whole = begin(tmp_path / "run"), list[tuple[int, float, int]]()
    original = run.trainer.training_step

    def recording(batches: Any) -> Any:
        report, step = original(batches), run.progress.step
        if step in (2, 7, 8):  # as if these were skipped
            return replace(report, loss=math.nan)
        whole.append((step, report.loss, report.num_targets))
        return report

    monkeypatch.setattr(run.trainer, "training_step", recording)
    run.train()
    logged = {row["step"]: row for row in all_metrics(tmp_path / "run") if "train/loss" in row}
    assert list(logged) == [4, 6, 8, 12]  # every fourth, and the last one of an epoch
    assert logged[8]["train/loss"] is None
    for first, last in ((1, 4), (5, 6), (9, 12)):
        some = [(loss * count, count) for step, loss, count in whole if first <= step <= last]
        assert logged[last]["train/loss"] == pytest.approx(sum(s for s, _ in some) / sum(n for _, n in some))
    for step, row in logged.items():
        assert row["epoch"] == pytest.approx(step / 6)
        assert all(row[f"train/{name}"] > 0 for name in ("learning_rate", "gradient_norm", "tokens_per_second"))


@pytest.mark.parametrize(("every", "expected"), [(0, [6, 12]), (4, [4, 6, 8, 12]), (6, [6, 12])])
def test_evaluations_come_every_so_many_steps_and_once_at_the_end_of_every_epoch(
    every: int, expected: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(tmp_path / "run", evaluate_every=every).train()
    validation = [row for row in all_metrics(tmp_path / "run") if "validation/loss" in row]
    assert [row["step"] for row in validation] == expected
    assert [row["epoch"] for row in validation] == pytest.approx([step / 6 for step in expected])
    for row in validation:
        (a, b), (c, d) = row["confusion"]
        assert a + b == c + d == 6
        assert row["validation/accuracy"] == pytest.approx((a + d) / 12)
        assert {"validation/f1", "validation/mcc"} <= row.keys()
    told = re.findall(r"^epoch ([\d.]+), step (\d+)/12: validation accuracy", capsys.readouterr().err, re.MULTILINE)
    assert told == [(f"{step / 6:.3g}", str(step)) for step in expected]


def test_evaluating_in_between_changes_neither_the_weights_nor_the_mode(tmp_path: Path) -> None:
    begin(tmp_path / "straight", **ALL_RANDOMNESS).train()
    run, modes = begin(tmp_path / "run", evaluate_every=1, **ALL_RANDOMNESS), list[bool]()
    after_each_step(run, lambda step: modes.append(run.trainer.model.training))
    run.train()
    assert model(tmp_path / "run") == model(tmp_path / "straight")
    assert set(modes) == {True} and len(modes) > 2


# What is delivered


def evaluating(
    values: list[float], monkeypatch: pytest.MonkeyPatch, number: str = "accuracy"
) -> list[dict[str, Tensor]]:
    """Makes the evaluations find these values of a number; returns the weights that each one saw."""
    seen: list[dict[str, Tensor]] = []
    original = ClassificationTask.evaluate

    def evaluate(task: ClassificationTask, model: nn.Module) -> Evaluation:
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return Evaluation.from_dict(original(task, model).as_dict() | {number: values[len(seen) - 1]})

    monkeypatch.setattr(ClassificationTask, "evaluate", evaluate)
    return seen


@pytest.mark.parametrize(
    ("options", "values", "delivered"),
    [
        ({"keep": "best"}, [0.5, 0.75, 0.25], 1),
        ({"keep": "last"}, [0.5, 0.75, 0.25], 2),
        ({"keep": "best", "best_by": "loss"}, [0.5, 0.75, 0.25, 0.3], 2),  # less is better
        ({"keep": "best", "best_by": "f1"}, [0.5, 0.75, 0.25], 1),
        ({"patience": 2}, [0.5, 0.6, 0.6, 0.5], 1),  # as good is not better
        ({"patience": 2, "best_by": "loss"}, [0.5, 0.6, 0.4, 0.5, 0.4], 2),
        ({"patience": 1}, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 5),
    ],
)
def test_patience_ends_the_training_and_the_first_best_epoch_or_the_last_is_delivered(
    options: dict[str, Any],
    values: list[float],
    delivered: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options |= {"epochs": 6 if "patience" in options else len(values), "ema_decay": 0.9}
    number = options.get("best_by", "accuracy")
    run, seen = begin(tmp_path / "run", **options), evaluating(values, monkeypatch, number)
    run.train()
    assert len(seen) == run.progress.epoch == len(values)
    found = load_classifier(tmp_path / "run").model.state_dict()
    same = [all(torch.equal(tensor, epoch[name]) for name, tensor in found.items()) for epoch in seen]
    assert same == [epoch == delivered for epoch in range(len(values))]
    assert read_json(tmp_path / "run" / EVALUATION)[number] == values[delivered]
    err = capsys.readouterr().err
    assert ("--patience" in err) == (len(values) < options["epochs"])
    assert (f"epoch {delivered + 1} of {len(values)}, by validation {number}" in err) == (options.get("keep") != "last")
    before = model(tmp_path / "run")
    resume(tmp_path / "run", **options).train()
    assert len(seen) == len(values) and model(tmp_path / "run") == before  # it has ended for good


def test_a_finished_run_says_that_nothing_is_left_and_keeps_its_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(tmp_path / "run", epochs=1).train()
    before = model(tmp_path / "run")
    capsys.readouterr()
    resume(tmp_path / "run", epochs=1).train()
    assert "nothing is left" in capsys.readouterr().err and model(tmp_path / "run") == before


def test_patience_that_begins_with_a_resume_counts_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(tmp_path / "run", epochs=3).train()
    run = resume(tmp_path / "run", epochs=9, patience=2, allow_config_change=True)
    evaluating([0.3, 0.2, 0.1], monkeypatch)
    run.train()
    assert (run.progress.epoch, run.progress.best_epoch) == (6, 4)
    assert read_json(tmp_path / "run" / EVALUATION)["accuracy"] == 0.3


# Another batch size


def train_and_count(run: Run) -> tuple[int, list[float]]:
    """Trains to the end; returns how many examples that took, and the learning rates."""
    reports, original = list[Any](), run.trainer.training_step
    run.trainer.training_step = lambda batches: reports.append(original(batches)) or reports[-1]  # type: ignore
    run.train()
    return sum(report.num_targets for report in reports), [report.learning_rate for report in reports]


@pytest.mark.parametrize("change", [{"batch_size": 16}, {"batch_size": 3}, {"gradient_accumulation_steps": 2}])
@pytest.mark.parametrize(("stop", "examples"), [(18, 108), (15, 126)])
def test_under_another_batch_size_a_run_goes_on_after_the_examples_that_it_has_seen(
    change: dict[str, Any], stop: int, examples: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begin(tmp_path / "run", epochs=3, keep_last=9)
    if stop < 18:  # in the middle of an epoch
        raises_at(run, stop)
        with pytest.raises(Interrupted):
            run.train()
    else:
        run.train()
    options: dict[str, Any] = {"epochs": 6, "keep_last": 9, "allow_config_change": True} | change
    resumed = resume(tmp_path / "run", **options)
    passes, steps = stop / 6, resumed.trainer.steps_per_epoch
    assert resumed.trainer.epochs_done == pytest.approx(passes, abs=0.5 / steps)
    found, rates = train_and_count(resumed)
    assert found == pytest.approx(examples, abs=0 if stop == 18 else 6) and resumed.progress.epoch == 6
    assert resumed.progress.step == stop + len(rates) == stop + round((6 - passes) * steps)
    done = round(passes * steps)
    wanted = [learning_rate_at(done + number, 6 * steps, 3e-3, 0.1) for number in (1, len(rates))]
    assert [rates[0], rates[-1]] == pytest.approx(wanted)
    epochs = [row["epoch"] for row in all_metrics(tmp_path / "run") if "validation/loss" in row]
    assert epochs == [1, 2, 3, 4, 5, 6]
    # Stopped once more, it ends the same.
    stopped = next(path for path in resumed.folder.checkpoints()[1:] if path.name != f"step-{stop}")
    before = model(tmp_path / "run")
    resume(tmp_path / "run", stopped, **options).train()
    assert model(tmp_path / "run") == before


def test_pre_training_counts_steps_whatever_their_size(tmp_path: Path) -> None:
    trainer = tiny_pretraining.trainer(tmp_path, max_steps=16)
    trainer.progress.step = trainer.progress.step_in_epoch = 8
    trainer.rescale_epoch(12)
    assert (trainer.progress.step, trainer.progress.step_in_epoch, trainer.total_steps) == (8, 4, 16)
    assert (trainer.steps_per_epoch, len(trainer.remaining_steps())) == (6, 2)


# Checkpoints and signals


@pytest.mark.parametrize(
    ("stop", "number", "log_every", "options"),
    [
        (1, signal.SIGTERM, 1, {"keep": "best"}),
        (5, signal.SIGINT, 5, {"evaluate_every": 5, "save_every": 5}),  # a row of metrics, an evaluation and a save
        (5, signal.SIGINT, 50, {"evaluate_every": 4, "save_every": 3}),  # between them
        (6, signal.SIGTERM, 1, {"keep": "best"}),  # the end of an epoch
        (7, signal.SIGTERM, 50, {"freeze_layers": 1, "layer_decay": 0.5, "num_hidden_layers": 2}),
        (12, signal.SIGTERM, 1, {"keep": "best"}),  # the end of all
    ],
)
def test_a_signal_saves_after_the_step_and_the_resumed_run_ends_the_same(
    stop: int, number: int, log_every: int, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "STEPS_PER_LOG", log_every)
    options = ALL_RANDOMNESS | {"gradient_accumulation_steps": 1} | options
    begin(tmp_path / "straight", **options).train()
    run = begin(tmp_path / "run", **options)
    raises_at(run, stop, number)
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=rf"step {stop}\b.*--resume {tmp_path / 'run'}") as caught:
        run.train()
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
    assert run.folder.checkpoints()[0].name == f"step-{stop}" + ("-before-evaluation" if stop % 6 == 0 else "")
    resume(tmp_path / "run", **options).train()
    assert model(tmp_path / "run") == model(tmp_path / "straight")
    assert metrics(tmp_path / "run") == metrics(tmp_path / "straight")


@pytest.mark.parametrize(("number", "ends"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_second_signal_stops_at_once(number: int, ends: type[BaseException], tmp_path: Path) -> None:
    run = begin(tmp_path / "run")

    def twice(step: int) -> None:
        signal.raise_signal(number)
        signal.raise_signal(number)

    after_each_step(run, twice)
    with pytest.raises(ends) as caught:
        run.train()
    assert not isinstance(caught.value, SystemExit) or caught.value.code == 143
    assert run.folder.checkpoints() == []


@pytest.mark.parametrize("write", ["save_checkpoint", "save_model", "log"])
def test_a_full_disk_changes_no_resumed_run(write: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(tmp_path / "straight", **ALL_RANDOMNESS).train()
    run = begin(tmp_path / "run", save_every=2, **ALL_RANDOMNESS)
    original = getattr(run.folder, write)

    def refuse(*arguments: object) -> None:
        if run.progress.step > 4:
            raise StorageError("cannot write it (No space left on device); free space or permit it")
        original(*arguments)

    monkeypatch.setattr(run.folder, write, refuse)
    with pytest.raises(StorageError):
        run.train()
    resume(tmp_path / "run", **ALL_RANDOMNESS).train()
    assert model(tmp_path / "run") == model(tmp_path / "straight")
    assert metrics(tmp_path / "run") == metrics(tmp_path / "straight")
