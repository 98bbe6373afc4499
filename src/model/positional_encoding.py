"""Where a token stands.

Attention treats a sentence as a set: reorder the tokens, and it computes the same vectors in another order. So a vector
that depends on the position alone is added to each token. BERT learns one for each position; the first Transformer
used a fixed table, in which each pair of dimensions is the sine and cosine of one frequency (Vaswani et al. 2017,
section 3.5).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.utils.config import BertConfig


class PositionalEncoding(nn.Module):
    """A table with a vector for each position, from row `position_offset` on; RoBERTa leaves those before it unused."""

    weight: Tensor  # (max_position_embeddings, D)

    def __init__(self, config: BertConfig):
        super().__init__()
        self.offset = config.position_offset

    def forward(self, length: int, is_token: Tensor | None = None) -> Tensor:
        """Returns the vectors of positions 0 .. length-1, shape (T, D); an IndexError if the table has fewer rows.

        RoBERTa counts only what `is_token`, bool (B, T); padding has the row before the first. Then (B, T, D).
        """
        if self.offset + length > len(self.weight):
            last, size = self.offset + length - 1, len(self.weight)
            raise IndexError(f"position {last} is outside max_position_embeddings = {size}; shorten the input")
        if is_token is None:
            return self.weight[self.offset : self.offset + length]
        rows = is_token.long().cumsum(dim=1) * is_token + self.offset - 1  # (B, T)
        return F.embedding(rows, self.weight, padding_idx=self.offset - 1)


class LearnedPositionalEncoding(PositionalEncoding):
    """One learned vector for each position (Devlin et al. 2019, figure 2)."""

    def __init__(self, config: BertConfig):
        super().__init__(config)
        table = torch.empty(config.max_position_embeddings, config.hidden_size)
        self.weight = nn.Parameter(nn.init.normal_(table, std=config.initializer_range))


class SinusoidalPositionalEncoding(PositionalEncoding):
    """The fixed table of sine waves (Vaswani et al. 2017, section 3.5), divided by sqrt(D).

    Vaswani et al. multiply the token embeddings by sqrt(D) instead (section 3.4); LayerNorm makes the two the same.
    """

    def __init__(self, config: BertConfig):
        super().__init__(config)
        table = sinusoidal_table(config.max_position_embeddings, config.hidden_size)
        self.register_buffer("weight", table / config.hidden_size**0.5)


def sinusoidal_table(positions: int, hidden_size: int) -> Tensor:
    """Computes PE(pos, 2i) = sin(pos / 10000^(2i/D)) and PE(pos, 2i+1) = cos(pos / 10000^(2i/D)).

    Args:
        positions: number of rows.
        hidden_size: D, even.

    Returns:
        The table, float32, shape (positions, D).
    """
    position = torch.arange(positions, dtype=torch.float64).unsqueeze(1)  # (T, 1)
    frequency = 10_000.0 ** (-torch.arange(0, hidden_size, 2, dtype=torch.float64) / hidden_size)  # (D/2,)
    angle = position * frequency  # (T, D/2)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).float()  # (T, D)
