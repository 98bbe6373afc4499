"""Weights & Biases behind three methods, with a tracker that does nothing in place of `if wandb`.

Tracking may never end, block or litter a training run: whatever fails becomes one notice, and training goes on.
"""

import configparser
import netrc
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, Literal
from urllib.parse import urlsplit

from src.utils.errors import notice

INIT_TIMEOUT = 10.0
"""Seconds to wait for the server before the run falls back to offline."""
LOG_TIMEOUT = 5.0
"""Seconds that logging may take before tracking is given up."""
FINISH_TIMEOUT = 10.0
"""Seconds to wait for the last uploads."""
GRACE = 2.0
"""Seconds that wandb may be late in keeping its own timeout; all of these together stay below 30."""

# wandb's default server and, since 0.31, the older name that keys are still filed under.
WANDB_SERVER = "https://api.forge.coreweave.com"
OLDER_HOST = "api.wandb.ai"


class Tracker:
    """The interface of every tracker, and the one that records nothing."""

    run_id: str | None = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Records the values of one step.

        Args:
            step: optimiser steps taken since training began, the horizontal axis of every curve.
            values: name of the curve to its value.
        """

    def log_confusion(self, step: int, label_names: Sequence[str], matrix: Sequence[Sequence[int]]) -> None:
        """Records a confusion matrix.

        Args:
            step: optimiser steps taken since training began.
            label_names: C names in the order of the label ids.
            matrix: C x C counts, rows true and columns predicted.
        """

    def finish(self, exit_code: int = 0) -> None:
        """Ends the record; nothing is recorded afterwards.

        Args:
            exit_code: 0 marks the run finished, any other number failed.
        """


class WandbTracker(Tracker):
    """Records to a Weights & Biases run, and falls silent with one notice when that fails.

    Args:
        run: what `wandb.init` returned.
    """

    def __init__(self, run: Any):
        self._run = run
        self.run_id = run.id
        # wandb's own step must grow and cannot be set back on a resume; a metric as the axis may repeat.
        run.define_metric("*", step_metric="global_step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Hands the values of one step to wandb's background process."""
        self._attempt(lambda run: run.log({"global_step": step, **values}))

    def log_confusion(self, step: int, label_names: Sequence[str], matrix: Sequence[Sequence[int]]) -> None:
        """Sends the counts as a table and the standard confusion matrix drawn from it."""
        # Unlike numbers, a table makes an online run ask the server first, without a timeout.
        self._attempt(
            lambda run: _within(
                LOG_TIMEOUT,
                lambda: run.log({"global_step": step, "confusion_matrix": _chart(label_names, matrix)}),
            )
        )

    def finish(self, exit_code: int = 0) -> None:
        """Ends the run after the last uploads, or after FINISH_TIMEOUT seconds."""
        self._attempt(lambda run: _within(FINISH_TIMEOUT + GRACE, lambda: run.finish(exit_code=exit_code)))
        self._run = None

    def _attempt(self, action: Callable[[Any], None]) -> None:
        if self._run is None:
            return
        try:
            action(self._run)
        except Exception as error:
            notice(f"wandb: {_one_line(error)}; tracking stops here. {_how_to_sync(self._run)}")
            self._run = None


def _within(seconds: float, action: Callable[[], None]) -> None:
    problems: list[Exception] = []

    def act() -> None:
        try:
            action()
        except Exception as error:
            problems.append(error)

    thread = Thread(target=act, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer in {seconds:.0f} s")
    if problems:
        raise problems[0]


def open_tracker(
    mode: Literal["auto", "online", "offline", "disabled"],
    project: str,
    name: str,
    config: Mapping[str, Any],
    folder: Path,
    run_id: str | None = None,
) -> Tracker:
    """Opens the tracker of a run; when Weights & Biases fails, a lesser one.

    Args:
        mode: auto is WANDB_MODE if set, else online when a key is configured, else disabled.
        project: Weights & Biases project.
        name: title of the run.
        config: hyper-parameters by name.
        folder: the files go into its sub-folder `wandb`.
        run_id: `run_id` of the tracker whose curves are to be continued.

    Returns:
        An online or offline `WandbTracker`, or the `Tracker` that records nothing.
    """
    chosen = _choose_mode(mode)
    if chosen == "disabled":
        return Tracker()
    run_options = {"project": project, "name": name, "id": run_id, "config": dict(config), "dir": str(folder)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _open_online(run_options) if chosen == "online" else _open_offline(run_options, reason="")
    except Exception as error:
        notice(f"wandb: {_one_line(error)}; training goes on without tracking")
        return Tracker()


def _open_online(run_options: Mapping[str, Any]) -> Tracker:
    if not _key_is_configured():
        return _open_offline(run_options, reason="no API key (run `wandb login` or set WANDB_API_KEY); ")
    try:
        return _start("online", run_options)
    except Exception as error:
        import wandb

        # The background process still holds the failed run and refuses a second one of the same id.
        wandb.teardown()
        return _open_offline(run_options, reason=f"{_one_line(error)}; ")


def _open_offline(run_options: Mapping[str, Any], reason: str) -> Tracker:
    tracker = _start("offline", run_options)
    notice(f"wandb: {reason}recording offline. {_how_to_sync(tracker._run)}")
    return tracker


def _start(mode: Literal["online", "offline"], run_options: Mapping[str, Any]) -> WandbTracker:
    # wandb's reports about itself, unlike its runs, have no timeout: 20 s at exit when the server does not answer.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        save_code=False,
        disable_job_creation=True,
        x_disable_stats=True,
        use_dot_wandb=False,
        init_timeout=INIT_TIMEOUT,
        finish_timeout=FINISH_TIMEOUT,
        finish_timeout_raises=True,
    )
    # What wandb prints while it logs in obeys the settings of the process, not those of the run.
    wandb.setup(settings)
    return WandbTracker(wandb.init(mode=mode, resume="allow", settings=settings, **run_options))


def _choose_mode(mode: str) -> str:
    if mode != "auto":
        return mode
    wish = os.environ.get("WANDB_MODE", "")
    wish = {"run": "online", "dryrun": "offline"}.get(wish, wish)  # wandb's older spellings
    if wish in ("online", "offline", "disabled"):
        return wish
    return "online" if _key_is_configured() else "disabled"


def _key_is_configured() -> bool:
    # wandb knows where its key lies, but importing it takes half a second and asking it may prompt.
    if os.environ.get("WANDB_API_KEY", "").strip() or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    server = os.environ.get("WANDB_BASE_URL") or _server_of_settings() or WANDB_SERVER
    hosts = [urlsplit(server).netloc] + [OLDER_HOST] * (server == WANDB_SERVER)
    candidates = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    try:
        path = next(path for path in map(Path.expanduser, map(Path, candidates)) if path.exists())
        keys = netrc.netrc(path).hosts
        return any(host in keys and keys[host][2] for host in hosts)
    except (StopIteration, netrc.NetrcParseError, OSError, UnicodeError):
        return False


def _server_of_settings() -> str | None:
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read(folder / "settings")
    except (configparser.Error, OSError, UnicodeError):
        return None
    return settings.get("default", "base_url", fallback=None)


def _chart(label_names: Sequence[str], matrix: Sequence[Sequence[int]]) -> Any:
    import wandb

    rows = [
        [true, predicted, int(count)]
        for true, counts in zip(label_names, matrix, strict=True)
        for predicted, count in zip(label_names, counts, strict=True)
    ]
    # wandb.plot.confusion_matrix draws the same chart, but counts it from one prediction a row.
    return wandb.plot_table(
        vega_spec_name="wandb/confusion_matrix/v1",
        data_table=wandb.Table(columns=["true", "predicted", "count"], data=rows),
        fields={"Actual": "true", "Predicted": "predicted", "nPredictions": "count"},
        string_fields={"title": "Confusion matrix"},
    )


def _how_to_sync(run: Any) -> str:
    return f"Upload later with: wandb sync {run.settings.sync_dir}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
