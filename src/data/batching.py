"""Batches without padding: sentences of equal length go together, cut by a budget of tokens.

SST-2's phrases have few distinct lengths, so nearly every batch holds one, needs no padding and no mask. Only where one
length runs out and the next begins does a batch hold both, padded to the longer.
"""

from collections.abc import Iterable, Sequence
from typing import NotRequired, TypedDict, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class Batch(TypedDict):
    """Tensors of one batch: ids and labels, a mask only if something is padded, segments only of text pairs."""

    input_ids: Tensor  # int64 (B, T)
    attention_mask: Tensor | None  # bool (B, T), True at real tokens; None: no padding
    token_type_ids: Tensor | None  # int64 (B, T); None: all in segment 0
    labels: Tensor  # int64 (B,), classes, -1 where there is no label; in pre-training (B, T), the masked tokens
    teacher_logits: NotRequired[Tensor]  # float (B, C), with a teacher


def group_by_length(
    lengths: Sequence[int], tokens_per_batch: int, seed: int = 0, epoch: int | None = None
) -> list[list[int]]:
    """Groups examples of equal or neighbouring length into batches under a token budget.

    Args:
        lengths: tokens of every example.
        tokens_per_batch: most tokens in a batch, padding included; a longer example makes a batch of its own.
        seed: of the order.
        epoch: with the seed, fixes which examples of a length meet and the order of the batches; None: not shuffled,
            short batches first.

    Returns:
        The batches, lists of indices into `lengths`; every index occurs exactly once. Their number does not depend on
        the seed or the epoch.
    """
    order = np.arange(len(lengths))
    random = None if epoch is None else np.random.default_rng((seed, epoch))
    if random is not None:
        random.shuffle(order)
    order = order[np.argsort(np.asarray(lengths)[order], kind="stable")]
    batches: list[list[int]] = []
    for index in order.tolist():
        # Lengths only grow, so this example is the longest its batch would hold.
        if batches and (len(batches[-1]) + 1) * lengths[index] <= tokens_per_batch:
            batches[-1].append(index)
        else:
            batches.append([index])
    if random is not None:
        random.shuffle(batches)
    return batches


def collate(
    sequences: Sequence[Tensor],
    labels: Sequence[int],
    pad_token_id: int,
    token_types: Sequence[Tensor] | None = None,
) -> Batch:
    """Stacks token ids into one tensor, padded on the right where lengths differ.

    Args:
        sequences: token ids, int64, each of shape (T_i,).
        labels: one class index a sequence.
        pad_token_id: what fills the gaps.
        token_types: segments, int64, each of shape (T_i,).

    Returns:
        The batch, with T the longest sequence.
    """
    attention_mask = None
    if len({len(sequence) for sequence in sequences}) > 1:
        ends = torch.tensor([len(sequence) for sequence in sequences])  # (B,)
        attention_mask = torch.arange(int(ends.max())) < ends[:, None]  # (B, T)

    def stacked(rows: Sequence[Tensor], filling: int) -> Tensor:
        if attention_mask is None:  # nothing to pad: a tenth of the time
            return torch.stack(list(rows))
        return pad_sequence(list(rows), batch_first=True, padding_value=filling)

    return Batch(
        input_ids=stacked(sequences, pad_token_id),
        attention_mask=attention_mask,
        token_type_ids=None if token_types is None else stacked(token_types, 0),
        labels=torch.tensor(labels),
    )


def halves(batch: Batch) -> list[Batch]:
    """Cuts a batch into two of half the sentences each; a single sentence stays one."""

    def half(number: int) -> Batch:
        parts = {name: tensor if tensor is None else tensor.chunk(2)[number] for name, tensor in _items(batch)}
        return cast(Batch, parts)

    return [half(number) for number in range(min(2, len(batch["labels"])))]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Moves a batch; to a GPU from pinned memory, so that the CPU does not wait for the copy.

    Args:
        batch: the batch, on a CPU.
        device: where to.

    Returns:
        The batch there.
    """

    def moved(tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

    return cast(Batch, {name: tensor if tensor is None else moved(tensor) for name, tensor in _items(batch)})


def _items(batch: Batch) -> Iterable[tuple[str, Tensor | None]]:
    return cast(dict[str, Tensor | None], batch).items()
