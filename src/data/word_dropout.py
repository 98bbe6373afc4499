"""Random replacement of tokens in training batches."""

from collections.abc import Sequence

import torch
from torch import Tensor


def drop_words(input_ids: Tensor, probability: float, unk_token_id: int, special_ids: Sequence[int]) -> Tensor:
    """Replaces words by [UNK] at random, so that none can be relied on (Iyyer et al. 2015, section 4).

    A word that occurs in one sentence only tells which sentence it is, and a model learns that by heart. Without it,
    the model has to read the others, and meets what it will meet later: sentences with unknown words.

    Args:
        input_ids: int64, shape (B, T).
        probability: that a word is replaced.
        unk_token_id: id of [UNK].
        special_ids: ids that are never replaced.

    Returns:
        A new tensor of ids, shape (B, T).
    """
    dropped = torch.rand(input_ids.shape, device=input_ids.device) < probability  # (B, T)
    special = torch.isin(input_ids, torch.tensor(special_ids, device=input_ids.device))  # (B, T)
    return input_ids.masked_fill(dropped & ~special, unk_token_id)
