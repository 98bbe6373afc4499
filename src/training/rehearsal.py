"""A few steps of a training that is then thrown away: what a step takes, and what --dry-run tells of a run."""

import resource
import statistics
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from src.training.loop import StepReport, Trainer
from src.utils.distributed import largest

if TYPE_CHECKING:
    from src.training.run import Setup

# The first steps are slower: memory is allocated, the data read from disk.
STEPS_TO_WARM_UP, STEPS_TO_MEASURE = 3, 12


class _Rehearsed(Exception):
    """Ends the rehearsal."""


def seconds_per_step(trainer: Trainer[Any, Any]) -> float:
    """Trains a few steps and takes the median of their times, the longest of all processes."""
    rehearsal = min(STEPS_TO_WARM_UP + STEPS_TO_MEASURE, trainer.total_steps)
    before, seconds = trainer.state.progress.training_seconds, []

    def remember(report: StepReport) -> None:
        nonlocal before
        now = trainer.state.progress.training_seconds
        seconds.append(now - before)
        before = now
        if len(seconds) == rehearsal:
            raise _Rehearsed

    try:
        while True:
            trainer.train_epoch(remember)
    except _Rehearsed:
        warm = seconds[STEPS_TO_WARM_UP:] or seconds[-1:]
        return largest(statistics.median(warm))


def dry_run(setup: "Setup", changed: Mapping[str, Any]) -> str:
    """Rehearses a run and says what it would be; no run is written.

    Args:
        setup: what the settings were turned into; of no use afterwards, since its model is a few steps on.
        changed: the settings that are not the defaults.

    Returns:
        Settings, data, parameters, peak memory, and the time of a step and of the run, as lines of text.
    """
    trainer = setup.trainer
    seconds = seconds_per_step(trainer)
    trained = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    rows = {
        "settings": _listed(changed) or "the defaults",
        "data": _listed(setup.data),
        "parameters": f"{setup.model['parameters']:,}, of which {trained:,} are trained",
        "memory": f"{_peak_memory_of(trainer.device) / 2**20:,.0f} MB at the peak so far",
        "step": f"{1000 * seconds:,.1f} ms (median)",
        "run": f"{trainer.total_steps:,} steps, about {_duration(trainer.total_steps * seconds)} without evaluations",
    }
    return "\n".join(f"{name:<12}{row}" for name, row in rows.items())


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_said(value)}" for name, value in values.items())


def _said(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "/".join(map(str, value))
    return f"{value:,}" if type(value) is int else str(value)


def _peak_memory_of(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_memory(resource.getrusage(resource.RUSAGE_SELF))


def peak_memory(usage: resource.struct_rusage) -> int:
    """Reads how many bytes a process has held at most; macOS counts bytes, Linux kilobytes."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _duration(seconds: float) -> str:
    for limit, unit, name in ((120, 1, "seconds"), (7200, 60, "minutes")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 3600:.1f} hours"
