"""The gradients of all processes, added up: in memory that they share on one machine, by messages between machines.

Even between two processes of one machine, gloo's messages go through the layers of a network: with a small model's
gradients they take a tenth of a step, memory that both see half of that.
"""

import mmap
import os
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from src.utils.distributed import gather, is_first, rank, wait_for_all, world_size


class GradientSum:
    """Adds up the gradients of all processes in place, in the same order in each; alone, leaves them as they are.

    Args:
        parameters: those of the model; where one has no gradient here, another process may have one.
    """

    def __init__(self, parameters: Iterable[Tensor]):
        self.trained = [parameter for parameter in parameters if parameter.requires_grad]
        self.sizes = [1, *(parameter.numel() for parameter in self.trained)]

    def __call__(self, loss: Tensor) -> Tensor:
        """Adds up what the processes hold; all of them must call it.

        Args:
            loss: this process's part of the loss, shape ().

        Returns:
            The whole loss, shape ().
        """
        if world_size() == 1:
            return loss
        for parameter in self.trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in self.trained if parameter.grad is not None]
        parts = [loss.reshape(1), *(gradient.flatten() for gradient in gradients)]
        total, *sums = torch.split(self._added_up(parts), self.sizes)
        torch._foreach_copy_(gradients, [part.view_as(to) for part, to in zip(sums, gradients, strict=True)])
        return total.squeeze(0).clone()  # what it lies in may be written anew in the next step

    def _added_up(self, parts: list[Tensor]) -> Tensor:
        if (rows := self._shared_rows) is None:
            message = torch.cat(parts)
            dist.all_reduce(message)
            return message
        *written, total = rows
        torch.cat(parts, out=written[rank()])
        wait_for_all()
        # Each adds up its slice of all rows. Nobody writes a row anew before all have come to the second wait, nor a
        # slice of the total before all, in the next step, have come to the first: by then all have read it.
        bounds = [total.numel() * number // world_size() for number in (rank(), rank() + 1)]
        torch.sum(rows[:-1, slice(*bounds)], dim=0, out=total[slice(*bounds)])
        wait_for_all()
        return total

    @cached_property
    def _shared_rows(self) -> Tensor | None:
        """A row of numbers for each process and one for their sum, seen by all; None: they cannot share memory."""
        on_cpu = all(parameter.device.type == "cpu" for parameter in self.trained)
        return shared_memory(world_size() + 1, sum(self.sizes)) if on_cpu else None


def shared_memory(rows: int, columns: int) -> Tensor | None:
    """Gives all processes the same memory, which ends with the last of them; all of them must call it.

    Args:
        rows: of numbers.
        columns: numbers of a row.

    Returns:
        Float32, shape (rows, columns), zero at first; None in all processes where one cannot have it: on another
        machine, or on one without Linux.
    """
    size = 4 * rows * columns
    with _new_memory(size) if is_first() else nullcontext() as own:
        place = gather(own)[0]
        memory = None if place is None else _mapped(*place, size)
        all_have_it = all(gather(memory is not None))
    return torch.frombuffer(memory, dtype=torch.float32).view(rows, columns) if all_have_it else None


@contextmanager
def _new_memory(size: int) -> Iterator[tuple[Path, str] | None]:
    """Lends the path of new memory (Linux), where others can open it, and its name, which nothing else has."""
    if sys.platform != "linux":
        yield None
        return
    name = f"gradients-{uuid.uuid4().hex}"
    with os.fdopen(os.memfd_create(name), "r+b") as file:
        file.truncate(size)
        yield Path(f"/proc/{os.getpid()}/fd/{file.fileno()}"), name


def _mapped(path: Path, name: str, size: int) -> mmap.mmap | None:
    try:
        if name not in path.readlink().name:  # on another machine that may be anything
            return None
        with path.open("r+b") as file:
            return mmap.mmap(file.fileno(), size)
    except OSError:
        return None
