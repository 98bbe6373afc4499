"""Which runs there are under weights/, newest first, and which of them delivered a model."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from src.utils.config import SHIPPED_CHECKPOINT, WEIGHTS_DIR, PretrainConfig, TrainConfig
from src.utils.errors import CheckpointError
from src.utils.folder import read_json

RUN, METRICS, CHECKPOINTS = "run.json", "metrics.jsonl", "checkpoints"


def run_folders() -> list[Path]:
    """Returns the runs under weights/, newest first, without the shipped checkpoint."""
    found = [path.parent for path in WEIGHTS_DIR.glob(f"*/{RUN}") if path.parent != SHIPPED_CHECKPOINT]
    return sorted(found, key=lambda folder: (folder / RUN).stat().st_mtime, reverse=True)


def newest_unfinished_run(task: str) -> Path | None:
    """Returns the newest run of a task that has not come to its end, or None."""
    runs = ((folder, read_json(folder / RUN)) for folder in run_folders())
    return next((folder for folder, run in runs if task_of(run) == task and run.get("finished") is None), None)


def newest_classifier() -> Path:
    """Returns the newest run that delivered a classifier, or else the shipped checkpoint.

    Raises:
        CheckpointError: there is neither.
    """
    folder = next(_delivered(TrainConfig.task), SHIPPED_CHECKPOINT)
    if not folder.exists():
        raise CheckpointError(f"{WEIGHTS_DIR} holds no model; train one with python -m src.train, or name --checkpoint")
    return folder


def newest_masked_lm() -> Path:
    """Returns the newest run that delivered a masked language model.

    Raises:
        CheckpointError: there is none.
    """
    folder = next(_delivered(PretrainConfig.task), None)
    if folder is None:
        raise CheckpointError(
            f"{WEIGHTS_DIR} holds no pre-trained model; pre-train one with python -m src.pretrain, or name --checkpoint"
        )
    return folder


def settled_model(name: str | None) -> str | None:
    """Names a model folder by its full path, so that a resumed run finds it from any folder; hub ids stay."""
    return str(Path(name).resolve()) if name is not None and Path(name).is_dir() else name


def _delivered(task: str) -> Iterator[Path]:
    found = (folder for folder in run_folders() if (folder / "model.safetensors").exists())
    return (folder for folder in found if task_of(read_json(folder / RUN)) == task)


def task_of(run: Mapping[str, Any]) -> str:
    """Says what a run trains, given the content of its run.json."""
    return str(run.get("task", TrainConfig.task))
