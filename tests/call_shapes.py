"""Notes the shapes of all tensors that the functions of src/ take and return while something runs."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from torch import Tensor, nn

from src.utils.config import REPOSITORY

Shapes = list[tuple[int, ...]]
Calls = dict[tuple[str, str], list[tuple[Shapes, Shapes]]]  # (qualified name, file) to what it took and returned


def tensor_shapes(value: Any) -> Shapes:
    if isinstance(value, Tensor):
        return [tuple(value.shape)]
    if isinstance(value, Mapping):
        return tensor_shapes(list(value.values()))
    return [shape for each in value for shape in tensor_shapes(each)] if isinstance(value, list | tuple) else []


@contextmanager
def recorded_calls() -> Iterator[Calls]:
    """Notes shapes of the tensors that every function of src/ takes and returns, by name and file."""
    calls: Calls = {}
    taken: dict[FrameType, Shapes] = {}

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        file = Path(frame.f_code.co_filename)
        if not file.is_relative_to(REPOSITORY / "src"):
            return
        if event == "call":
            taken[frame] = tensor_shapes([value for name, value in frame.f_locals.items() if name != "self"])
        elif event == "return" and frame in taken:
            key = (frame.f_code.co_qualname, file.relative_to(REPOSITORY).as_posix())
            calls.setdefault(key, []).append((taken.pop(frame), tensor_shapes(argument)))

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def record_linear_layers(model: nn.Module, calls: Calls) -> None:
    """Notes shapes of the linear layers inside the model's modules as well, as `Class.attribute`."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                file = type(parent).__module__.replace(".", "/") + ".py"
                key = (f"{type(parent).__name__}.{name}", file)
                child.register_forward_hook(hook_for(calls.setdefault(key, [])))


def hook_for(calls: list[tuple[Shapes, Shapes]]) -> Callable[..., None]:
    return lambda _, taken, returned: calls.append((tensor_shapes(taken), tensor_shapes(returned)))
