"""A disk that refuses what a run writes, now and then or from some step on."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from src.training.session import Session
from src.utils.errors import Interrupted, StorageError
from tests.training.tiny_training import ALL_RANDOMNESS, after_each_step, begin, go_on

REFUSED = StorageError("cannot write it (No space left on device); free space or permit it")


def model(path: Path) -> bytes:
    return (path / "model.safetensors").read_bytes()


def refuse(training: Session, name: str, monkeypatch: pytest.MonkeyPatch, steps: range) -> None:
    """Lets the disk refuse one of the folder's ways to write in some steps."""
    write: Callable[..., None] = getattr(training.folder, name)

    def act(*arguments: object) -> None:
        if training.progress.step in steps:
            raise REFUSED
        write(*arguments)

    monkeypatch.setattr(training.folder, name, act)


@pytest.mark.parametrize("name", ["save_checkpoint", "log"])
def test_training_goes_on_when_saving_fails_and_says_so_at_its_end(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(tmp_path / "straight", **ALL_RANDOMNESS).run()
    training = begin(tmp_path / "run", save_every=1, **ALL_RANDOMNESS)
    refuse(training, name, monkeypatch, range(2, 5))
    training.run()
    assert model(tmp_path / "run") == model(tmp_path / "straight")
    assert capsys.readouterr().err.count("No space left on device); free space or permit it; training goes on") == 1
    with pytest.raises(StorageError, match="training went on to its end and delivered its model") as caught:
        training.storage.admit(tmp_path / "run")
    assert caught.value.exit_code == 6


def test_without_trouble_there_is_nothing_to_admit(tmp_path: Path) -> None:
    training = begin(tmp_path / "run")
    training.run()
    training.storage.admit(tmp_path / "run")


@pytest.mark.parametrize(("keep", "saved"), [("last", 8), ("best", 2)])
def test_a_model_that_could_not_be_delivered_is_made_again_by_the_resumed_run(
    keep: str, saved: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ALL_RANDOMNESS | {"keep": keep, "epochs": 3}  # of three steps
    begin(tmp_path / "straight", **options).run()
    training = begin(tmp_path / "run", save_every=2, **options)
    refuse(training, "deliver", monkeypatch, range(99))
    training.run()
    with pytest.raises(StorageError, match=f"not delivered: make room, then go on with --resume {tmp_path / 'run'}"):
        training.storage.admit(tmp_path / "run")
    resumed = go_on(tmp_path / "run", **options)
    assert resumed.progress.step == saved  # the last one before a delivery was owed
    resumed.run()
    assert model(tmp_path / "run") == model(tmp_path / "straight")
    resumed.storage.admit(tmp_path / "run")


def test_a_signal_whose_step_cannot_be_saved_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = begin(tmp_path / "run", save_every=2)
    refuse(training, "save_checkpoint", monkeypatch, range(5, 99))
    after_each_step(training, lambda step: signal.raise_signal(signal.SIGTERM) if step == 5 else None)
    with pytest.raises(StorageError, match="stopped in step 5, which is not saved: make room, then go on") as caught:
        training.run()
    assert caught.value.exit_code == 6
    assert training.folder.checkpoints()[0].name == "step-4"


def test_a_signal_after_the_disk_has_recovered_is_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = begin(tmp_path / "run", save_every=2)
    refuse(training, "save_checkpoint", monkeypatch, range(2, 5))
    after_each_step(training, lambda step: signal.raise_signal(signal.SIGTERM) if step == 5 else None)
    with pytest.raises(Interrupted):
        training.run()
