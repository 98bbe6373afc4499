"""Where a token stands.

Attention treats a sentence as a set: reorder the tokens, and it computes the same vectors in another order. So a vector
that depends on the position alone is added to each token. BERT learns one for each position; the first Transformer
used fixed sine waves, in which every dimension oscillates at its own frequency (Vaswani et al. 2017, section 3.5).
"""

import torch
from torch import Tensor, nn

from src.utils.config import BertConfig


class LearnedPositionalEncoding(nn.Embedding):
    """One learned vector for each position (Devlin et al. 2019, figure 2).

    Args:
        config: its `position_offset` is the row of the first position; RoBERTa leaves rows before it unused.
    """

    def __init__(self, config: BertConfig):
        super().__init__(config.max_position_embeddings, config.hidden_size)
        self.offset = config.position_offset

    def forward(self, length: int) -> Tensor:  # type: ignore[override]  # a length, not ids: positions are 0 .. T-1
        """Returns the vectors of positions 0 .. length-1, shape (T, D).

        Raises:
            IndexError: a position is outside the table.
        """
        return _rows(self.weight, self.offset, length)


class SinusoidalPositionalEncoding(nn.Module):
    """The fixed table of sine waves (Vaswani et al. 2017, section 3.5).

    Args:
        config: `hidden_size` is even.
    """

    weight: Tensor

    def __init__(self, config: BertConfig):
        super().__init__()
        self.offset = config.position_offset
        self.register_buffer("weight", sinusoidal_table(config.max_position_embeddings, config.hidden_size))

    def forward(self, length: int) -> Tensor:
        """Returns the vectors of positions 0 .. length-1, shape (T, D).

        Raises:
            IndexError: a position is outside the table.
        """
        return _rows(self.weight, self.offset, length)


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


def _rows(table: Tensor, offset: int, length: int) -> Tensor:
    if offset + length > len(table):
        last, size = offset + length - 1, len(table)
        raise IndexError(f"position {last} is outside max_position_embeddings = {size}; shorten the input")
    return table[offset : offset + length]
