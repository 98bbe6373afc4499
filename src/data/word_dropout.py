"""Random replacement of tokens in training batches."""

from collections.abc import Sequence

import torch
from torch import Tensor


def drop_probabilities(
    counts: Tensor, word_dropout: float, rare_word_dropout: float, special_ids: Sequence[int]
) -> Tensor:
    """Computes how likely each word is to be replaced by [UNK] in training.

    Every word is dropped at the same rate, so that none can be relied on (Iyyer et al. 2015, section 4). A word seen n
    times is moreover dropped with probability a / (a + n) (Kiperwasser & Goldberg 2016, section 4.1): a rare word tells
    the sentence it comes from, so a model learns it by heart instead of the sentence's other words. Both show the model
    what it will meet later, sentences with unknown words.

    Args:
        counts: how often each id occurs in the training text, shape (V,).
        word_dropout: probability for every word.
        rare_word_dropout: a, the count at which a word is dropped half of the time.
        special_ids: ids that are never dropped.

    Returns:
        Probabilities, float32, shape (V,).
    """
    rare = rare_word_dropout / (rare_word_dropout + counts.clamp(min=1))  # (V,)
    probabilities = 1 - (1 - word_dropout) * (1 - rare)
    probabilities[list(special_ids)] = 0.0
    return probabilities


def drop_words(input_ids: Tensor, probabilities: Tensor, unk_token_id: int) -> Tensor:
    """Replaces tokens by [UNK] at random.

    Args:
        input_ids: int64, shape (B, T).
        probabilities: of each id to be replaced, shape (V,), from `drop_probabilities`.
        unk_token_id: id of [UNK].

    Returns:
        A new tensor of ids, shape (B, T).
    """
    dropped = torch.rand(input_ids.shape, device=input_ids.device) < probabilities[input_ids]  # (B, T)
    return input_ids.masked_fill(dropped, unk_token_id)
