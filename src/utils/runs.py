"""Which runs there are under weights/, newest first, and which of them delivered a model."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from src.utils.config import (
    SHIPPED_CHECKPOINT,
    WEIGHTS_DIR,
    PretrainConfig,
    TrainConfig,
    options_of,
    saved_config,
    with_options,
)
from src.utils.errors import CheckpointError, UsageError
from src.utils.files import read_json

RUN, METRICS, CHECKPOINTS = "run.json", "metrics.jsonl", "checkpoints"
TEXTS = ("dataset", "train_file", "validation_file", "text_column", "label_column", "text_pair_column")

Config = TypeVar("Config", TrainConfig, PretrainConfig)


def run_folders() -> list[Path]:
    """Returns the runs under weights/, newest first, without the shipped checkpoint."""
    found = [path.parent for path in WEIGHTS_DIR.glob(f"*/{RUN}") if path.parent != SHIPPED_CHECKPOINT]
    return sorted(found, key=lambda folder: (folder / RUN).stat().st_mtime, reverse=True)


def newest_unfinished_run(task: str) -> Path | None:
    """Returns the newest run of a task that has a checkpoint and has not come to its end, or None."""
    runs = ((folder, read_json(folder / RUN)) for folder in run_folders() if any((folder / CHECKPOINTS).glob("step-*")))
    return next((folder for folder, run in runs if task_of(run) == task and run.get("finished") is None), None)


def newest_classifier() -> Path:
    """Returns the newest run that saved a classifier, or else the shipped checkpoint.

    Raises:
        CheckpointError: there is neither.
    """
    folder = _newest_model(TrainConfig.task) or SHIPPED_CHECKPOINT
    if not folder.exists():
        raise CheckpointError(f"{WEIGHTS_DIR} holds no model; train one with python -m src.train, or name --checkpoint")
    return folder


def newest_masked_lm() -> Path:
    """Returns the newest run that saved a masked language model.

    Raises:
        CheckpointError: there is none.
    """
    folder = _newest_model(PretrainConfig.task)
    if folder is None:
        raise CheckpointError(
            f"{WEIGHTS_DIR} holds no pre-trained model; pre-train one with python -m src.pretrain, or name --checkpoint"
        )
    return folder


def _newest_model(task: str) -> Path | None:
    found = (folder for folder in run_folders() if (folder / "model.safetensors").exists())
    return next((folder for folder in found if task_of(read_json(folder / RUN)) == task), None)


def stages(run: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yields what run.json says of a training and of the pre-trainings before it, the last one first."""
    stage: Mapping[str, Any] | None = run
    while stage is not None:
        yield stage
        stage = stage["model"].get("pretraining")


def read_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Reads the rows of metrics.jsonl, and counts the lines that are none, as where a crash left half a line.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}); restore it") from None
    rows = [row for line in lines if (row := _row(line)) is not None]
    return rows, len(lines) - len(rows)


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int else None


def config_of(folder: Path, default: Config) -> Config:
    """Rebuilds the settings of a run, but for those that say how it began; what is not saved is as in `default`.

    Raises:
        CheckpointError: its run.json is missing, damaged, or holds no such settings.
    """
    with whole_run(folder):
        config = saved_config(default, read_json(folder / RUN)["config"])
        for name, usual in options_of(default).items():
            value = options_of(config)[name]
            kinds = (str, Path) if usual is None and name in TEXTS else (int, float) if type(usual) is float else None
            if value is not None and not isinstance(value, kinds or (object if usual is None else type(usual))):
                raise TypeError(f"{name} is {value!r:.40}")
    return with_options(config, {"overwrite": False, "resume": "never", "allow_config_change": False})


@contextmanager
def whole_run(folder: Path) -> Iterator[None]:
    """Turns what goes wrong when a run.json lacks something, or holds something else, into a CheckpointError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise CheckpointError(
            f"{folder / RUN} does not describe a run ({type(error).__name__}: {error}); restore the file"
        ) from None


def task_of(run: Mapping[str, Any]) -> str:
    """Says what a run trains, given the content of its run.json."""
    return str(run.get("task", TrainConfig.task))
