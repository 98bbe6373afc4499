import os
from pathlib import Path
from typing import Any

import pytest
import torch

from src.utils import shared_memory as module
from src.utils.distributed import rank, wait_for_all
from src.utils.shared_memory import move_to_shared_memory, shared_memory
from tests.training.together import together


def written_by_the_other() -> list[float]:
    memory = shared_memory(6)
    assert memory is not None and memory.shape == (6,) and not memory.any()
    wait_for_all()
    memory.view(2, 3)[rank()] = rank() + 1.0
    wait_for_all()
    return memory.tolist()


def test_what_one_writes_all_read() -> None:
    assert together(2, written_by_the_other) == [[1.0, 1.0, 1.0, 2.0, 2.0, 2.0]] * 2


def moved(forbidden: bool) -> tuple[bool, list[Any]]:
    """Whether tensors could be moved, and what is in them after each process has changed one."""
    if forbidden:
        os.memfd_create = refuse
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(3, 7))
    tensors = [weight, torch.tensor(5.0), torch.randn(20)]
    whether = move_to_shared_memory(tensors)
    assert all(tensor.data_ptr() % 64 == tensors[0].data_ptr() % 64 for tensor in tensors if whether)
    with torch.no_grad():
        tensors[rank()].add_(1)
    wait_for_all()
    assert tensors[0] is weight
    return whether, [tensor.tolist() for tensor in tensors]


def refuse(name: str, flags: int = 0) -> int:
    raise PermissionError(name)


@pytest.mark.parametrize("forbidden", [False, True])
def test_tensors_move_with_what_they_hold(forbidden: bool) -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(3, 7), torch.tensor(5.0), torch.randn(20)]
    for process, (whether, found) in enumerate(together(2, moved, forbidden)):
        assert whether != forbidden
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
