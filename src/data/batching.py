"""Batches without padding: sentences of equal length go together, cut by a budget of tokens.

SST-2 has 64 distinct lengths, so nearly every batch holds one length, needs no padding and no mask. Only where one
length runs out and the next begins does a batch hold both, padded to the longer.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor


class Batch(TypedDict):
    """Tensors of one batch: ids and labels, and a mask only if something is padded."""

    input_ids: Tensor  # int64 (B, T)
    attention_mask: Tensor | None  # bool (B, T), True at real tokens; None: no padding
    labels: Tensor  # int64 (B,)


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


def collate(sequences: Sequence[Tensor], labels: Sequence[int], pad_token_id: int) -> Batch:
    """Stacks token ids into one tensor, padded on the right where lengths differ.

    Args:
        sequences: token ids, int64, each of shape (T_i,).
        labels: one class index a sequence.
        pad_token_id: what fills the gaps.

    Returns:
        The batch, with T the longest sequence.
    """
    lengths = {len(sequence) for sequence in sequences}
    if len(lengths) == 1:
        input_ids, attention_mask = torch.stack(list(sequences)), None  # (B, T)
    else:
        input_ids = torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True, padding_value=pad_token_id)
        ends = torch.tensor([len(sequence) for sequence in sequences])  # (B,)
        attention_mask = torch.arange(input_ids.shape[1]) < ends[:, None]  # (B, T)
    return Batch(input_ids=input_ids, attention_mask=attention_mask, labels=torch.tensor(labels))


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Moves a batch, without waiting for the copy where the memory allows it.

    Args:
        batch: the batch, on a CPU.
        device: where to.

    Returns:
        The batch there.
    """
    mask = batch["attention_mask"]
    return Batch(
        input_ids=batch["input_ids"].to(device, non_blocking=True),
        attention_mask=None if mask is None else mask.to(device, non_blocking=True),
        labels=batch["labels"].to(device, non_blocking=True),
    )
