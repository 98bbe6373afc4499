"""What a token makes of what it has read.

Attention only mixes values linearly. This network works on each token by itself, in a wider space, and is where most of
a layer's parameters are (Vaswani et al. 2017, section 3.3, with GELU in place of ReLU):

    FFN(x) = GELU(x W_1 + b_1) W_2 + b_2

GELU(z) = z Phi(z), with Phi the cumulative distribution function of the standard normal distribution (Hendrycks &
Gimpel 2016), is computed exactly, as in `transformers`; Google's BERT code of today has the tanh approximation.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from src.utils.config import BertConfig


class FeedForward(nn.Module):
    """The position-wise feed-forward network."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.expand = nn.Linear(config.hidden_size, config.intermediate_size)
        self.contract = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Maps float (B, T, D) to (B, T, D)."""
        return self.contract(F.gelu(self.expand(x)))  # (B, T, D) -> (B, T, D_ff) -> (B, T, D)
