"""Which tokens a masked language model has to predict, and what replaces them (Devlin et al. 2019, section 3.1).

Also word dropout, which hides words from a classifier.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NOT_MASKED = -100  # what PyTorch's cross-entropy ignores by default


@dataclass(frozen=True)
class Masking:
    """How tokens are masked.

    Args:
        rate: chance that a token is to be predicted.
        only_mask_tokens: put [MASK] in the place of all of them; else of 80 %, a random one in 10 %, and leave 10 %.
        mask_token_id: id of [MASK].
        special_ids: ids that are never masked, nor put in another's place.
        vocab_size: V.
    """

    rate: float
    only_mask_tokens: bool
    mask_token_id: int
    special_ids: Sequence[int]
    vocab_size: int

    def __call__(self, input_ids: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Masks a batch anew, so that every epoch has other gaps ("dynamic masking", Liu et al. 2019, section 4.1).

        Args:
            input_ids: int64, shape (B, T).
            generator: of random numbers; PyTorch's own if unset.

        Returns:
            What the model reads, and what it has to say: the true id at masked tokens, NOT_MASKED elsewhere; both int64
            (B, T).
        """
        # One number a token decides both: whether it is chosen and, since those chosen are uniform below the rate, what
        # stands in its place.
        draw = torch.rand(input_ids.shape, generator=generator)  # (B, T)
        special = torch.isin(input_ids, torch.tensor(self.special_ids))
        chosen = (draw < self.rate) & ~special
        labels = input_ids.masked_fill(~chosen, NOT_MASKED)
        if self.only_mask_tokens:
            return input_ids.masked_fill(chosen, self.mask_token_id), labels
        masked = input_ids.masked_fill(chosen & (draw < 0.8 * self.rate), self.mask_token_id)
        ordinary = torch.ones(self.vocab_size)
        ordinary[list(self.special_ids)] = 0.0
        random = torch.multinomial(ordinary, input_ids.numel(), replacement=True, generator=generator)
        replaced = chosen & (draw >= 0.8 * self.rate) & (draw < 0.9 * self.rate)
        return torch.where(replaced, random.view_as(input_ids), masked), labels


def drop_words(input_ids: Tensor, rate: float, special_ids: Sequence[int], unk_token_id: int) -> Tensor:
    """Replaces tokens by [UNK] at random, so that a classifier relies on no single word (Iyyer et al. 2015, section 4).

    Args:
        input_ids: int64, shape (B, T).
        rate: probability of each token to be replaced.
        special_ids: ids that stay.
        unk_token_id: id of [UNK].

    Returns:
        A new tensor of ids, shape (B, T).
    """
    dropped = torch.rand(input_ids.shape, device=input_ids.device) < rate  # (B, T)
    special = torch.isin(input_ids, torch.tensor(special_ids, device=input_ids.device))  # (B, T)
    return input_ids.masked_fill(dropped & ~special, unk_token_id)
