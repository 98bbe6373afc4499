"""Random replacement of tokens in training batches."""

import torch
from torch import Tensor


def drop_words(input_ids: Tensor, probability: float, unk_token_id: int, special_ids: Tensor) -> Tensor:
    """Replaces tokens by [UNK] at random, so that no single word can be relied on (Iyyer et al. 2015, section 4).

    It also shows the model in training what it will meet later: sentences with unknown words.

    Args:
        input_ids: int64, shape (B, T).
        probability: of each token to be replaced.
        unk_token_id: id of [UNK].
        special_ids: ids that are never replaced, int64, shape (S,).

    Returns:
        A new tensor of ids, shape (B, T).
    """
    dropped = torch.rand(input_ids.shape, device=input_ids.device) < probability  # (B, T)
    return input_ids.masked_fill(dropped & ~torch.isin(input_ids, special_ids), unk_token_id)
