"""The gradients of all processes, added up: in memory that they share on one machine, by messages between machines.

Even between two processes of one machine, gloo's messages go through the layers of a network; memory that both see
does without.
"""

import mmap
import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from src.utils.distributed import gather, is_first, rank, wait_for_all, world_size


class GradientSum:
    """Adds up the gradients of all processes in place, in the same order in each; alone, leaves them as they are.

    Of an embedding only the rows that some process has met are exchanged: few, of the table that is most of a small
    classifier; all in pre-training, where every token has a part in the loss.

    Args:
        model: where a parameter has no gradient here, another process may have one.
    """

    def __init__(self, model: nn.Module):
        tables = {part.weight for part in model.modules() if isinstance(part, nn.Embedding)}
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.tables = [parameter for parameter in trained if parameter in tables]  # each (V, D)
        self.others = [parameter for parameter in trained if parameter not in tables]

    def __call__(self, loss: Tensor) -> Tensor:
        """Adds up what the processes hold; all of them must call it.

        Args:
            loss: this process's part of the loss, shape ().

        Returns:
            The whole loss, shape ().
        """
        if world_size() == 1:
            return loss
        others, tables = _gradients_or_zeros(self.others), _gradients_or_zeros(self.tables)
        # In this all wait for all, which makes one wait in `_from_all` enough: nobody writes a message of this step
        # before everybody has come here, and so has read those of the step before.
        met = _rows_met(tables, loss.device)
        rows = [table[ids] for table, ids in zip(tables, met, strict=True)]  # each (tokens met, D)
        parts = [loss.reshape(1).clone(), *others, *rows]
        sizes = [part.numel() for part in parts]
        sums = torch.split(self._from_all(parts), sizes, dim=1)  # each (processes, numbers)
        for part, of_all in zip(parts, sums, strict=True):
            torch.sum(of_all, dim=0, out=part.view(-1))
        for table, ids, row in zip(tables, met, rows, strict=True):
            table[ids] = row
        return parts[0].squeeze(0)

    def _from_all(self, parts: Sequence[Tensor]) -> Tensor:
        """Gathers all processes' numbers, shape (processes, numbers), or by messages their sum, shape (1, numbers)."""
        flat = [part.flatten() for part in parts]
        if self._memory is None:
            message = torch.cat(flat)
            dist.all_reduce(message)
            return message[None]
        messages = self._memory[:, : sum(part.numel() for part in parts)]
        torch.cat(flat, out=messages[rank()])
        wait_for_all()
        return messages

    @cached_property
    def _memory(self) -> Tensor | None:
        """A row of numbers for the message of each process, seen by all; None: they cannot share memory.

        All processes must ask for it at once.
        """
        trained = [*self.others, *self.tables]
        on_cpu = all(parameter.device.type == "cpu" for parameter in trained)
        return shared_memory(world_size(), 1 + sum(parameter.numel() for parameter in trained)) if on_cpu else None


def _gradients_or_zeros(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Those of some parameters; of those without one a new one, of zeros."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _rows_met(tables: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Finds which rows of each table some process has met: int64, each of shape (tokens met,)."""
    met = [(table.amax(dim=1) != 0) | (table.amin(dim=1) != 0) for table in tables]  # each (V,); NaN is not 0
    # One more, so that the processes wait for each other even where no table is trained.
    message = torch.cat([torch.ones(1, dtype=torch.bool, device=device), *met]).byte()
    dist.all_reduce(message, dist.ReduceOp.MAX)
    _, *met = torch.split(message, [1, *(len(table) for table in tables)])
    return [rows.nonzero().squeeze(1) for rows in met]


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
    """Lends the path of new memory, where others can open it, and its name, which nothing else has; None: no such."""
    if sys.platform != "linux":
        yield None
        return
    name = f"gradients-{uuid.uuid4().hex}"
    try:
        file = os.fdopen(os.memfd_create(name), "r+b")
    except OSError:  # a sandbox forbids it
        yield None
        return
    with file:
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
