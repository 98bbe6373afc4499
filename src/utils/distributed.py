"""Several processes that train as one, started by `torchrun`: who is who, and what they have to agree on.

Every process has the whole model and the whole plan of batches. Of each batch it computes its share of the sentences;
then the gradients are added up over all processes, and every weight is updated with their sum: by everybody, or, in
memory that all see, by one of them. The result is that of one process with the same batches, but for rounding and the
draws of dropout. A process alone is the first of one: its share is everything, and it has nobody to wait for.
"""

import importlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from src.utils.errors import DataError

Item = TypeVar("Item")

# One process may tokenize a corpus while the others wait.
PATIENCE = timedelta(hours=2)


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
    dist.init_process_group(timeout=PATIENCE)  # a backend for each kind of device that there is
    try:
        yield
    finally:
        dist.destroy_process_group()
        signal.signal(signal.SIGTERM, before)


def world_size() -> int:
    """Counts the processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Numbers this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Tells whether this process is the one that writes files and talks."""
    return rank() == 0


def share(items: Sequence[Item]) -> list[Item]:
    """Picks every n-th item for this one of n processes; no item is picked twice, none left out."""
    return list(items[rank() :: world_size()])


def wait_for_all() -> None:
    """Returns once every process has come here."""
    if dist.is_initialized():
        dist.barrier()


@contextmanager
def first_process_first() -> Iterator[None]:
    """Lets the first process through the context before the others, which then find what it made."""
    if not is_first():
        wait_for_all()
    yield
    if is_first():
        wait_for_all()


def gather(item: Item) -> list[Item]:
    """Gives every process what each of them holds, in their order."""
    if not dist.is_initialized():
        return [item]
    found: list[Item | None] = [None] * world_size()
    dist.all_gather_object(found, item)
    return found  # type: ignore[return-value]


def add_up(*numbers: float) -> list[float]:
    """Adds up each of some numbers over all processes."""
    return _reduced(numbers, dist.ReduceOp.SUM)


def largest(number: float) -> float:
    """Finds the largest of the numbers that the processes hold."""
    return _reduced([number], dist.ReduceOp.MAX)[0]


def _reduced(numbers: Sequence[float], operation: dist.ReduceOp.RedOpType) -> list[float]:
    if not dist.is_initialized():
        return list(numbers)
    message = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(message, operation)
    found: list[float] = message.tolist()
    return found


def begin_alike(parameters: Iterable[Tensor], facts: object) -> None:
    """Makes sure that all processes train the same model on the same data; nobody compares them later.

    Args:
        parameters: those of the model, overwritten by those of the first process.
        facts: what every process has to agree on, such as settings and data.

    Raises:
        DataError: the facts differ.
    """
    if not dist.is_initialized():
        return
    if any(other != facts for other in gather(facts)):
        raise DataError(
            "the processes have different data, settings, checkpoints or numbers of threads; see that all can reach "
            "the same files and hub"
        )
    for parameter in parameters:
        dist.broadcast(parameter.detach(), src=0)


def draw_apart(seed: int) -> None:
    """Gives every process its own random numbers, once all have drawn the same initial weights from `seed`."""
    if not is_first():
        torch.manual_seed((seed + rank() * 0x9E3779B97F4A7C15) % 2**63)
