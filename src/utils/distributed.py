"""Several processes started by `torchrun`: each has the whole model and computes its part of every batch."""

import gc
import importlib
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from src.utils.errors import DataError

Item = TypeVar("Item")
TIMEOUT = timedelta(hours=2)  # one process may tokenize a corpus while the others wait


@contextmanager
def process_group() -> Iterator[None]:
    """Joins the processes that `torchrun` started, by NCCL between GPUs and gloo between CPUs; alone, does nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    # Its functions keep the group that exists when they are imported as a default, and with it the group's threads
    # beyond `destroy_process_group`: one of those that frees a tensor while Python shuts down aborts the process.
    importlib.import_module("torch.distributed.nn")
    dist.init_process_group(timeout=TIMEOUT)  # a backend for each kind of device that there is
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        gc.collect()  # a model that is still there, in a frame or a cycle, holds the group and its threads
        dist.destroy_process_group()


def world_size() -> int:
    """Returns the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Returns the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main_process() -> bool:
    """Tells whether this is process 0, which alone writes files and prints."""
    return rank() == 0


def split_between_processes(items: Sequence[Item]) -> list[Item]:
    """Picks every n-th item for this one of n processes."""
    return list(items[rank() :: world_size()])


def barrier() -> None:
    """Waits for all processes."""
    if dist.is_initialized():
        dist.barrier()


def all_gather_object(item: Item) -> list[Item]:
    """Returns the items of all processes, by rank."""
    if not dist.is_initialized():
        return [item]
    found: list[Item | None] = [None] * world_size()
    dist.all_gather_object(found, item)
    return found  # type: ignore[return-value]


def all_reduce(*numbers: float) -> list[float]:
    """Sums each number over all processes."""
    message = torch.tensor(numbers, dtype=torch.float64)
    if dist.is_initialized():
        dist.all_reduce(message)
    return [float(number) for number in message]


def refuse_differences(facts: object) -> None:
    """Refuses to train if the processes differ in data or settings, since they compare nothing later."""
    if any(other != facts for other in all_gather_object(facts)):
        what = "the processes have different data, settings, checkpoints or numbers of threads"
        raise DataError(f"{what}; see that all can reach the same files and hub")


def seed_per_rank(seed: int) -> None:
    """Gives every process its own random numbers; process 0 goes on with those that drew the weights from `seed`."""
    if not is_main_process():
        torch.manual_seed((seed + rank() * 0x9E3779B97F4A7C15) % 2**63)
