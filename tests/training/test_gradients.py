import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from src.training.gradients import GradientSum
from src.training.optimizer import ExponentialMovingAverage
from src.training.state import Progress, TrainingState
from src.utils import shared_memory
from src.utils.distributed import is_first, rank, wait_for_all
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


def state_of(kind: str) -> TrainingState:
    torch.manual_seed(7)
    model = model_of(kind)
    average = ExponentialMovingAverage(model.parameters(), decay=0.9)
    return TrainingState(model, torch.optim.AdamW(model.parameters(), lr=0.1, fused=True), average, Progress())


class Step(NamedTuple):
    """What a step looked like in one process."""

    sums: list[float]
    gradients: list[Any]  # None: another process has it
    weights: list[Any]  # afterwards


def copied(tensors: Sequence[torch.Tensor]) -> list[Any]:
    return [tensor.detach().numpy().copy() for tensor in tensors]


def three_steps(kind: str, way: str) -> tuple[list[Step], list[Any]]:
    """Three steps, and last the weights, moments and averages."""
    if way == "messages" and rank() == 1:  # as if it ran on another machine
        shared_memory._mapped = lambda *_: None
    if way == "messages, as nothing can be shared":
        vars(os).pop("memfd_create", None)
    state = state_of(kind)
    add_up = GradientSum(state)
    steps = []
    for step in range(3):
        loss, *gradients = numbers_of(kind, rank(), step)
        for parameter, gradient in zip(add_up.trained, gradients, strict=True):
            parameter.grad = gradient
        if rank() == 1:
            add_up.trained[-1].grad = None
        time.sleep(0.05 * rank())  # nobody may go ahead with numbers that the last one has yet to write
        sums = add_up(loss, 3 + rank(), 10 * step, asked_to_stop=step == rank() == 1)
        summed = [None if parameter.grad is None else parameter.grad.numpy().copy() for parameter in add_up.trained]
        assert len(add_up.own) == sum(gradient is not None for gradient in summed)
        time.sleep(0.05 * rank())
        state.optimizer.step()
        assert state.average is not None
        state.average.update(add_up.own, step + 1)
        add_up.clear()
        totals = [sums.loss.item(), sums.predictions, sums.tokens, sums.asked_to_stop, sums.norm.item()]
        steps.append(Step(totals, summed, copied(add_up.trained)))
    held = [link for link in Path("/proc/self/fd").glob("*") if link.is_symlink() and "memfd" in str(link.readlink())]
    assert len(held) == (2 if way == "memory" else 0)
    assert all(parameter.grad is None for parameter in state.model.parameters())
    return steps, copied(state.tensors())


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    "kind, way",
    [
        ("both", "memory"),
        ("both", "messages"),
        ("both", "messages, as nothing can be shared"),
        ("linear", "memory"),
        ("table", "memory"),  # which has fewer parameters than there are processes
    ],
)
def test_steps_are_those_of_one_process_with_the_sums_of_all(count: int, kind: str, way: str) -> None:
    if way == "memory" and sys.platform != "linux":
        pytest.skip("only on Linux can processes share memory")
    alone = state_of(kind)
    assert alone.average is not None
    trained = GradientSum(alone).trained
    everyone = together(count, three_steps, kind, way)
    for number in range(3):
        numbers = [numbers_of(kind, process, number) for process in range(count)]
        numbers[1][-1] = torch.zeros(SHAPES[kind][-1])
        loss, *gradients = [sum(parts, torch.zeros(())) for parts in zip(*numbers, strict=True)]
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient
        alone.optimizer.step()
        alone.average.update(trained, number + 1)

        steps = [steps[number] for steps, _ in everyone]
        asked = 1 if number == 1 else 0
        totals = [loss.item(), sum(3 + process for process in range(count)), 10 * number * count, asked, norm]
        for step in steps:
            assert step.sums == pytest.approx(totals, rel=1e-6)
            assert step.sums == steps[0].sums
            for array, parameter in zip(step.weights, trained, strict=True):
                torch.testing.assert_close(torch.from_numpy(array), parameter.detach(), rtol=0, atol=1e-5)
        for index, gradient in enumerate(gradients):
            held = [step.gradients[index] for step in steps if step.gradients[index] is not None]
            assert len(held) == (1 if way == "memory" else count)
            for array in held:
                torch.testing.assert_close(torch.from_numpy(array), gradient, rtol=0, atol=1e-6)
    for _, state in everyone:
        for array, same, tensor in zip(state, everyone[0][1], alone.tensors(), strict=True):
            assert (array == same).all()
            torch.testing.assert_close(torch.from_numpy(array), tensor.detach(), rtol=0, atol=1e-5)


def test_alone_a_process_keeps_its_gradients() -> None:
    state = state_of("linear")
    weight, bias, *_ = state.model.parameters()
    weight.grad, bias.grad = gradient, other = torch.randn(3, 5), torch.randn(3)
    loss = torch.rand(())
    sums = GradientSum(state)(loss, 4, 9, asked_to_stop=True)
    assert sums.loss is loss and (sums.predictions, sums.tokens, sums.asked_to_stop) == (4, 9, True)
    assert sums.norm.item() == pytest.approx(torch.cat([gradient.flatten(), other]).norm().item())
    assert weight.grad is gradient and bias.grad is other


def lent() -> tuple[list[Any], list[Any], list[Any]]:
    """The weights of a process after a step, while the first one alone computes with the averages, and afterwards."""
    state = state_of("both")
    add_up = GradientSum(state)
    for parameter in add_up.trained:
        parameter.grad = torch.ones_like(parameter)
    add_up(torch.tensor(0.0), 1, 1, asked_to_stop=False)
    state.optimizer.step()
    add_up.clear()
    seen = []
    for context in (nullcontext(), state.as_delivered() if is_first() else nullcontext(), nullcontext()):
        with context:
            wait_for_all()
            seen.append(copied(add_up.trained))
            wait_for_all()
    before, meanwhile, after = seen
    return before, meanwhile, after


def test_averages_that_one_process_borrows_are_not_what_others_compute_with() -> None:
    for process, (before, meanwhile, after) in enumerate(together(2, lent)):
        for one, other, last in zip(before, meanwhile, after, strict=True):
            assert (one == last).all()
            assert (one == other).all() == (process == 1)
