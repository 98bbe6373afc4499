"""A few steps of a training that is then thrown away: what a step takes, and what --dry-run tells of a run."""

import logging
import statistics
import sys
from dataclasses import replace
from datetime import timedelta

import torch

from src.data.packing import TokenizedCorpus
from src.training.tasks import MaskedLMTask, Task
from src.training.trainer import Trainer
from src.utils.config import PretrainConfig, options_of
from src.utils.distributed import all_gather_object, is_main_process

logger = logging.getLogger(__name__)
# The first steps are slower: memory is allocated, the data read from disk.
STEPS_TO_WARM_UP, STEPS_TO_MEASURE = 3, 12


def seconds_per_step(trainer: Trainer) -> float:
    """Trains a few steps and takes the median of their times, the longest of all processes."""
    times = []
    for batches in trainer.remaining_steps()[: STEPS_TO_WARM_UP + STEPS_TO_MEASURE]:
        before = trainer.progress.training_seconds
        trainer.step_with_retry(batches)
        times.append(trainer.progress.training_seconds - before)
    return max(all_gather_object(statistics.median(times[STEPS_TO_WARM_UP:] or times[-1:])))


def dry_run(task: Task) -> None:
    """Trains a few steps of a task, which is useless afterwards, and prints what the run would be and take."""
    trainer = Trainer(task)
    task.log_start(trainer.total_steps, trainer.steps_per_epoch)
    seconds = seconds_per_step(trainer)
    trained = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    defaults = options_of(type(task.config)()) | {"dry_run": True}
    settings = {name: value for name, value in options_of(task.config).items() if value != defaults[name]}
    duration = timedelta(seconds=round(trainer.total_steps * seconds))
    rows = {
        "settings": ", ".join(f"{name} {value}" for name, value in settings.items()) or "the defaults",
        "data": ", ".join(f"{name} {value}" for name, value in task.data.items()),
        "parameters": f"{task.num_parameters:,}, of which {trained:,} are trained",
        "memory": f"{_peak_memory_of(task.device) / 2**20:,.0f} MB at the peak so far",
        "step": f"{1000 * seconds:,.1f} ms (median)",
        "run": f"{trainer.total_steps:,} steps, about {duration} without evaluations",
    }
    if is_main_process():
        print("\n".join(f"{name:<12}{row}" for name, row in rows.items()))


def with_steps(config: PretrainConfig, corpus: TokenizedCorpus) -> PretrainConfig:
    """Turns --minutes into --max-steps by timing a few steps of a training that is then thrown away."""
    optimization = config.optimization
    if optimization.max_steps is not None:
        return config
    timed = replace(config, optimization=replace(optimization, max_steps=STEPS_TO_WARM_UP + STEPS_TO_MEASURE))
    seconds = seconds_per_step(Trainer(MaskedLMTask(timed, corpus, initialize=False)))
    steps = max(1, round(60 * optimization.minutes / seconds))
    logger.info(f"steps       {steps:,} in {optimization.minutes:g} minutes, at {1000 * seconds:.0f} ms a step")
    return replace(config, optimization=replace(optimization, max_steps=steps))


def _peak_memory_of(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # which Windows lacks

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)  # macOS counts bytes, Linux kilobytes
