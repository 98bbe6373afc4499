"""What a run left in its folder: which runs there are under weights/, and what run.json and metrics.jsonl say."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from src.utils.config import SHIPPED_CHECKPOINT, WEIGHTS_DIR, PretrainConfig, TrainConfig, options_of, with_options
from src.utils.errors import CheckpointError, UsageError
from src.utils.files import read_json

logger = logging.getLogger(__name__)

RUN, METRICS, CHECKPOINTS = "run.json", "metrics.jsonl", "checkpoints"
# Settings that say how a run began, not what it is.
BEGINNING = ("overwrite", "resume", "allow_config_change")
PATHS = ("train_file", "validation_file", "output_dir")
TEXTS = ("dataset", "text_column", "label_column", "text_pair_column")

Config = TypeVar("Config", TrainConfig, PretrainConfig)


def newest_unfinished_run(task: str) -> Path | None:
    """Finds the newest run of a task that has a checkpoint and has not come to its end."""
    runs = _runs(task, with_file=f"{CHECKPOINTS}/step-*")
    return next((folder for folder, run in runs if run.get("finished") is None), None)


def newest_model(task: str = TrainConfig.task) -> Path:
    """Finds the newest run of a task that saved its model; if there is none, the shipped classifier."""
    for folder, _ in _runs(task, with_file="model.safetensors"):
        return folder
    if task == TrainConfig.task and SHIPPED_CHECKPOINT.exists():
        return SHIPPED_CHECKPOINT
    program = "src.train" if task == TrainConfig.task else "src.pretrain"
    raise CheckpointError(f"{WEIGHTS_DIR} holds no model for {task}; run python -m {program}, or name --checkpoint")


def _runs(task: str, with_file: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yields the runs of a task under weights/, newest first, that hold a file, with the content of their run.json."""
    found = [path for path in WEIGHTS_DIR.glob(f"*/{RUN}") if any(path.parent.glob(with_file))]
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        if path.parent == SHIPPED_CHECKPOINT:
            continue
        try:
            run = read_json(path)
        except CheckpointError as error:
            logger.warning(f"{error}; leaving this run out")
            continue
        if run.get("task") == task:
            yield path.parent, run


def stages(run: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yields what run.json says of a training and of the pre-trainings before it, the last one first."""
    stage: Mapping[str, Any] | None = run
    while stage is not None:
        yield stage
        stage = stage["model"].get("pretraining")


def read_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Reads the rows of metrics.jsonl, if it is there, and counts its other lines: a crash may leave half a one."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    rows = []
    for line in lines:
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and type(row.get("step")) is int:
                rows.append(row)
    return rows, len(lines) - len(rows)


def config_of(folder: Path, default: Config) -> Config:
    """Rebuilds the settings of a run; what its run.json lacks is as in `default`, and so is how it began."""
    with whole_run(folder):
        saved: dict[str, Any] = read_json(folder / RUN)["config"]
        groups = [saved, *(group for group in saved.values() if isinstance(group, dict))]
        options = {}
        for name, usual in options_of(default).items():
            value = next((group[name] for group in groups if name in group), usual)
            if name in PATHS and value is not None:
                value = Path(value)
            elif name in TEXTS and not isinstance(value, str | None):
                raise TypeError(f"{name} is {value!r:.40}")
            if name not in BEGINNING:
                options[name] = tuple(value) if isinstance(value, list) else value
        return with_options(default, options)


@contextmanager
def whole_run(folder: Path) -> Iterator[None]:
    """Turns what goes wrong when a run.json lacks something, or holds something else, into a CheckpointError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{folder / RUN} does not describe a run ({problem}); restore the file") from None
