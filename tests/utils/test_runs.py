import os
from pathlib import Path

import pytest

from src.utils import runs
from src.utils.errors import CheckpointError
from src.utils.folder import write_json
from src.utils.runs import CLASSIFICATION, RUN, newest_model, newest_unfinished_run, run_folders


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runs, "WEIGHTS_DIR", tmp_path)
    monkeypatch.setattr(runs, "SHIPPED_CHECKPOINT", tmp_path / "shipped")
    return tmp_path


def add(folder: Path, age: int, finished: str | None = None, delivered: bool = False) -> Path:
    folder.mkdir()
    write_json(folder / RUN, {"finished": finished})
    os.utime(folder / RUN, (1_000_000 - age, 1_000_000 - age))
    if delivered:
        (folder / "model.safetensors").touch()
    return folder


def test_without_runs_there_is_nothing_to_go_on_with(weights: Path) -> None:
    assert run_folders() == []
    assert newest_unfinished_run(CLASSIFICATION) is None


def test_runs_are_listed_newest_first_without_the_shipped_one(weights: Path) -> None:
    old, new = add(weights / "a", age=9), add(weights / "b", age=1)
    middle = add(weights / "c", age=5)
    add(weights / "shipped", age=0)
    (weights / "no-run").mkdir()
    assert run_folders() == [new, middle, old]


def test_the_newest_unfinished_run_is_the_one_to_resume(weights: Path) -> None:
    add(weights / "oldest", age=9)
    unfinished = add(weights / "older", age=5)
    add(weights / "newest", age=1, finished="2020-01-01T00:00:00+00:00")
    assert newest_unfinished_run(CLASSIFICATION) == unfinished


def test_the_newest_model_is_of_the_newest_run_that_delivered_one(weights: Path) -> None:
    add(weights / "shipped", age=0, delivered=True)
    add(weights / "oldest", age=9, delivered=True)
    delivered = add(weights / "older", age=5, delivered=True)
    add(weights / "newest", age=1)
    assert newest_model() == delivered


def test_without_a_delivered_run_the_shipped_model_is_taken(weights: Path) -> None:
    add(weights / "run", age=1)
    shipped = add(weights / "shipped", age=9, delivered=True)
    assert newest_model() == shipped


def test_without_any_model_the_user_is_told_to_train_one(weights: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"holds no model; train one with python -m src\.train, or name --checkpoint"
    ):
        newest_model()
