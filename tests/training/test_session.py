import hashlib
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from src.evaluation.metrics import Evaluation
from src.evaluation.predictor import Predictor
from src.interop.huggingface import load_classifier
from src.training import session
from src.training.session import Session
from src.training.subjects import ClassifierInTraining
from src.utils.config import REPOSITORY
from src.utils.errors import DivergedError, Interrupted
from src.utils.folder import read_json
from tests.conftest import Programs, TrainedRun
from tests.training.tiny_training import ALL_RANDOMNESS, after_each_step, begin, go_on

EPOCHS = 15
SIGNALLED = (
    *("--dataset", "sample", "--epochs", str(EPOCHS)),
    *("--word-dropout", "0.1", "--ema-decay", "0.95"),
)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def sha256(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


# Metrics


def test_every_logged_row_of_training_holds_loss_rate_norm_speed_and_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "STEPS_PER_LOG", 4)
    begin(tmp_path / "run").run()
    training = [row for row in rows(tmp_path / "run") if "train/loss" in row]
    assert [row["step"] for row in training] == [4, 6, 8, 12]  # every fourth, and the last one of an epoch
    assert [row["epoch"] for row in training] == pytest.approx([4 / 6, 1, 8 / 6, 2])
    values = {"loss", "learning_rate", "gradient_norm", "tokens_per_second"}
    for row in training:
        assert row.keys() == {"step", "epoch"} | {f"train/{name}" for name in values}
        assert all(row[f"train/{name}"] > 0 for name in values)
    assert training[-1]["train/learning_rate"] == min(row["train/learning_rate"] for row in training)


def mean_losses(
    folder: Path, monkeypatch: pytest.MonkeyPatch, steps_per_log: int, skipped: Sequence[int]
) -> tuple[list[Any], list[float]]:
    """Trains for six steps, some with a loss that is not finite; returns logged losses and means of the finite ones."""
    monkeypatch.setattr(session, "STEPS_PER_LOG", steps_per_log)
    training = begin(folder, epochs=1)
    losses: list[list[tuple[float, int]]] = [[], []]
    original = training.trainer.training_step

    def recording(batches: Any) -> Any:
        report, step = original(batches), training.progress.step
        if step in skipped:
            return replace(report, loss=math.nan)
        losses[step > steps_per_log].append((report.loss * report.predictions, report.predictions))
        return report

    monkeypatch.setattr(training.trainer, "training_step", recording)
    training.run()
    logged = [row["train/loss"] for row in rows(folder) if "train/loss" in row]
    return logged, [sum(s for s, _ in some) / sum(n for _, n in some) for some in losses if some]


def test_logged_loss_is_the_mean_over_the_sentences_since_the_row_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged, means = mean_losses(tmp_path / "run", monkeypatch, 4, skipped=[])
    assert logged == pytest.approx(means) and len(logged) == 2


def test_a_skipped_step_leaves_its_loss_out_of_the_mean_that_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, second), means = mean_losses(tmp_path / "run", monkeypatch, 3, skipped=[2, 4, 5, 6])
    assert [first] == pytest.approx(means)
    assert second is None  # no step of its three was whole


def test_a_training_runs_beside_the_main_thread(tmp_path: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with ThreadPoolExecutor() as pool:
        pool.submit(begin(tmp_path / "run").run).result()
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_every_epoch_logs_validation_metrics_and_the_confusion_matrix(tmp_path: Path) -> None:
    begin(tmp_path / "run").run()
    validation = [row for row in rows(tmp_path / "run") if "confusion" in row]
    assert [(row["step"], row["epoch"]) for row in validation] == [(6, 1.0), (12, 2.0)]
    for row in validation:
        (a, b), (c, d) = row["confusion"]
        assert a + b == c + d == 6
        assert row["validation/accuracy"] == pytest.approx((a + d) / 12)
        assert {"validation/loss", "validation/f1", "validation/mcc"} <= row.keys()


def test_training_goes_on_in_training_mode_after_an_evaluation(tmp_path: Path) -> None:
    training, modes = begin(tmp_path / "run"), list[bool]()
    after_each_step(training, lambda step: modes.append(training.trainer.model.training))
    training.run()
    assert modes == [True] * 12


def test_speed_after_a_resume_counts_the_time_since_the_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "STEPS_PER_LOG", 1)
    training = begin(tmp_path / "run", epochs=1)
    training.progress.training_seconds = 1e6
    training.run()
    go_on(tmp_path / "run", epochs=2).run()
    speeds = {row["step"]: row["train/tokens_per_second"] for row in rows(tmp_path / "run") if "train/loss" in row}
    assert speeds[1] < 1 < speeds[7]


@pytest.mark.parametrize(
    ("every", "expected"), [(0, [6, 12]), (4, [4, 6, 8, 12]), (6, [6, 12]), (1, list(range(1, 13))), (99, [6, 12])]
)
def test_evaluations_come_every_so_many_steps_and_once_at_the_end_of_every_epoch(
    every: int, expected: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(tmp_path / "run", evaluate_every=every).run()
    validation = [row for row in rows(tmp_path / "run") if "validation/loss" in row]
    assert [row["step"] for row in validation] == expected
    assert [row["epoch"] for row in validation] == pytest.approx([step / 6 for step in expected])
    told = re.findall(r"^epoch ([\d.]+), step (\d+)/12: validation accuracy", capsys.readouterr().err, re.MULTILINE)
    assert told == [(f"{step / 6:.3g}", str(step)) for step in expected]


def test_evaluating_in_between_changes_neither_the_weights_nor_the_mode(tmp_path: Path) -> None:
    begin(tmp_path / "straight", **ALL_RANDOMNESS).run()
    training, modes = begin(tmp_path / "run", evaluate_every=1, **ALL_RANDOMNESS), list[bool]()
    after_each_step(training, lambda step: modes.append(training.trainer.model.training))
    training.run()
    assert sha256(tmp_path / "run") == sha256(tmp_path / "straight")
    assert set(modes) == {True} and len(modes) > 2


# What is delivered


def evaluating(training: Session, accuracies: list[float], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """Makes the evaluations find these accuracies; returns the weights that each one saw."""
    seen: list[dict[str, Tensor]] = []
    original = training._evaluate

    def evaluate() -> Evaluation:
        with training.trainer.state.as_delivered():
            seen.append({name: tensor.clone() for name, tensor in training.trainer.model.state_dict().items()})
        return Evaluation.from_dict(original().as_dict() | {"accuracy": accuracies[len(seen) - 1]})

    monkeypatch.setattr(training, "_evaluate", evaluate)
    return seen


@pytest.mark.parametrize(
    ("keep", "accuracies", "delivered"),
    [
        ("best", [0.5, 0.75, 0.25], 1),
        ("best", [0.5, 0.5, 0.25], 0),
        ("best", [0.25, 0.5, 0.75], 2),
        ("last", [0.5, 0.75, 0.25], 2),
    ],
)
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_the_delivered_epoch_is_the_first_best_one_or_the_last(
    keep: str, accuracies: list[float], delivered: int, ema_decay: float, tmp_path: Path, monkeypatch: Any
) -> None:
    training = begin(tmp_path / "run", keep=keep, epochs=3, ema_decay=ema_decay)
    seen = evaluating(training, accuracies, monkeypatch)
    training.run()
    found = load_classifier(tmp_path / "run").model.state_dict()
    same = [all(torch.equal(tensor, epoch[name]) for name, tensor in found.items()) for epoch in seen]
    assert same == [epoch == delivered for epoch in range(3)]
    assert training.folder.read_evaluation()["accuracy"] == accuracies[delivered]


def test_the_best_accuracy_is_remembered_by_a_resumed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = begin(tmp_path / "run", keep="best")
    evaluating(training, [0.75, 0.5], monkeypatch)
    after_each_step(training, lambda step: signal.raise_signal(signal.SIGTERM) if step == 8 else None)
    with pytest.raises(Interrupted):
        training.run()
    resumed = go_on(tmp_path / "run", keep="best")
    evaluating(resumed, [0.5], monkeypatch)
    resumed.run()
    assert resumed.folder.read_evaluation()["accuracy"] == 0.75


def test_the_delivered_model_evaluates_to_the_delivered_numbers(tmp_path: Path) -> None:
    training = begin(tmp_path / "run", ema_decay=0.9)
    training.run()
    predictor = Predictor.load(tmp_path / "run", "cpu")
    assert isinstance(training.subject, ClassifierInTraining)
    logits = predictor.logits(training.subject.validation)
    labels = torch.tensor(training.subject.validation.labels)
    delivered = training.folder.read_evaluation()
    assert delivered["accuracy"] == pytest.approx((logits.argmax(-1) == labels).float().mean().item())
    assert delivered["loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), abs=1e-6)


# Checkpoints and signals


def test_checkpoints_come_every_so_many_steps_and_after_every_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, saved = begin(tmp_path / "run", save_every=4), list[int]()
    monkeypatch.setattr(training, "_save", lambda: saved.append(training.progress.step))
    training.run()
    assert saved == [4, 6, 8, 12, 12]


@pytest.mark.parametrize("stop", [1, 5, 6, 7, 11, 12])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_after_the_step_and_the_resumed_run_ends_the_same(
    number: signal.Signals, stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "STEPS_PER_LOG", 1)
    options = ALL_RANDOMNESS | {"gradient_accumulation_steps": 1, "keep": "best"}
    begin(tmp_path / "straight", **options).run()
    training = begin(tmp_path / "run", **options)
    after_each_step(training, lambda step: signal.raise_signal(number) if step == stop else None)
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"stopped in step {stop}; go on with --resume {tmp_path / 'run'}") as caught:
        training.run()
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
    go_on(tmp_path / "run", **options).run()
    assert sha256(tmp_path / "run") == sha256(tmp_path / "straight")
    for rest in ("train", "validation"):
        steps = [row["step"] for row in rows(tmp_path / "run") if f"{rest}/loss" in row]
        assert steps == ([6, 12] if rest == "validation" else list(range(1, 13)))
    unlike = {"train/tokens_per_second"}
    straight, resumed = (
        [{name: value for name, value in row.items() if name not in unlike} for row in rows(tmp_path / name)]
        for name in ("straight", "run")
    )
    assert resumed == straight


@pytest.mark.parametrize("stop", [4, 8, 9])
def test_evaluations_in_between_are_neither_missing_nor_doubled_in_a_resumed_run(stop: int, tmp_path: Path) -> None:
    options = ALL_RANDOMNESS | {"gradient_accumulation_steps": 1, "evaluate_every": 4, "save_every": 3}
    begin(tmp_path / "straight", **options).run()
    training = begin(tmp_path / "run", **options)
    after_each_step(training, lambda step: signal.raise_signal(signal.SIGTERM) if step == stop else None)
    with pytest.raises(Interrupted):
        training.run()
    go_on(tmp_path / "run", **options).run()
    assert sha256(tmp_path / "run") == sha256(tmp_path / "straight")
    straight, resumed = (
        [row for row in rows(tmp_path / name) if "validation/loss" in row] for name in ("straight", "run")
    )
    assert [row["step"] for row in straight] == [4, 6, 8, 12]
    assert resumed == straight


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    training = begin(tmp_path / "run")

    def twice(step: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    after_each_step(training, twice)
    with pytest.raises(KeyboardInterrupt):
        training.run()
    assert training.folder.checkpoints() == []


def test_a_second_sigterm_stops_at_once_with_its_own_code(tmp_path: Path) -> None:
    training = begin(tmp_path / "run")

    def twice(step: int) -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    after_each_step(training, twice)
    with pytest.raises(SystemExit) as caught:
        training.run()
    assert caught.value.code == 143


@pytest.mark.parametrize("stop", [2, 5])
def test_the_row_of_metrics_that_was_under_way_is_that_of_a_run_that_never_stopped(stop: int, tmp_path: Path) -> None:
    begin(tmp_path / "straight").run()
    training = begin(tmp_path / "run")
    after_each_step(training, lambda step: signal.raise_signal(signal.SIGTERM) if step == stop else None)
    with pytest.raises(Interrupted):
        training.run()
    go_on(tmp_path / "run").run()
    straight, resumed = (
        [row["train/loss"] for row in rows(tmp_path / name) if "train/loss" in row] for name in ("straight", "run")
    )
    assert resumed == straight


def test_a_diverged_training_delivers_nothing(tmp_path: Path) -> None:
    training = begin(tmp_path / "run")
    training.trainer.model.register_forward_hook(lambda _, inputs, logits: logits * torch.nan)
    with pytest.raises(DivergedError):
        training.run()
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.fixture(scope="module")
def uninterrupted(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("uninterrupted") / "run"
    answer = programs.train_small(*SIGNALLED, "--output-dir", path)
    assert answer.code == 0, answer.err
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_ended_by_a_signal_and_resumed_delivers_the_same_file(
    number: signal.Signals, uninterrupted: Path, programs: Programs, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    command = [sys.executable, "-m", "src.train", *SIGNALLED, *programs.small, "--output-dir", str(path)]
    environment = os.environ | programs.environment
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr)
        assert any(line.startswith("epoch 1, ") for line in lines)
        process.send_signal(number)
        rest = list(lines)
        assert process.wait(60) == 128 + number
    assert rest[-1].startswith("error: stopped in step ") and rest[-1].endswith(f"go on with --resume {path}\n")
    assert read_json(path / "run.json")["finished"] is None
    answer = programs.train("--resume", path)
    assert answer.code == 0, answer.err
    assert sha256(path) == sha256(uninterrupted)
    assert read_json(path / "run.json")["finished"] is not None
    assert [row["step"] for row in rows(path)] == [row["step"] for row in rows(uninterrupted)]


def test_sample_run_logs_both_epochs(sample_run: TrainedRun) -> None:
    validation = [row for row in rows(sample_run.path) if "confusion" in row]
    assert [row["epoch"] for row in validation] == [1.0, 2.0]
    assert [sum(map(sum, row["confusion"])) for row in validation] == [220, 220]
    assert re.search(r"^epoch 2, step (\d+)/\1: validation accuracy ", sample_run.answer.err, re.MULTILINE)
