import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from src.utils import runs
from src.utils.config import PretrainConfig, TrainConfig, with_options
from src.utils.errors import CheckpointError
from src.utils.files import write_json
from src.utils.runs import RUN, config_of, newest_model, newest_unfinished_run

TRAIN, PRETRAIN = TrainConfig.task, PretrainConfig.task


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runs, "WEIGHTS_DIR", tmp_path)
    monkeypatch.setattr(runs, "SHIPPED_CHECKPOINT", tmp_path / "shipped")
    return tmp_path


def add(folder: Path, age: int, finished: str | None = None, saved: bool = False, task: str = TRAIN) -> Path:
    (folder / "checkpoints" / "step-1").mkdir(parents=True)
    write_json(folder / RUN, {"finished": finished, "task": task})
    os.utime(folder / RUN, (1_000_000 - age, 1_000_000 - age))
    if saved:
        (folder / "model.safetensors").touch()
    return folder


def test_the_newest_unfinished_run_is_the_one_to_resume(weights: Path) -> None:
    assert newest_unfinished_run(TRAIN) is None
    add(weights / "oldest", age=9)
    unfinished = add(weights / "older", age=5)
    add(weights / "newest", age=1, finished="2020-01-01T00:00:00+00:00")
    add(weights / "of another task", age=0, task=PRETRAIN)
    (add(weights / "without a checkpoint", age=0) / "checkpoints" / "step-1").rmdir()
    (add(weights / "torn", age=0, saved=True) / RUN).write_text('{"finished": nu')
    assert newest_unfinished_run(TRAIN) == unfinished


def test_the_newest_model_is_of_the_newest_run_of_the_task_that_saved_one_else_the_shipped_one(weights: Path) -> None:
    for task, program in ((TRAIN, "train"), (PRETRAIN, "pretrain")):
        with pytest.raises(CheckpointError, match=rf"python -m src\.{program}\b.* --checkpoint"):
            newest_model(task)
    shipped = add(weights / "shipped", age=0, saved=True)
    add(weights / "newest", age=1)
    pretrained = add(weights / "pretrained", age=2, saved=True, task=PRETRAIN)
    assert newest_model() == shipped
    add(weights / "oldest", age=9, saved=True)
    newest = add(weights / "older", age=5, saved=True)
    (add(weights / "torn", age=0, saved=True) / RUN).write_text('{"finished": nu')
    assert (newest_model(), newest_model(PRETRAIN)) == (newest, pretrained)


# Settings of a run


def test_settings_are_read_as_they_were_written(tmp_path: Path) -> None:
    options = {"train_file": Path("a.csv"), "output_dir": Path("run"), "learning_rate": 0.5, "preset": "mini"}
    configs: tuple[Any, ...] = (
        with_options(TrainConfig(), options),
        with_options(PretrainConfig(), {"corpus": ("a.txt", "b"), "max_steps": 3}),
    )
    for config in configs:
        resumed = with_options(config, {"resume": "auto", "allow_config_change": True})
        write_json(tmp_path / RUN, {"config": asdict(resumed)})
        assert config_of(tmp_path, type(config)()) == config  # but for how the run began


def test_settings_unknown_by_now_are_left_out_and_new_ones_have_their_default(tmp_path: Path) -> None:
    saved = json.loads(json.dumps(asdict(replace(TrainConfig(), preset="mini"))))
    saved["model"]["gone"] = saved["gone"] = saved["old_group"] = {"x": 1}
    del saved["optimization"]["ema_decay"], saved["run"]
    write_json(tmp_path / RUN, {"config": saved})
    assert config_of(tmp_path, TrainConfig()) == replace(TrainConfig(), preset="mini")
