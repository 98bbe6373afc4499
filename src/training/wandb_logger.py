"""Weights & Biases. It never ends or blocks a training: if it fails, there is one warning, and training goes on."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import numpy as np

from src.evaluation.masked_lm import MaskedEvaluation
from src.evaluation.metrics import Evaluation
from src.utils.errors import notice

TIMEOUT = 10.0  # seconds to wait for the server when a run begins and when it ends


class WandbLogger:
    """Logs to a Weights & Biases run, until that fails.

    Args:
        run: what `wandb.init` returned; None: log nothing.
    """

    def __init__(self, run: Any = None):
        self._run = run
        self.run_id: str | None = None if run is None else run.id
        if run is not None:
            # wandb's own step must grow and cannot be set back on a resume; a metric as the axis may repeat.
            run.define_metric("*", step_metric="global_step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Logs curves by their names; `step` is their horizontal axis."""
        self._attempt(lambda run: run.log({"global_step": step, **values}))

    def finish(self, exit_code: int = 0, evaluation: Evaluation | MaskedEvaluation | None = None) -> None:
        """Logs the confusion matrix of the last evaluation and ends the run; an exit code above 0 marks it failed."""

        def end(run: Any) -> None:
            if isinstance(evaluation, Evaluation):
                run.log({"confusion_matrix": _confusion_matrix(evaluation)})
            run.finish(exit_code=exit_code)

        self._attempt(lambda run: _with_timeout(lambda: end(run)))
        self._run = None

    def _attempt(self, action: Callable[[Any], None]) -> None:
        if self._run is None:
            return
        try:
            action(self._run)
        except Exception as error:
            notice(f"wandb: {_one_line(error)}; tracking stops here. {_how_to_sync(self._run)}")
            self._run = None


def open_wandb(
    mode: Literal["auto", "online", "offline", "disabled"],
    project: str,
    name: str,
    config: Mapping[str, Any],
    folder: Path,
    run_id: str | None = None,
) -> WandbLogger:
    """Opens a Weights & Biases run, offline where the server cannot be reached.

    Args:
        mode: auto is WANDB_MODE if that is set, else online when a key is configured, else disabled.
        project: of the run.
        name: of the run.
        config: hyper-parameters by name.
        folder: the files go into its sub-folder `wandb`.
        run_id: of the run to continue.
    """
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE", mode)  # type: ignore[assignment]
    if mode == "disabled":
        return WandbLogger()
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its reports about itself have no time-out
    import wandb

    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,
        init_timeout=TIMEOUT,
        finish_timeout=TIMEOUT,
        finish_timeout_raises=True,
    )
    options: dict[str, Any] = {
        "project": project,
        "name": name,
        "id": run_id,
        "config": dict(config),
        "dir": str(folder),
    }
    options |= {"dir": str(folder), "resume": "allow", "settings": settings}
    try:
        wandb.setup(settings)  # so that logging in is silent, too
        if mode == "auto" and not wandb.login(prompt=False):
            return WandbLogger()
        folder.mkdir(parents=True, exist_ok=True)
        reason = ""
        if mode != "offline":
            try:
                return WandbLogger(wandb.init(mode="online", **options))
            except Exception as error:
                reason = f"{_one_line(error)}; "
                wandb.teardown()  # its background process refuses a second run of the same id
        run = wandb.init(mode="offline", **options)
        notice(f"wandb: {reason}recording offline. {_how_to_sync(run)}")
        return WandbLogger(run)
    except Exception as error:
        notice(f"wandb: {_one_line(error)}; training goes on without tracking")
        return WandbLogger()


def _with_timeout(action: Callable[[], None]) -> None:
    # A table makes an online run ask the server first, for which wandb has no time-out.
    errors: list[Exception] = []

    def act() -> None:
        try:
            action()
        except Exception as error:
            errors.append(error)

    thread = Thread(target=act, daemon=True)
    thread.start()
    thread.join(2 * TIMEOUT)
    if thread.is_alive():
        raise TimeoutError(f"no answer in {2 * TIMEOUT:.0f} s")
    if errors:
        raise errors[0]


def _confusion_matrix(evaluation: Evaluation) -> Any:
    import wandb

    counts = np.asarray(evaluation.confusion)  # (C, C), rows true and columns predicted
    labels, predictions = np.indices(counts.shape).reshape(2, -1).repeat(counts.reshape(-1), axis=1)
    return wandb.plot.confusion_matrix(y_true=labels, preds=predictions, class_names=list(evaluation.label_names))


def _how_to_sync(run: Any) -> str:
    return f"Upload later with: wandb sync {run.settings.sync_dir}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
