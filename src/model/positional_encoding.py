"""Where a token stands: attention sees a set, so every position adds a vector of its own."""

import torch
from torch import Tensor, nn


class LearnedPositionalEncoding(nn.Embedding):
    """One trained vector a position, as in BERT (Devlin et al. 2019, figure 2).

    Args:
        max_position_embeddings: rows of the table; no position may reach it.
        hidden_size: D.
        offset: row of the first position; RoBERTa leaves the rows up to its padding id unused.
    """

    def __init__(self, max_position_embeddings: int, hidden_size: int, offset: int = 0):
        super().__init__(max_position_embeddings, hidden_size)
        self.offset = offset

    def forward(self, length: int) -> Tensor:  # type: ignore[override]  # a length, not ids: positions are 0 .. T-1
        """Returns the vectors of positions 0 .. length-1, shape (T, D).

        Raises:
            IndexError: a position lies beyond the table.
        """
        return _rows(self.weight, self.offset, length)


class SinusoidalPositionalEncoding(nn.Module):
    """The fixed table of sines and cosines of Vaswani et al. 2017, section 3.5.

    Args:
        max_position_embeddings: rows of the table.
        hidden_size: D, even.
        offset: row of the first position.
    """

    weight: Tensor

    def __init__(self, max_position_embeddings: int, hidden_size: int, offset: int = 0):
        super().__init__()
        self.offset = offset
        self.register_buffer("weight", sinusoidal_table(max_position_embeddings, hidden_size))

    def forward(self, length: int) -> Tensor:
        """Returns the vectors of positions 0 .. length-1, shape (T, D).

        Raises:
            IndexError: a position lies beyond the table.
        """
        return _rows(self.weight, self.offset, length)


def sinusoidal_table(positions: int, hidden_size: int) -> Tensor:
    """Computes PE(pos, 2i) = sin(pos / 10000^(2i/D)) and PE(pos, 2i+1) = cos(same) (Vaswani et al. 2017, section 3.5).

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
        raise IndexError(
            f"position {offset + length - 1} lies beyond max_position_embeddings = {len(table)}; shorten the input"
        )
    return table[offset : offset + length]
