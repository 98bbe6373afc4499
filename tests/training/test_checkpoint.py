import json
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from src.interop import huggingface
from src.training.checkpoint import PROGRESS, TENSORS, RunFolder, gather_random_states, load_state, save_state
from src.training.tasks import ClassificationTask
from src.training.trainer import Trainer
from src.utils.config import TrainConfig, with_options
from src.utils.errors import CheckpointError, StorageError, UsageError
from src.utils.files import read_json, write_json
from tests.conftest import contents, metrics
from tests.training.tiny_training import ALL_RANDOMNESS, Run, all_tensors, assert_same, begin, corpus, resume, trainer

OPTIONS: dict[str, Any] = ALL_RANDOMNESS | {"gradient_accumulation_steps": 1}
TOTAL_STEPS = 12

# The state of a training


def train_until(found: Trainer, step: int) -> dict[str, Tensor]:
    """Trains to the end of a step; returns all of the state, random numbers included."""
    while True:
        for batches in found.remaining_steps():
            found.step_with_retry(batches)
            if found.progress.step == step:
                return all_tensors(found)
        found.progress.epoch, found.progress.step_in_epoch = found.progress.epoch + 1, 0


def save(found: Trainer, folder: Path) -> Path:
    folder.mkdir()
    save_state(folder, found, gather_random_states())
    return folder


def load(folder: Path, **options: Any) -> Trainer:
    found = trainer(**OPTIONS | options)
    torch.rand(7)  # the checkpoint, not chance, must set the random numbers
    load_state(folder, found)
    return found


def test_a_training_stopped_after_every_single_step_resumes_bit_for_bit(tmp_path: Path) -> None:
    straight = train_until(trainer(**OPTIONS), TOTAL_STEPS)
    found = trainer(**OPTIONS)
    assert found.total_steps == TOTAL_STEPS
    for step in range(1, TOTAL_STEPS + 1):
        train_until(found, step)
        found = load(save(found, tmp_path / str(step)))
    assert_same(all_tensors(found), straight)


def test_every_field_of_the_progress_is_kept(tmp_path: Path) -> None:
    found = trainer(**OPTIONS)
    for number, (name, kept) in enumerate(vars(found.progress).items()):
        value = {"loss": 0.5} if isinstance(kept, dict) else "abcd1234" if kept is None else type(kept)(17 - number)
        setattr(found.progress, name, value)
    found.progress.step_in_epoch = found.steps_per_epoch - 1
    assert load(save(found, tmp_path / "state")).progress == found.progress


@pytest.mark.parametrize("name", [TENSORS, PROGRESS])
def test_unreadable_files_are_checkpoint_errors(name: str, tmp_path: Path) -> None:
    folder = save(trainer(**OPTIONS), tmp_path / "state")
    content = (folder / name).read_bytes()
    for damaged in (content[: len(content) // 2], b"", None):
        (folder / name).unlink()
        if damaged is not None:
            (folder / name).write_bytes(damaged)
        with pytest.raises(CheckpointError, match=name):
            load(folder)


@pytest.mark.parametrize("options", [{"num_hidden_layers": 2}, {"hidden_size": 32}])
def test_a_state_of_another_model_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    folder = save(trainer(**OPTIONS), tmp_path / "state")
    with pytest.raises(CheckpointError, match=TENSORS):
        load(folder, **options)


WEIGHT = "classifier.weight"
TENSORS_OF_OTHERS: dict[str, Callable[[Tensor], Tensor | None]] = {
    f"optimizer.exp_avg.{WEIGHT}": lambda tensor: tensor[:, :1],  # was read out of bounds
    f"optimizer.exp_avg_sq.{WEIGHT}": lambda tensor: None,
    f"optimizer.step.{WEIGHT}": lambda tensor: tensor.expand(2),
    f"model.{WEIGHT}": lambda tensor: tensor.double(),
    f"ema.{WEIGHT}": lambda tensor: tensor / 0,
    "ema.n_averaged": lambda tensor: tensor.float(),
    "random.cpu.0": lambda tensor: tensor[:-1],
}


@pytest.mark.parametrize("name, change", TENSORS_OF_OTHERS.items(), ids=TENSORS_OF_OTHERS)
def test_a_state_with_a_tensor_unlike_the_trainings_own_is_refused(
    name: str, change: Callable[[Tensor], Tensor | None], tmp_path: Path
) -> None:
    found = trainer(**OPTIONS)
    train_until(found, 1)
    folder = save(found, tmp_path / "state")
    tensors = load_file(folder / TENSORS)
    changed = change(tensors.pop(name))
    save_file(tensors if changed is None else tensors | {name: changed.contiguous()}, folder / TENSORS)
    with pytest.raises(CheckpointError, match=TENSORS):
        load(folder)


WRONG: dict[str, list[Any]] = {
    "step": ["1", -1, 1.0, True, None, 10**30],
    "epoch": [[]],
    "step_in_epoch": [7],  # of 6
    "num_parts": [0],
    "steps_per_epoch": [0],
    "best": [[], {"loss": "low"}],
    "best_epoch": [1],  # in epoch 0
    "logged_loss": [float("nan"), 10**30],
    "wandb_run_id": [7],
    "threads": [{}],
}


def test_a_progress_that_cannot_be_is_refused(tmp_path: Path) -> None:
    folder = save(trainer(**OPTIONS | {"gradient_accumulation_steps": 1}), tmp_path / "state")
    progress = read_json(folder / PROGRESS)
    for name, value in ((name, value) for name, values in WRONG.items() for value in values):
        write_json(folder / PROGRESS, progress | {name: value})
        with pytest.raises(CheckpointError, match=PROGRESS):
            load(folder)


def test_another_number_of_threads_or_processes_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save(trainer(**OPTIONS), tmp_path / "state")
    progress = read_json(folder / PROGRESS)
    assert (progress["processes"], progress["threads"]) == (1, torch.get_num_threads())
    capsys.readouterr()
    load(folder)
    assert "bit for bit" not in capsys.readouterr().err
    write_json(folder / PROGRESS, progress | {"processes": 3, "threads": 7})
    load(folder)
    told = capsys.readouterr().err
    assert re.search(r"processes .*\b1\b.*\b3\b.*bit for bit", told)
    assert re.search(rf"threads .*\b{torch.get_num_threads()}\b.*\b7\b.*bit for bit", told)


# The folder of a run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    training = begin(tmp_path_factory.mktemp("finished") / "run", save_every=4)
    training.train()
    return training.folder.path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> RunFolder:
    """A finished run of 2 epochs of 6 steps, with the checkpoints step-8 and step-12; it has been moved here."""
    return RunFolder(shutil.copytree(finished, tmp_path / "run"))


def steps(run: RunFolder) -> list[str]:
    return [checkpoint.name for checkpoint in run.checkpoints()]


def damage(checkpoint: Path) -> None:
    content = bytearray((checkpoint / TENSORS).read_bytes())
    content[-1] ^= 1
    (checkpoint / TENSORS).write_bytes(content)


def test_a_folder_is_locked_by_one_at_a_time_and_left_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mine"
    refused = pytest.raises(UsageError, match=str(folder))
    for _ in range(2):
        with RunFolder(folder).lock(), RunFolder(tmp_path / "another").lock(), refused, RunFolder(folder).lock():
            pass
        assert not folder.exists()
    (folder / "checkpoints").mkdir(parents=True)
    with RunFolder(folder).lock():
        pass
    assert [path.name for path in folder.iterdir()] == ["checkpoints"]


def test_as_many_checkpoints_are_kept_as_wanted_by_number_not_by_name(tmp_path: Path) -> None:
    training = begin(tmp_path / "run", save_every=4, keep_last=3)
    (tmp_path / "run" / "checkpoints" / "step-8-copy").mkdir(parents=True)
    training.train()
    assert steps(training.folder) == ["step-12", "step-8", "step-6"]
    assert (tmp_path / "run" / "checkpoints" / "step-8-copy").is_dir()


@pytest.mark.parametrize(
    "file, old, new", [("tokenizer.json", '"film"', '"movie"'), ("config.json", 'heads": 2', 'heads": 4')]
)
def test_a_run_whose_base_has_changed_since_is_not_resumed(file: str, old: str, new: str, tmp_path: Path) -> None:
    begun, base = begin(tmp_path / "begun"), tmp_path / "base"
    base.mkdir()
    begun.trainer.task.save(base, begun.trainer.model)
    config = with_options(TrainConfig(), {"model_name_or_path": str(base), "epochs": 1, "device": "cpu"})
    run = Run(Trainer(ClassificationTask(config, corpus())), RunFolder(tmp_path / "run"))
    run.folder.path.mkdir()
    run.folder.begin(run.trainer.task)
    run.folder.save_checkpoint(run.trainer, keep_last=1)
    content = (base / file).read_text()
    assert old in content
    for change, refusal in ((old, nullcontext()), (new, pytest.raises(UsageError, match=str(run.folder.path)))):
        (base / file).write_text(content.replace(old, change))
        folder = RunFolder(run.folder.path, *run.folder.checkpoints())
        with refusal:
            folder.resume(Trainer(ClassificationTask(config, corpus())))


def test_what_a_crash_left_is_gone_once_the_run_is_resumed(run: RunFolder) -> None:
    checkpoints = run.path / "checkpoints"
    (run.path / ".unfinished-a").mkdir()
    (checkpoints / ".unfinished-b").mkdir()
    resumed = resume(run.path, checkpoints / "step-8", save_every=4)
    assert {path.name for path in checkpoints.iterdir()} == {"step-8"}
    resumed.train()
    assert {path.name for path in checkpoints.iterdir()} == {"step-8", "step-12"}
    assert not list(run.path.glob(".unfinished*"))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    damage(run.path / "checkpoints" / "step-12")
    newest = run.newest_checkpoint()
    assert newest is not None and newest.name == "step-8"
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert str(run.path / "checkpoints" / "step-12" / TENSORS) in line
    damage(run.path / "checkpoints" / "step-8")
    with pytest.raises(CheckpointError, match="step-8"):
        run.newest_checkpoint()


@pytest.mark.parametrize(
    ("key", "value", "fact"),
    [
        ("train", 37, "training"),
        ("validation", 11, "validation"),
        ("label_names", ["a", "b"], "labels"),
        ("sha256", "0", "content"),
    ],
)
def test_data_that_changed_since_is_refused(run: RunFolder, key: str, value: Any, fact: str) -> None:
    content = read_json(run.path / "run.json")
    content["data"][key] = value
    (run.path / "run.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=fact):
        resume(run.path)


def test_a_full_disk_is_an_error_and_leaves_the_old_files(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    found, before = resume(run.path).trainer, contents(run.path)
    error = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    monkeypatch.setattr(huggingface, "save_classifier", Mock(side_effect=error))
    evaluation = found.task.evaluate(found.trained_model).as_dict()
    with pytest.raises(StorageError, match="No space left on device"):
        run.save_checkpoint(found, keep_last=2)
    with pytest.raises(StorageError, match="No space left on device"):
        run.save_model(found.task, found.trained_model, evaluation)
    assert contents(run.path) == before


# Metrics


def test_rows_come_in_their_order_and_what_is_not_finite_is_null(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log({"step": 1, "loss": 0.5})
    folder.log({"step": 2, "loss": float("nan"), "norm": float("inf")})
    assert metrics(tmp_path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": None, "norm": None}]


def test_an_evaluation_logged_but_not_saved_is_logged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Killed while the model is saved: the row of the evaluation is there, the checkpoint is from just before it.
    training = begin(tmp_path / "run", save_every=4, epochs=1)
    monkeypatch.setattr(training.folder, "save_model", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        training.train()
    assert ["confusion" in row for row in metrics(tmp_path / "run")] == [False, True]
    resume(tmp_path / "run", save_every=4, epochs=1).train()
    assert ["confusion" in row for row in metrics(tmp_path / "run")] == [False, True]


def test_lines_that_are_no_rows_are_forgotten_once_the_run_is_resumed(run: RunFolder) -> None:
    before = metrics(run.path)
    for line in ("123", '{"loss": 1}', '{"step": "7"}', '{"step": 1', "\xff", "[" * 100_000):
        with (run.path / "metrics.jsonl").open("ab") as stream:
            stream.write(line.encode("latin-1") + b'\n{"step": 13}\n')
        resume(run.path)
        assert metrics(run.path) == before
