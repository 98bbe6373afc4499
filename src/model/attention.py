"""How tokens read each other.

The meaning of a word depends on the words around it. Every token has a query, a key and a value. The dot products of a
token's query with all keys, after softmax, weight the values that it receives (Vaswani et al. 2017, equation 1):

    Attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V

d_k is the width of a head; without the division, scores would grow with it and softmax would saturate.
Several heads do this side by side, each in its own subspace, so that a token can follow several relations at once.

Attention is written twice, on purpose: as the equation, to read, and by PyTorch's own fused function, to run. A test
checks that both give the same, but for a token that may attend to nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.utils.config import BertConfig


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Computes the equation above.

    Args:
        query: float, shape (B, H, T_q, D_h).
        key: float, shape (B, H, T, D_h).
        value: float, shape (B, H, T, D_h).
        mask: bool, True = may be attended to, shape broadcastable to (B, H, T_q, T), or None.
        dropout: probability that a weight is dropped.

    Returns:
        The weighted values, shape (B, H, T_q, D_h), and the weights, shape (B, H, T_q, T), before dropout.
    """
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5  # (B, H, T_q, T)
    if mask is not None:
        # -inf would turn a row with nothing to attend to into NaN, and -1e9 overflows float16.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)  # (B, H, T_q, T)
    return F.dropout(weights, dropout) @ value, weights


class MultiHeadAttention(nn.Module):
    """Attention in H heads: MultiHead(x) = Concat(head_1, ..., head_H) W^O (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        D = config.hidden_size
        self.num_heads, self.head_size = config.num_attention_heads, D // config.num_attention_heads
        self.query = nn.Linear(D, D)  # W^Q of all heads
        self.key = nn.Linear(D, D)  # W^K
        self.value = nn.Linear(D, D)  # W^V
        self.output = nn.Linear(D, D)  # W^O
        self.dropout = config.attention_probs_dropout_prob

    def forward(
        self, x: Tensor, mask: Tensor | None = None, return_weights: bool = False, num_queries: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Lets every token of `x` attend to every token of `x`.

        Args:
            x: float, shape (B, T, D).
            mask: bool, True = may be attended to, shape (B, 1, 1, T), or None.
            return_weights: also return the attention weights, which takes the slower equation.
            num_queries: T_q, if only so many tokens, the first ones, are to attend; None: all.

        Returns:
            float, shape (B, T_q, D), and the weights, shape (B, H, T_q, T), if asked for.
        """
        query = self._split(self.query(x[:, :num_queries]))  # (B, H, T_q, D_h)
        key, value = self._split(self.key(x)), self._split(self.value(x))  # 2 of (B, H, T, D_h)
        dropout = self.dropout if self.training else 0.0
        if return_weights:
            context, weights = scaled_dot_product_attention(query, key, value, mask, dropout)
        else:
            context, weights = F.scaled_dot_product_attention(query, key, value, mask, dropout), None
        return self.output(context.transpose(1, 2).flatten(2)), weights  # (B, H, T_q, D_h) -> (B, T_q, D)

    def _split(self, x: Tensor) -> Tensor:
        B, T, _ = x.shape
        return x.view(B, T, self.num_heads, self.head_size).transpose(1, 2)  # (B, T, D) -> (B, H, T, D_h)
