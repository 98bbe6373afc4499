import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from src.training import gradients
from src.training.gradients import GradientSum, shared_memory
from src.utils.distributed import rank, wait_for_all
from tests.training.together import together

SHAPES: dict[str, list[tuple[int, ...]]] = {"linear": [(3, 5), (3,)], "table": [(9, 4)], "both": [(9, 4), (3, 5), (3,)]}


def model_of(kind: str) -> nn.Module:
    """What has parameters of those shapes, and others that are frozen."""
    parts: dict[str, list[nn.Module]] = {"linear": [nn.Linear(5, 3)], "table": [nn.Embedding(9, 4)]}
    parts["both"] = [*parts["table"], *parts["linear"]]
    return nn.Sequential(*parts[kind], nn.Embedding(2, 2).requires_grad_(False), nn.Linear(1, 1).requires_grad_(False))


def numbers_of(kind: str, process: int, step: int) -> list[torch.Tensor]:
    """The loss and gradients of a process in a step; of a table's rows it has met one half, each process another."""
    torch.manual_seed(100 * process + step)
    numbers = [torch.rand(()), *(torch.randn(shape) for shape in SHAPES[kind])]
    if kind != "linear":
        numbers[1][torch.rand(9) < 0.5] = 0.0
        numbers[1][4] = -1e-30 if process == 1 else 0.0
    return numbers


def forbidden(name: str, flags: int = 0) -> int:
    raise PermissionError(name)


def summed(kind: str, way: str) -> tuple[list[list[Any]], bool, bool]:
    """Sums of three steps, whether shared memory made them, and whether what is frozen stayed without."""
    if way == "messages" and rank() == 1:  # as if it ran on another machine
        gradients._mapped = lambda *_: None
    if way == "messages, as nothing can be shared":
        os.memfd_create = forbidden
    model = model_of(kind)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    add_up = GradientSum(model)
    found = []
    for step in range(3):
        loss, *own = numbers_of(kind, rank(), step)
        for parameter, gradient in zip(parameters, own, strict=True):
            parameter.grad = gradient
        if rank() == 1:
            parameters[-1].grad = None
        total = add_up(loss)  # which is not copied: it has to stay
        found.append([total.numpy(), *(parameter.grad.numpy().copy() for parameter in parameters)])  # type: ignore[union-attr]
    held = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink() and "memfd" in str(link.readlink())]
    assert len(held) == (way == "memory")
    frozen = all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)
    return found, add_up._memory is not None, frozen


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    "kind, way",
    [
        ("both", "memory"),
        ("both", "messages"),
        ("both", "messages, as nothing can be shared"),
        ("linear", "memory"),
        ("table", "memory"),
    ],
)
def test_sums_are_those_of_all_processes_and_the_same_in_each(count: int, kind: str, way: str) -> None:
    expected = []
    for step in range(3):
        numbers = [numbers_of(kind, process, step) for process in range(count)]
        numbers[1][-1] = torch.zeros(SHAPES[kind][-1])
        expected.append([sum(parts) for parts in zip(*numbers, strict=True)])
    everyone = together(count, summed, kind, way)
    for found, in_memory, frozen in everyone:
        assert in_memory == (way == "memory") and frozen
        for sums, first, wanted in zip(found, everyone[0][0], expected, strict=True):
            for array, same, tensor in zip(sums, first, wanted, strict=True):
                assert (array == same).all()
                torch.testing.assert_close(torch.from_numpy(array), tensor, rtol=0, atol=1e-6)


def test_alone_a_process_keeps_its_gradients() -> None:
    part = nn.Linear(3, 1)
    part.weight.grad = gradient = torch.randn(1, 3)
    loss = torch.rand(())
    assert GradientSum(part)(loss) is loss
    assert part.weight.grad is gradient


def written_by_the_other() -> list[float]:
    memory = shared_memory(2, 3)
    assert memory is not None and memory.shape == (2, 3) and not memory.any()
    wait_for_all()
    memory[rank()] = rank() + 1.0
    wait_for_all()
    return memory.flatten().tolist()


def test_what_one_writes_all_read() -> None:
    assert together(2, written_by_the_other) == [[1.0, 1.0, 1.0, 2.0, 2.0, 2.0]] * 2


def test_other_files_under_that_path_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"abc")
    link = tmp_path / "link"
    link.symlink_to(other)
    assert gradients._mapped(link, "gradients-of-somebody", 64) is None
    assert gradients._mapped(tmp_path / "nothing", "gradients-of-somebody", 64) is None
    assert other.read_bytes() == b"abc"
