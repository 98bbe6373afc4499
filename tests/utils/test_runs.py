import os
from pathlib import Path

import pytest

from src.utils import runs
from src.utils.config import PretrainConfig, TrainConfig
from src.utils.errors import CheckpointError
from src.utils.files import write_json
from src.utils.runs import RUN, newest_classifier, newest_masked_lm, newest_unfinished_run


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runs, "WEIGHTS_DIR", tmp_path)
    monkeypatch.setattr(runs, "SHIPPED_CHECKPOINT", tmp_path / "shipped")
    return tmp_path


def add(folder: Path, age: int, finished: str | None = None, delivered: bool = False, task: str | None = None) -> Path:
    (folder / "checkpoints" / "step-1").mkdir(parents=True)
    write_json(folder / RUN, {"finished": finished} | ({} if task is None else {"task": task}))
    os.utime(folder / RUN, (1_000_000 - age, 1_000_000 - age))
    if delivered:
        (folder / "model.safetensors").touch()
    return folder


def test_the_newest_unfinished_run_is_the_one_to_resume(weights: Path) -> None:
    assert newest_unfinished_run(TrainConfig.task) is None
    add(weights / "oldest", age=9)
    unfinished = add(weights / "older", age=5)
    add(weights / "newest", age=1, finished="2020-01-01T00:00:00+00:00")
    (add(weights / "without a checkpoint", age=0) / "checkpoints" / "step-1").rmdir()
    assert newest_unfinished_run(TrainConfig.task) == unfinished


def test_the_newest_classifier_is_of_the_newest_run_that_delivered_one_else_the_shipped_one(weights: Path) -> None:
    for newest, program in ((newest_classifier, "train"), (newest_masked_lm, "pretrain")):
        with pytest.raises(CheckpointError, match=rf"python -m src\.{program}\b.* --checkpoint"):
            newest()
    shipped = add(weights / "shipped", age=0, delivered=True)
    add(weights / "newest", age=1)
    assert newest_classifier() == shipped
    add(weights / "oldest", age=9, delivered=True)
    delivered = add(weights / "older", age=5, delivered=True)
    assert newest_classifier() == delivered


# A run of before there were tasks is one of classification.
@pytest.mark.parametrize("written", [None, TrainConfig.task])
def test_each_task_has_runs_and_models_of_its_own(written: str | None, weights: Path) -> None:
    shipped = add(weights / "shipped", age=9, delivered=True)
    pretrained = add(weights / "b", age=9, delivered=True, task=PretrainConfig.task)
    assert newest_unfinished_run(TrainConfig.task) is None and newest_classifier() == shipped
    classifier = add(weights / "a", age=5, delivered=True, task=written)
    assert newest_unfinished_run(TrainConfig.task) == newest_classifier() == classifier
    assert newest_unfinished_run(PretrainConfig.task) == newest_masked_lm() == pretrained
    later = add(weights / "c", age=1, delivered=True, task=PretrainConfig.task)
    assert (newest_classifier(), newest_masked_lm()) == (classifier, later)
