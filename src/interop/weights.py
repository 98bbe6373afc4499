"""model.safetensors, checked from the outside in: file, header, shapes, and only then memory and numbers."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from src.interop.key_tables import from_hugging_face, their_name
from src.model.bert import BertForMaskedLM, BertForSequenceClassification
from src.utils.config import BertConfig
from src.utils.errors import CheckpointError
from src.utils.files import check_regular_file, memory_bytes, without_duplicates

Model = TypeVar("Model", BertForSequenceClassification, BertForMaskedLM)

LARGEST_HEADER = 1_000_000  # that of BERT large has 50,000 bytes


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Maps a safetensors file into memory; what is not used is never read.

    Args:
        path: the file.

    Returns:
        The tensors by their names there.

    Raises:
        CheckpointError: it is no such file, is damaged, or is larger than this machine's memory.
    """
    check_regular_file(path, memory_bytes())
    try:
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if size > LARGEST_HEADER:
                raise ValueError(f"it claims a header of {size:,} bytes")
            json.loads(stream.read(size), object_pairs_hook=without_duplicates)
        return load_file(path)
    except (SafetensorError, OSError, ValueError, AttributeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); restore or download it again") from None


def filled(build: Callable[[], Model], config: BertConfig, state: dict[str, Tensor], path: Path) -> Model:
    """Builds a model of a checkpoint's tensors, all of which must be there.

    Args:
        build: makes the model, with random weights.
        config: its shape.
        state: tensors under canonical Hugging Face names.
        path: the file they come from, for messages.

    Returns:
        The model.

    Raises:
        CheckpointError: a parameter is missing, has another shape or kind of numbers, or is not finite.
    """
    refuse_what_does_not_fit(build, config, state, path)
    model = build()
    model.load_state_dict(finite(from_hugging_face(state, model.state_dict(), config.model_type), path))
    return model


def refuse_what_does_not_fit(
    build: Callable[[], Model], config: BertConfig, state: dict[str, Tensor], path: Path, part: str = ""
) -> None:
    """Compares a model's parameters with a checkpoint's tensors before it takes memory for them.

    Args:
        build: makes the model.
        config: its shape.
        state: tensors under canonical Hugging Face names.
        path: the file they come from, for messages.
        part: how the names of the parameters that must fit begin; others are not looked at.

    Raises:
        CheckpointError: a parameter is missing, or has another shape or kind of numbers; both shapes are named.
    """
    last = f"bert.encoder.layers.{config.num_hidden_layers - 1}.attention.output.weight"
    _refuse_missing(last, config, state, path)  # before a billion layers are built
    try:
        with torch.device("meta"):
            parameters = build().state_dict()
    except (RuntimeError, TypeError, OverflowError):  # more elements than a number can count
        raise CheckpointError(f"{path}: config.json is not its own: its sizes are beyond any; restore both") from None
    wanted = {key: parameter for key, parameter in parameters.items() if key.startswith(part)}
    found = from_hugging_face({name: tensor.to("meta") for name, tensor in state.items()}, wanted, config.model_type)
    for key, parameter in wanted.items():
        theirs = their_name(key, config.model_type)
        if key not in found:
            raise CheckpointError(f"{path} lacks {theirs}, shape {tuple(parameter.shape)}; is config.json its own?")
        if found[key].shape != parameter.shape:
            raise CheckpointError(
                f"{path}: {theirs} has shape {tuple(found[key].shape)}, config.json makes it {tuple(parameter.shape)}; "
                "restore the pair that was saved together"
            )
        if not state[theirs].is_floating_point():
            raise CheckpointError(f"{path}: {theirs} holds {state[theirs].dtype}, no fractions; save it as float32")


def finite(found: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Returns tensors as they are, unless one holds NaN or infinity.

    Raises:
        CheckpointError: one does.
    """
    for key, tensor in found.items():
        if not tensor.float().isfinite().all():
            raise CheckpointError(f"{path}: {key} holds NaN or infinity; its training diverged, restore an older one")
    return found


def _refuse_missing(key: str, config: BertConfig, state: Iterable[str], path: Path) -> None:
    if (name := their_name(key, config.model_type)) not in state:
        raise CheckpointError(
            f"{path} lacks {name}, which config.json says is there ({config.num_hidden_layers} layers of "
            f"{config.hidden_size}); is config.json its own?"
        )
