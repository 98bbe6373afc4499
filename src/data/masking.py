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
    """Masks tokens, each time differently ("dynamic masking", Liu et al. 2019, section 4.1)."""

    rate: float  # chance that a token is to be predicted
    only_mask_tokens: bool  # [MASK] replaces all of them; else 80 %, a random token replaces 10 %, and 10 % stay
    mask_token_id: int
    special_ids: Sequence[int]  # are never masked, and replace no other token
    vocab_size: int

    def __call__(self, input_ids: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Masks token ids, int64 (B, T), with random numbers of `generator`, or PyTorch's own.

        Returns:
            What the model reads, and what it has to say: the true id at masked tokens, NOT_MASKED elsewhere; both int64
            (B, T).
        """
        # One number for each token decides both: whether it is chosen and, since those chosen are uniform below the
        # rate, what replaces it.
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
    """Replaces tokens (B, T) by [UNK] at random, so that a classifier relies on no single word.

    Special tokens stay (Iyyer et al. 2015, section 4).
    """
    dropped = torch.rand(input_ids.shape, device=input_ids.device) < rate  # (B, T)
    special = torch.isin(input_ids, torch.tensor(special_ids, device=input_ids.device))  # (B, T)
    return input_ids.masked_fill(dropped & ~special, unk_token_id)
