"""Attention, twice on purpose: the equation to read, and PyTorch's fused kernel to run.

A test holds them equal wherever there is something to attend to.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Computes Attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V (Vaswani et al. 2017, equation 1).

    The paper's d_k, the width of a head, is K in the shapes below.

    Args:
        query: float, shape (B, H, T, K).
        key: float, shape (B, H, T, K).
        value: float, shape (B, H, T, K).
        mask: bool, True = may be attended, shape broadcastable to (B, H, T, T), or None.
        dropout: probability that a weight is dropped.

    Returns:
        The weighted values, shape (B, H, T, K), and the weights, shape (B, H, T, T), before dropout.
    """
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5  # (B, H, T, T)
    if mask is not None:
        # Not -inf: a row with nothing to attend to would become NaN; not -1e9: it overflows float16.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)  # (B, H, T, T)
    return F.dropout(weights, dropout) @ value, weights


class MultiHeadAttention(nn.Module):
    """Lets every token gather from all others, in H subspaces at once (Vaswani et al. 2017, section 3.2.2).

    Args:
        hidden_size: D.
        num_attention_heads: H, a divisor of D.
        dropout: probability that an attention weight is dropped in training.
    """

    def __init__(self, hidden_size: int, num_attention_heads: int, dropout: float):
        super().__init__()
        self.num_heads = num_attention_heads
        self.dropout = dropout
        # W^Q, W^K and W^V of all heads stacked: one matrix product instead of three.
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)  # W^O

    def forward(
        self, x: Tensor, mask: Tensor | None = None, return_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Attends from every token of `x` to every token of `x`.

        Args:
            x: float, shape (B, T, D).
            mask: bool, True = may be attended, shape (B, 1, 1, T), or None.
            return_weights: take the readable path and return its weights as well.

        Returns:
            float, shape (B, T, D), and the weights, shape (B, H, T, T), if asked for.
        """
        B, T, D = x.shape
        dropout = self.dropout if self.training else 0.0
        stacked = self.query_key_value(x).view(B, T, 3, self.num_heads, D // self.num_heads)  # (B, T, 3, H, K)
        query, key, value = stacked.permute(2, 0, 3, 1, 4)  # 3 of (B, H, T, K)
        if return_weights:
            context, weights = scaled_dot_product_attention(query, key, value, mask, dropout)
        else:
            context, weights = F.scaled_dot_product_attention(query, key, value, mask, dropout), None
        return self.output(context.transpose(1, 2).reshape(B, T, D)), weights  # (B, H, T, K) -> (B, T, D)
