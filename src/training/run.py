"""One run from its folder to its end, whatever is trained: begun or resumed, tracked, finished.

Who does what: a `Setup` is what the settings were turned into. Its `Trainer` does the steps and owns the
`TrainingState` that a checkpoint holds; its `Subject` is the model with what it takes to evaluate and write it. The
`Session` drives the trainer through the epochs and lets the `RunFolder` and the tracker record what happens.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import torch

from src.training.loop import Trainer
from src.training.run_folder import RunFolder, SilentRunFolder
from src.training.session import Session
from src.training.start import held, look_again
from src.training.subjects import Subject
from src.training.tracking import open_tracker
from src.utils.config import PretrainConfig, TrainConfig
from src.utils.distributed import begin_alike, draw_apart, gather, is_first
from src.utils.errors import UserError
from src.utils.options import options_of


class Setup(Protocol):
    """What a run works with."""

    @property
    def trainer(self) -> Trainer[Any, Any]:
        """Does the steps."""

    @property
    def subject(self) -> Subject:
        """The model in training."""

    @property
    def data(self) -> Mapping[str, Any]:
        """What run.json says of the data."""

    @property
    def model(self) -> Mapping[str, Any]:
        """What run.json says of the model."""


def run(config: TrainConfig | PretrainConfig, setup: Setup, folder: RunFolder, checkpoint: Path | None) -> None:
    """Trains until the end.

    Args:
        config: all settings.
        setup: what they were turned into.
        folder: of the run; holds the delivered model afterwards.
        checkpoint: where to go on; None: begin anew.

    Raises:
        UsageError: another process trains in the folder, or has done so since it was found.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was saved.
        DivergedError: loss or gradient was not finite three times in a row.
        StorageError: something could not be written; training went on to its end nevertheless.
    """
    with ExitStack() as stack:
        refusal = None
        if is_first():
            try:
                stack.enter_context(held(folder.path))
                look_again(config, folder, checkpoint)
            except UserError as error:
                refusal = error
        if (refusal := gather(refusal)[0]) is not None:  # by here all have found their checkpoint
            raise refusal
        _run(config, setup, folder if is_first() else SilentRunFolder(folder.path), checkpoint)


def _facts(config: TrainConfig | PretrainConfig, setup: Setup, checkpoint: Path | None) -> object:
    """What processes must agree on: the number of threads too, for the bits of a sum depend on it."""
    return options_of(config), dict(setup.data), checkpoint and checkpoint.name, torch.get_num_threads()


def _run(config: TrainConfig | PretrainConfig, setup: Setup, folder: RunFolder, checkpoint: Path | None) -> None:
    """Trains in a folder that no other process can change."""
    begin_alike(setup.trainer.model.parameters(), _facts(config, setup, checkpoint))
    draw_apart(config.run.seed)
    if checkpoint is None:
        folder.begin(config, setup.data, setup.model)
    else:
        folder.resume(checkpoint, setup.trainer, config, setup.data)
    progress = setup.trainer.state.progress
    tracker = open_tracker(
        config.run.wandb if is_first() else "disabled",
        config.run.wandb_project,
        folder.path.name,
        options_of(config),
        folder.path,
        progress.tracker_run_id,
    )
    progress.tracker_run_id = tracker.run_id
    session = Session(setup.trainer, setup.subject, folder, tracker, config.run)
    try:
        session.run()
        if not session.storage.owes_delivery:
            session.storage.attempt(lambda: folder.finish(progress.training_seconds))
        session.storage.admit(folder.path)
    except UserError as error:
        tracker.finish(error.exit_code)
        raise
    tracker.finish()
