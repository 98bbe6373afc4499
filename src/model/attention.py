"""Attention, twice on purpose: the equation to read, and PyTorch's own function, fused where that is faster, to run.

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
    """Lets every token gather from all, itself included, in H subspaces at once (Vaswani et al. 2017, section 3.2.2).

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
        self, x: Tensor, mask: Tensor | None = None, return_weights: bool = False, only_cls: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Attends from every token of `x` to every token of `x`.

        Args:
            x: float, shape (B, T, D).
            mask: bool, True = may be attended, shape (B, 1, 1, T), or None.
            return_weights: take the readable path and return its weights as well.
            only_cls: attend from the first token alone; Q is 1 below, else T.

        Returns:
            float, shape (B, Q, D), and the weights, shape (B, H, Q, T), if asked for.
        """
        dropout = self.dropout if self.training else 0.0
        query, key, value = self._of_first(x) if only_cls else self._of_all(x)  # (B, H, Q, K), 2 of (B, H, T, K)
        if return_weights:
            context, weights = scaled_dot_product_attention(query, key, value, mask, dropout)
        else:
            context, weights = F.scaled_dot_product_attention(query, key, value, mask, dropout), None
        return self.output(context.transpose(1, 2).flatten(2)), weights  # (B, H, Q, K) -> (B, Q, D)

    def _of_all(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of all tokens, cut into heads."""
        query, key, value = self.query_key_value(x).chunk(3, dim=-1)  # 3 of (B, T, D)
        return self._heads(query), self._heads(key), self._heads(value)

    def _of_first(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same queries, keys and values, without the queries of all tokens but the first."""
        D = x.shape[-1]
        weight, bias = self.query_key_value.weight, self.query_key_value.bias
        query = F.linear(x[:, :1], weight[:D], bias[:D])  # (B, 1, D)
        key, value = F.linear(x, weight[D:], bias[D:]).chunk(2, dim=-1)  # 2 of (B, T, D)
        return self._heads(query), self._heads(key), self._heads(value)

    def _heads(self, x: Tensor) -> Tensor:
        K = self.output.in_features // self.num_heads  # not -1: a batch may hold no sentence
        return x.view(*x.shape[:2], self.num_heads, K).transpose(1, 2)  # (B, T, D) -> (B, T, H, K) -> (B, H, T, K)
