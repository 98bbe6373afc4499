import os
import resource
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from src.utils import shared_memory as module
from src.utils.distributed import rank, wait_for_all
from src.utils.shared_memory import move_to_shared_memory, shared_memory
from tests.training.together import together

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only on Linux can processes share memory")


def written_by_the_other() -> list[float]:
    memory = shared_memory(6)
    assert memory is not None and memory.shape == (6,) and not memory.any()
    wait_for_all()
    memory.view(2, 3)[rank()] = rank() + 1.0
    wait_for_all()
    return memory.tolist()


@ON_LINUX
def test_what_one_writes_all_read() -> None:
    assert together(2, written_by_the_other) == [[1.0, 1.0, 1.0, 2.0, 2.0, 2.0]] * 2


def moved(forbidden: str) -> tuple[bool, list[Any]]:
    """Whether tensors could be moved, and what is in them after each process has changed one."""
    if forbidden == "by a sandbox":
        os.memfd_create = refuse
    if forbidden == "by this Python":
        del os.memfd_create
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if forbidden == "by a limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(3, 7))
    tensors = [weight, torch.tensor(5.0), torch.randn(20)]
    whether = move_to_shared_memory(tensors)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not whether or all(tensor.data_ptr() % 64 == 0 for tensor in tensors)
    with torch.no_grad():
        tensors[rank()].add_(1)
    wait_for_all()
    assert tensors[0] is weight
    return whether, [tensor.tolist() for tensor in tensors]


def refuse(name: str, flags: int = 0) -> int:
    raise PermissionError(name)


@ON_LINUX
@pytest.mark.parametrize("forbidden", ["", "by a sandbox", "by this Python", "by a limit"])
def test_tensors_move_with_what_they_hold(forbidden: str) -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(3, 7), torch.tensor(5.0), torch.randn(20)]
    for process, (whether, found) in enumerate(together(2, moved, forbidden)):
        assert whether != bool(forbidden)
        for number, (numbers, tensor) in enumerate(zip(found, tensors, strict=True)):
            changed = number == process if forbidden else number < 2
            torch.testing.assert_close(torch.tensor(numbers), tensor + 1 if changed else tensor)


def test_other_files_under_that_path_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"abc")
    link = tmp_path / "link"
    link.symlink_to(other)
    assert module._mapped(link, "bert-of-somebody", 64) is None
    assert module._mapped(tmp_path / "nothing", "bert-of-somebody", 64) is None
    assert other.read_bytes() == b"abc"
