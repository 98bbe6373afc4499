"""Weights & Biases. It never ends or blocks a training: if it fails, there is one warning, and training goes on."""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from src.utils.config import RunConfig
from src.utils.distributed import is_main_process

logger = logging.getLogger(__name__)
TIMEOUT = 10.0  # seconds to wait for the server when a run begins and when it ends


class WandbLogger:
    """Logs to what `wandb.init` returned, until that fails; to None it logs nothing."""

    def __init__(self, run: Any = None):
        self._run = run
        self.run_id: str | None = None if run is None else run.id
        if run is not None:
            # wandb's own step must grow and cannot be set back on a resume; a metric as the axis may repeat.
            run.define_metric("*", step_metric="global_step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Logs curves by their names; `step` is their horizontal axis."""
        self._attempt(lambda run: run.log({"global_step": step, **values}))

    def finish(self, exit_code: int = 0) -> None:
        """Ends the run; an exit code above 0 marks it failed."""
        self._attempt(lambda run: run.finish(exit_code=exit_code))
        self._run = None

    def _attempt(self, action: Callable[[Any], None]) -> None:
        try:
            if self._run is not None:
                action(self._run)
        except Exception as error:
            logger.warning(f"wandb: {_one_line(error)}; tracking stops here. {_how_to_sync(self._run)}")
            self._run = None


def open_wandb(config: RunConfig, settings: Mapping[str, Any], folder: Path, run_id: str | None = None) -> WandbLogger:
    """Opens a Weights & Biases run, or continues `run_id`; offline without a server."""
    mode: str = config.wandb
    if mode == "auto":  # the first variable is known from transformers, the second is wandb's own
        is_disabled = os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true", "yes", "on")
        mode = "disabled" if is_disabled else os.environ.get("WANDB_MODE", "auto")
    if mode == "disabled" or not is_main_process():
        return WandbLogger()
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its reports about itself have no time-out
    import wandb

    quiet = wandb.Settings(
        silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True,
        init_timeout=TIMEOUT, finish_timeout=TIMEOUT, finish_timeout_raises=True,
    )  # fmt: skip
    project = config.wandb_project or os.environ.get("WANDB_PROJECT") or "bert-sst2"
    name = config.wandb_name or os.environ.get("WANDB_NAME") or folder.name
    options: dict[str, Any] = {"project": project, "name": name, "tags": config.wandb_tags or None, "dir": str(folder)}
    options |= {"id": run_id, "resume": "allow", "config": dict(settings), "settings": quiet}
    reason = ""
    try:
        wandb.setup(quiet)  # so that logging in is silent, too
        if mode == "auto" and not wandb.login(prompt=False):
            return WandbLogger()
        folder.mkdir(parents=True, exist_ok=True)
        if mode not in ("offline", "dryrun"):  # the second is its old name
            try:
                return WandbLogger(wandb.init(mode="online", **options))
            except Exception as error:
                reason = f"{_one_line(error)}; "
                wandb.teardown()  # its background process refuses a second run of the same id
        run = wandb.init(mode="offline", **options)
        logger.warning(f"wandb: {reason}recording offline. {_how_to_sync(run)}")
        return WandbLogger(run)
    except Exception as error:
        logger.warning(f"wandb: {_one_line(error)}; training goes on without tracking")
        return WandbLogger()


def _how_to_sync(run: Any) -> str:
    return f"Upload later with: wandb sync {run.settings.sync_dir}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
