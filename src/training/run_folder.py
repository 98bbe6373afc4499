"""The folder of a run: its checkpoints, its metrics, the model it delivers."""

import json
import os
import platform
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from src.training.loop import Trainer
from src.training.metrics_file import MetricsFile
from src.training.state import TrainingState, gather_random_states
from src.training.subjects import Subject
from src.utils.config import PretrainConfig, TrainConfig
from src.utils.errors import CheckpointError, UsageError, notice
from src.utils.folder import (
    CARD,
    REPLACED,
    discard,
    discard_unfinished,
    new_folder,
    read_json,
    refreshed_folder,
    replace_json,
    storage_errors,
    verify,
    write_json,
)
from src.utils.runs import CHECKPOINTS, METRICS, RUN

EVALUATION = "evaluation-validation.json"
CHECKPOINT = re.compile(rf"step-\d+({re.escape(REPLACED)})?")


class RunFolder:
    """Reads and writes the folder of one run.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path):
        self.path = path
        self.metrics = MetricsFile(path / METRICS)

    def begin(self, config: TrainConfig | PretrainConfig, data: Mapping[str, Any], model: Mapping[str, Any]) -> None:
        """Makes the folder anew and notes in run.json what is about to run.

        Args:
            config: all settings.
            data: name, origins, sizes and content's sum of the data.
            model: its shape and number of parameters.

        Raises:
            StorageError: the disk refused.
        """
        with storage_errors(self.path):
            # What tells that this is a run goes last: a crash on the way leaves one that may be overwritten as well.
            old = sorted(self.path.iterdir(), key=lambda path: path.name == RUN) if self.path.is_dir() else []
            for path in old:
                discard(path)
        with refreshed_folder(self.path) as folder:
            settings = {
                "task": config.task,
                "config": asdict(config),
                "data": dict(data),
                "model": dict(model),
                "finished": None,
            }
            write_json(folder / RUN, settings | _circumstances())

    def resume(
        self,
        checkpoint: Path,
        trainer: Trainer[Any, Any],
        config: TrainConfig | PretrainConfig,
        data: Mapping[str, Any],
    ) -> None:
        """Restores the state that a checkpoint holds and forgets what was logged and saved after it.

        Args:
            checkpoint: one of this run's.
            trainer: its state is filled in place.
            config: all settings; if they were allowed to change, run.json is told.
            data: as for `begin`; must be what the run began with.

        Raises:
            UsageError: the data has changed since.
            CheckpointError: the checkpoint cannot be read or does not fit.
            StorageError: the disk refused.
        """
        self._refuse_other_data(data)
        trainer.state.load(checkpoint)
        step = trainer.state.progress.step
        # An epoch's last step is saved before the evaluation, which is then done again.
        self.metrics.forget_after(step, without_evaluation=trainer.ends_epoch)
        for other in self.checkpoints():
            if _step_of(other) > step or (other.name.endswith(REPLACED) and other != checkpoint):
                discard(other)
        for folder in (self.path, self.path / CHECKPOINTS):
            discard_unfinished(folder)
        if config.run.allow_config_change:
            replace_json(self.path / RUN, self.read_run() | {"config": asdict(config), "finished": None})
        notice(f"resuming    {checkpoint}, step {step:,}")

    def finish(self, training_seconds: float) -> None:
        """Notes in run.json that the run is complete, and how many seconds `Progress` counted."""
        end = {"finished": _now(), "training_seconds": training_seconds}
        replace_json(self.path / RUN, self.read_run() | end)

    def read_run(self) -> dict[str, Any]:
        """Returns the content of run.json."""
        return read_json(self.path / RUN)

    def read_evaluation(self) -> dict[str, Any]:
        """Returns the evaluation of the delivered model."""
        return read_json(self.path / EVALUATION)

    def log(self, row: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl.

        Raises:
            StorageError: the disk refused; the line is kept for the next time.
        """
        self.metrics.append(row)

    def checkpoints(self) -> list[Path]:
        """Returns the checkpoints, newest first; one that was about to be replaced when the run died comes second."""
        found = (path for path in (self.path / CHECKPOINTS).glob("step-*") if CHECKPOINT.fullmatch(path.name))
        return sorted(found, key=lambda path: (_step_of(path), not path.name.endswith(REPLACED)), reverse=True)

    def newest_checkpoint(self) -> Path | None:
        """Returns the newest checkpoint that is whole; damaged ones are passed over with a notice."""
        for folder in self.checkpoints():
            try:
                verify(folder, has_manifest=True)
                return folder
            except CheckpointError as error:
                notice(f"warning: {error}; trying the checkpoint before it")
        return None

    def save_checkpoint(self, subject: Subject, state: TrainingState, keep_last: int) -> None:
        """Writes the model as it would be delivered and all it takes to go on, then prunes old checkpoints.

        Args:
            subject: the model.
            state: the rest.
            keep_last: how many checkpoints stay, this one among them.

        Raises:
            StorageError: the disk refused; the checkpoints there are stay.
        """
        random_states = gather_random_states()
        target = self.path / CHECKPOINTS / f"step-{state.progress.step}"
        with new_folder(target) as folder:
            with state.as_delivered():
                subject.save(folder)
            state.save(folder, random_states)
        kept = [folder for folder in self.checkpoints() if not folder.name.endswith(REPLACED)][:keep_last]
        for old in self.checkpoints():
            if old not in kept:
                discard(old)

    def deliver(self, subject: Subject, state: TrainingState, numbers: Mapping[str, Any]) -> None:
        """Puts the model with its metrics and model card into the root of the folder.

        Raises:
            StorageError: the disk refused.
        """
        run = self.read_run()
        with refreshed_folder(self.path) as folder:
            with state.as_delivered():
                subject.save(folder)
            (folder / CARD).write_text(subject.card(run, numbers), encoding="utf-8")
        # Outside the manifest: evaluating again may write it anew.
        replace_json(self.path / EVALUATION, {**numbers, "dataset": run["data"]["name"]})

    def _refuse_other_data(self, data: Mapping[str, Any]) -> None:
        before, now = self.read_run()["data"], json.loads(json.dumps(dict(data)))
        facts = {"labels": "label_names", "training size": "train", "validation size": "validation"}
        facts |= {"content": "sha256"}
        for fact, key in facts.items():
            if key in before and before[key] != now.get(key):  # earlier versions noted no content of classifiers' data
                raise UsageError(
                    f"{self.path} was begun on data with other {fact} ({before[key]}, now {now.get(key)}); "
                    "restore the data"
                )


class SilentRunFolder(RunFolder):
    """The folder of a run for all processes but the first: they read it and take part, but write nothing."""

    def begin(self, config: TrainConfig | PretrainConfig, data: Mapping[str, Any], model: Mapping[str, Any]) -> None:
        """Leaves it to the first process."""

    def resume(
        self,
        checkpoint: Path,
        trainer: Trainer[Any, Any],
        config: TrainConfig | PretrainConfig,
        data: Mapping[str, Any],
    ) -> None:
        """Restores the state, and forgets nothing."""
        self._refuse_other_data(data)
        trainer.state.load(checkpoint)

    def finish(self, training_seconds: float) -> None:
        """Leaves it to the first process."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Leaves it to the first process."""

    def save_checkpoint(self, subject: Subject, state: TrainingState, keep_last: int) -> None:
        """Hands this process's random numbers to the first one."""
        gather_random_states()

    def deliver(self, subject: Subject, state: TrainingState, numbers: Mapping[str, Any]) -> None:
        """Leaves it to the first process."""


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-").removesuffix(REPLACED))


def _circumstances() -> dict[str, Any]:
    packages = ("torch", "tokenizers", "safetensors")
    return {
        "command": sys.argv,
        "started": _now(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
