"""A disk that refuses what a run writes: the program ends with exit code 6, and nothing that was saved is lost."""

from collections.abc import Callable
from pathlib import Path

import pytest

from src.training.session import Session
from src.utils.errors import StorageError
from tests.training.tiny_training import ALL_RANDOMNESS, begin, go_on


def model(path: Path) -> bytes:
    return (path / "model.safetensors").read_bytes()


def refuse(training: Session, name: str, monkeypatch: pytest.MonkeyPatch, steps: range) -> None:
    """Lets the disk refuse one of the folder's ways to write in some steps."""
    write: Callable[..., None] = getattr(training.folder, name)

    def act(*arguments: object) -> None:
        if training.progress.step in steps:
            raise StorageError("cannot write it (No space left on device); free space or permit it")
        write(*arguments)

    monkeypatch.setattr(training.folder, name, act)


@pytest.mark.parametrize(("name", "steps"), [("save_checkpoint", range(5, 99)), ("deliver", range(99))])
def test_a_full_disk_is_a_storage_error_and_the_resumed_run_ends_the_same(
    name: str, steps: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path / "straight", **ALL_RANDOMNESS).run()
    training = begin(tmp_path / "run", save_every=2, **ALL_RANDOMNESS)
    refuse(training, name, monkeypatch, steps)
    with pytest.raises(StorageError) as caught:
        training.run()
        training.storage.admit(tmp_path / "run")
    assert caught.value.exit_code == 6
    resumed = go_on(tmp_path / "run", **ALL_RANDOMNESS)
    resumed.run()
    resumed.storage.admit(tmp_path / "run")
    assert model(tmp_path / "run") == model(tmp_path / "straight")
