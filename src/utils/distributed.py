"""Several processes that compute as one, started by `torchrun`: who is who, and what they exchange beside gradients.

Every process has the whole model and the plan of all batches, and computes its part of each batch. A process alone is
the main one of one: its part is everything, and it waits for nobody.
"""

import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from src.utils.errors import DataError

Item = TypeVar("Item")

# One process may tokenize a corpus while the others wait.
TIMEOUT = timedelta(hours=2)


@contextmanager
def process_group() -> Iterator[None]:
    """Joins the processes that `torchrun` started, by NCCL between GPUs and gloo between CPUs; alone, does nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    # Its functions keep the group that exists when they are imported as a default, and with it the group's threads
    # beyond `destroy_process_group`: one of those that frees a tensor while Python shuts down aborts the process.
    importlib.import_module("torch.distributed.nn")
    # torchrun ends all processes by this signal when one has failed; as an exception it lets them clean up.
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    dist.init_process_group(timeout=TIMEOUT)  # a backend for each kind of device that there is
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        gc.collect()  # a model that is still there, in a frame or a cycle, holds the group and its threads
        dist.destroy_process_group()
        signal.signal(signal.SIGTERM, before)


def world_size() -> int:
    """Counts the processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Numbers this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main_process() -> bool:
    """Tells whether this process is the one that writes files and talks."""
    return rank() == 0


def split_between_processes(items: Sequence[Item]) -> list[Item]:
    """Picks every n-th item for this one of n processes; no item is picked twice, none left out."""
    return list(items[rank() :: world_size()])


def barrier() -> None:
    """Returns once every process has come here."""
    if dist.is_initialized():
        dist.barrier()


@contextmanager
def main_process_first() -> Iterator[None]:
    """Lets the main process through the context before the others, which then find what it made."""
    if not is_main_process():
        barrier()
    yield
    if is_main_process():
        barrier()


def all_gather_object(item: Item) -> list[Item]:
    """Gives every process what each of them holds, in their order."""
    if not dist.is_initialized():
        return [item]
    found: list[Item | None] = [None] * world_size()
    dist.all_gather_object(found, item)
    return found  # type: ignore[return-value]


def all_reduce(*numbers: float) -> list[float]:
    """Adds up each of some numbers over all processes."""
    return _reduced(numbers, dist.ReduceOp.SUM)


def maximum(number: float) -> float:
    """Finds the largest of the numbers that the processes hold."""
    return _reduced([number], dist.ReduceOp.MAX)[0]


def _reduced(numbers: Sequence[float], operation: dist.ReduceOp.RedOpType) -> list[float]:
    if not dist.is_initialized():
        return list(numbers)
    message = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(message, operation)
    found: list[float] = message.tolist()
    return found


def refuse_differences(facts: object) -> None:
    """Makes sure that all processes train on the same data with the same settings; nobody compares them later.

    Raises:
        DataError: what the processes hold differs.
    """
    if any(other != facts for other in all_gather_object(facts)):
        raise DataError(
            "the processes have different data, settings, checkpoints or numbers of threads; see that all can reach "
            "the same files and hub"
        )


def seed_per_rank(seed: int) -> None:
    """Gives every process its own random numbers, once all have drawn the same initial weights from `seed`."""
    if not is_main_process():
        torch.manual_seed((seed + rank() * 0x9E3779B97F4A7C15) % 2**63)
