"""What a forked process does: it becomes one of the programs."""

import importlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

# Imported once, before the fork: the programs, and what they or what they use import late.
import scipy.stats
import sklearn.metrics
import torch._dynamo
import tyro
from tqdm import tqdm

import src.inference
import src.pretrain
import src.train
import src.training.dry_run
import src.training.trainer
from src.utils.cli import run_program

# Not one that processes share: who is killed while it holds that one leaves the others waiting.
tqdm.set_lock(threading.RLock())
PRELOADED = (scipy.stats, sklearn.metrics, torch._dynamo, tyro, src.inference, src.training)
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
CRASHED = 77
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CALLS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.truncate"}


def work(program: str, arguments: list[str], log: Path, crash: tuple[int, Path] | None) -> None:
    """Runs a program as `python -m` would; all it prints goes into a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(ENVIRONMENT)
    sys.argv = [program, *arguments]
    src.pretrain.CACHE_DIR = log.parent / "cache"  # type: ignore[attr-defined]
    if crash is not None:
        crash_in_call(*crash, folder=log.parent)
    run_program(importlib.import_module(f"src.{program}").main)


def crash_in_call(number: int, so_far: Path, folder: Path) -> None:
    """Ends this process just before its n-th call that changes the files in a folder, as a power failure would.

    Args:
        number: of the call, from 1; 0: never, but count all calls.
        so_far: a file for how many there were, if all are counted.
        folder: the calls that count are those on files below it.
    """
    calls, fsync = 0, os.fsync

    def count() -> None:
        nonlocal calls
        calls += 1
        if number == 0:
            so_far.write_text(str(calls))
        if calls == number:
            os._exit(CRASHED)

    def flush(descriptor: int) -> None:
        count()
        fsync(descriptor)

    def hear(event: str, values: tuple[Any, ...]) -> None:
        written = event == "open" and isinstance(values[2], int) and values[2] & WRITING
        if (event in CALLS or written) and values[0] != str(so_far) and _is_below(folder, event, values):
            count()

    os.fsync = flush  # type: ignore[assignment]
    sys.addaudithook(hear)


def _is_below(folder: Path, event: str, values: tuple[Any, ...]) -> bool:
    if not isinstance(values[0], str | bytes | os.PathLike):
        return False
    path = Path(os.fsdecode(values[0]))
    # Within rmtree names are relative to an open folder.
    return folder in path.parents or (event in ("os.remove", "os.rmdir") and values[-1] != -1)
