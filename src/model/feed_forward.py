"""The position-wise feed-forward network (Vaswani et al. 2017, section 3.3), with GELU in place of ReLU."""

import torch.nn.functional as F
from torch import Tensor, nn


class FeedForward(nn.Module):
    """Computes FFN(x) = GELU(x W1 + b1) W2 + b2 for each token by itself.

    GELU is the exact one, x * Phi(x) with the error function (Hendrycks & Gimpel 2016), as in BERT.

    Args:
        hidden_size: D.
        intermediate_size: F_.
    """

    def __init__(self, hidden_size: int, intermediate_size: int):
        super().__init__()
        self.expand = nn.Linear(hidden_size, intermediate_size)
        self.contract = nn.Linear(intermediate_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Maps float (B, T, D) to (B, T, D)."""
        return self.contract(F.gelu(self.expand(x)))  # (B, T, D) -> (B, T, F_) -> (B, T, D)
