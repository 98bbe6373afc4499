"""Which runs there are under weights/, newest first, and which of them delivered a model."""

from pathlib import Path

from src.utils.config import SHIPPED_CHECKPOINT, WEIGHTS_DIR
from src.utils.errors import CheckpointError
from src.utils.folder import MANIFEST, read_json

RUN = "run.json"


def run_folders() -> list[Path]:
    """Returns the runs under weights/, newest first, without the shipped checkpoint."""
    found = [path.parent for path in WEIGHTS_DIR.glob(f"*/{RUN}") if path.parent != SHIPPED_CHECKPOINT]
    return sorted(found, key=lambda folder: (folder / RUN).stat().st_mtime, reverse=True)


def newest_unfinished_run() -> Path | None:
    """Returns the newest run that has not come to its end, or None."""
    return next((folder for folder in run_folders() if read_json(folder / RUN).get("finished") is None), None)


def newest_model() -> Path:
    """Returns the newest run that delivered a model, or else the shipped checkpoint.

    Raises:
        CheckpointError: there is neither.
    """
    delivered = (folder for folder in run_folders() if (folder / MANIFEST).exists())
    folder = next(delivered, SHIPPED_CHECKPOINT)
    if not folder.exists():
        raise CheckpointError(f"{WEIGHTS_DIR} holds no model; train one with python -m src.train, or name --checkpoint")
    return folder
