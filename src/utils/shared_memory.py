"""Memory that several processes of one machine see at once."""

import mmap
import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from src.utils.distributed import gather, is_first, wait_for_all

ALIGNMENT = 16  # float32 numbers: a cache line, 64 bytes


def shared_memory(numbers: int) -> Tensor | None:
    """Gives all processes the same memory, which ends with the last of them; all of them must call it.

    Args:
        numbers: how many there is room for.

    Returns:
        Float32, shape (numbers,), zero at first; None in all processes where one cannot have it: on another machine,
        on one without Linux, or where it is forbidden.
    """
    size = 4 * numbers
    with _new_memory(size) if is_first() else nullcontext() as own:
        place = gather(own)[0]
        memory = None if place is None else _mapped(*place, size)
        all_have_it = all(gather(memory is not None))
    return torch.frombuffer(memory, dtype=torch.float32) if all_have_it else None


def move_to_shared_memory(tensors: Sequence[Tensor]) -> bool:
    """Moves tensors into memory that all processes see; all of them must call it.

    Args:
        tensors: float32, on the CPU, of equal content in all processes; they stay the objects they are.

    Returns:
        Whether that could be done; if not, nothing has changed.
    """
    room = [-(-tensor.numel() // ALIGNMENT) * ALIGNMENT for tensor in tensors]
    memory = shared_memory(sum(room))
    if memory is None:
        return False
    for place, tensor in zip(torch.split(memory, room), tensors, strict=True):
        held = place[: tensor.numel()].view_as(tensor)
        if is_first():
            held.copy_(tensor.detach())
        tensor.data = held
    wait_for_all()
    return True


@contextmanager
def _new_memory(size: int) -> Iterator[tuple[Path, str] | None]:
    """Lends the path of new memory, where others can open it, and its name, which nothing else has; None: no such."""
    if sys.platform != "linux":
        yield None
        return
    name = f"bert-{uuid.uuid4().hex}"
    try:
        file = os.fdopen(os.memfd_create(name), "r+b")
    except (OSError, AttributeError):  # a sandbox forbids it; this Python was built without it
        yield None
        return
    with file:
        try:
            file.truncate(size)
        except OSError:  # a limit on the size of files
            yield None
            return
        yield Path(f"/proc/{os.getpid()}/fd/{file.fileno()}"), name


def _mapped(path: Path, name: str, size: int) -> mmap.mmap | None:
    try:
        if name not in path.readlink().name:  # on another machine that may be anything
            return None
        with path.open("r+b") as file:
            return mmap.mmap(file.fileno(), size)
    except OSError:
        return None
