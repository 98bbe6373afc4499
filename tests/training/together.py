"""Runs a function in several processes at once, as `torchrun` would start them."""

import multiprocessing
import os
import pickle
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing

from src.utils.distributed import process_group, rank

# Processes are forked from one that has imported PyTorch and the programs already: importing them anew takes seconds.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.reliability.child", "tests.training.tiny_pretraining", "pytest"])

EXITING = 0x4  # PF_EXITING among the flags of a thread, include/linux/sched.h


def together(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Calls a function of a module in `count` processes that form a group; returns what each of them returned."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        start: Any = torch.multiprocessing.start_processes  # type: ignore[attr-defined]
        start(_work, (count, port, Path(folder), function, arguments), nprocs=count, start_method="forkserver")
        return [pickle.loads((Path(folder) / str(number)).read_bytes()) for number in range(count)]


def _work(
    number: int, count: int, port: int, folder: Path, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    try:
        with process_group():
            assert rank() == number
            (folder / str(number)).write_bytes(pickle.dumps(function(*arguments)))
    finally:
        # One that is left when Python shuts down may abort the process.
        left = [name for name in thread_names() if "gloo" in name]
        assert not left, f"threads are left: {left}"


def thread_names() -> list[str]:
    """Names the threads of this process that can still run, where the system tells them as files (Linux)."""
    names = []
    for path in Path("/proc/self/task").glob("*/stat"):
        # The system lists a thread for a moment after others have joined it: it may be gone here, or be leaving.
        with suppress(FileNotFoundError, ProcessLookupError):
            # "number (name) state parent group session terminal group flags ...", proc_pid_stat(5).
            opening, _, fields = path.read_text().rpartition(")")
            if not int(fields.split()[6]) & EXITING:
                names.append(opening.partition("(")[2])
    return names
