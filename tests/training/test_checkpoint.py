import json
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from src.interop.huggingface import load_classifier
from src.training import subjects
from src.training.run_folder import RunFolder
from src.training.state import TENSORS
from src.utils.config import TrainConfig
from src.utils.errors import StorageError, UsageError
from src.utils.options import saved_config
from tests.training.tiny_training import begin, go_on


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    training = begin(tmp_path_factory.mktemp("finished") / "run", save_every=4)
    training.run()
    training.folder.finish(0.0)
    return training.folder.path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> RunFolder:
    """A finished run of 2 epochs of 6 steps, with the checkpoints step-8 and step-12; it has been moved here."""
    return RunFolder(shutil.copytree(finished, tmp_path / "run"))


def steps(run: RunFolder) -> list[str]:
    return [checkpoint.name for checkpoint in run.checkpoints()]


def rows(run: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def damage(checkpoint: Path) -> None:
    content = bytearray((checkpoint / TENSORS).read_bytes())
    content[-1] ^= 1
    (checkpoint / TENSORS).write_bytes(content)


def killed(*arguments: Any) -> None:
    raise KeyboardInterrupt


def test_run_json_tells_settings_data_command_and_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--seed", "3"])
    training = begin(tmp_path / "run", seed=3, learning_rate=0.002)
    run = training.folder.read_run()
    assert saved_config(TrainConfig(), run["config"]).optimization == training.trainer.config
    assert saved_config(TrainConfig(), run["config"]).run.seed == 3
    assert (run["data"]["name"], run["data"]["train"], run["data"]["validation"]) == ("made-up", 36, 12)
    assert run["model"]["parameters"] == sum(parameter.numel() for parameter in training.trainer.model.parameters())
    assert run["command"] == ["train.py", "--seed", "3"]
    assert run["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert run["versions"]["python"] == platform.python_version()
    assert run["finished"] is None and run["started"].startswith("20")


def test_as_many_checkpoints_are_kept_as_wanted_by_number_not_by_name(tmp_path: Path) -> None:
    training = begin(tmp_path / "run", save_every=4, keep_last=3)
    (tmp_path / "run" / "checkpoints" / "step-8-copy").mkdir(parents=True)
    training.run()
    assert steps(training.folder) == ["step-12", "step-8", "step-6"]
    assert (tmp_path / "run" / "checkpoints" / "step-8-copy").is_dir()


def test_what_a_crash_left_is_gone_once_the_run_goes_on(run: RunFolder) -> None:
    checkpoints = run.path / "checkpoints"
    (run.path / ".unfinished-a").mkdir()
    (checkpoints / ".unfinished-b").mkdir()
    shutil.copytree(checkpoints / "step-8", checkpoints / "step-8.replaced")
    resumed = go_on(run.path, checkpoints / "step-8", save_every=4)
    assert {path.name for path in checkpoints.iterdir()} == {"step-8"}
    resumed.run()
    assert {path.name for path in checkpoints.iterdir()} == {"step-8", "step-12"}
    assert not list(run.path.glob(".unfinished*"))


def test_a_checkpoint_holds_the_model_as_it_would_be_delivered(tmp_path: Path) -> None:
    training = begin(tmp_path / "run", ema_decay=0.9)
    training.run()
    (newest, _) = training.folder.checkpoints()
    found = load_classifier(newest).model.state_dict()
    assert not torch.equal(found["classifier.weight"], training.trainer.model.classifier.weight)
    with training.trainer.state.as_delivered():
        assert all(torch.equal(tensor, found[name]) for name, tensor in training.trainer.model.state_dict().items())


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run.path / "checkpoints" / "step-12")
    newest = run.newest_checkpoint()
    assert newest is not None and newest.name == "step-8"
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert str(run.path / "checkpoints" / "step-12" / TENSORS) in line
    damage(run.path / "checkpoints" / "step-8")
    assert run.newest_checkpoint() is None


def test_resuming_forgets_what_was_logged_and_saved_later(run: RunFolder) -> None:
    straight = [{key: row[key] for key in ("step", "epoch")} for row in rows(run)]
    assert [row["step"] for row in straight] == [6, 6, 12, 12]
    resumed = go_on(run.path, run.path / "checkpoints" / "step-8", save_every=4)
    assert [row["step"] for row in rows(run)] == [6, 6]
    assert steps(run) == ["step-8"]
    resumed.run()
    assert [{key: row[key] for key in ("step", "epoch")} for row in rows(run)] == straight


def test_an_evaluation_logged_but_not_saved_is_logged_once_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A kill while the model is delivered: the row of the evaluation is there, the checkpoint is from just before it.
    training = begin(tmp_path / "run", save_every=6, epochs=1)
    monkeypatch.setattr(training.folder, "deliver", killed)
    with pytest.raises(KeyboardInterrupt):
        training.run()
    go_on(tmp_path / "run", save_every=6, epochs=1).run()
    assert ["confusion" in row for row in rows(training.folder)] == [False, True]


@pytest.mark.parametrize(
    ("key", "value", "fact"),
    [("train", 37, "training"), ("validation", 11, "validation"), ("label_names", ["a", "b"], "labels")],
)
def test_data_that_changed_since_is_refused(run: RunFolder, key: str, value: Any, fact: str) -> None:
    content = run.read_run()
    content["data"][key] = value
    (run.path / "run.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=fact):
        go_on(run.path)


def full_disk(*arguments: Any, **options: Any) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("act", ["checkpoint", "delivery"])
def test_a_full_disk_is_a_storage_error_and_leaves_the_old_files(
    act: str, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = go_on(run.path)
    before = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    monkeypatch.setattr(subjects, "save_classifier", full_disk)
    subject, state = training.subject, training.trainer.state
    actions: dict[str, Callable[[], None]] = {
        "checkpoint": lambda: run.save_checkpoint(subject, state, keep_last=2),
        "delivery": lambda: run.deliver(subject, state, subject.evaluate().as_dict()),
    }
    with pytest.raises(StorageError, match="No space left on device"):
        actions[act]()
    assert {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()} == before
