"""One run from its folder to its printed evaluation: begun or resumed, tracked, trained."""

from pathlib import Path

import torch

from src.training.checkpoint import RunFolder
from src.training.tasks import Task
from src.training.trainer import Trainer, train
from src.training.wandb_logger import open_tracker
from src.utils.config import PretrainConfig, TrainConfig
from src.utils.distributed import is_main_process, refuse_differences, seed_per_rank
from src.utils.errors import UserError
from src.utils.options import options_of


def run(
    config: TrainConfig | PretrainConfig,
    task: Task,
    folder: RunFolder,
    checkpoint: Path | None = None,
    show: bool = True,
) -> None:
    """Trains a task to its end in a run's folder.

    Args:
        config: all settings.
        task: what they were turned into.
        folder: of the run, locked; holds the trained model afterwards.
        checkpoint: to resume from; None: a new run.
        show: print the evaluation and the folder at the end.
    """
    # The number of threads too, for the bits of a sum depend on it.
    refuse_differences((options_of(config), task.data, checkpoint and checkpoint.name, torch.get_num_threads()))
    trainer = Trainer(task, config.run.seed)
    trainer.progress.training_seconds = trainer.progress.logged_until = task.seconds
    task.tell(trainer.total_steps, trainer.steps_per_epoch)
    seed_per_rank(config.run.seed)
    if checkpoint is None:
        folder.begin(config, task)
    else:
        folder.resume(checkpoint, trainer, config)
    mode = config.run.wandb if is_main_process() else "disabled"
    run_id = trainer.progress.tracker_run_id
    tracker = open_tracker(mode, config.run.wandb_project, folder.path.name, options_of(config), folder.path, run_id)
    trainer.progress.tracker_run_id = tracker.run_id or run_id
    try:
        train(trainer, folder, tracker, config.run)
    except UserError as error:
        tracker.finish(error.exit_code)
        raise
    tracker.finish()
    if show and is_main_process():
        print(f"{task.read_evaluation(folder.read_evaluation()).as_text()}\n\n{folder.path}")
