"""A stack of layers, each attention and then feed-forward.

Residual connections around both sub-layers let gradients reach the lowest layer; LayerNorm after the
sum keeps the scale from layer to layer (post-norm; Vaswani et al. 2017, sections 3.1 and 5.4):

    x = LayerNorm(x + Dropout(MultiHead(x)))
    x = LayerNorm(x + Dropout(FFN(x)))
"""

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from src.model.attention import MultiHeadAttention
from src.model.feed_forward import FeedForward
from src.utils.config import BertConfig


class EncoderLayer(nn.Module):
    """One layer: the two equations above."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = MultiHeadAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, return_weights: bool = False, num_queries: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Maps float (B, T, D) to (B, T_q, D), and to the attention weights (B, H, T_q, T) if asked for.

        T_q is `num_queries`: only so many tokens, the first ones, are computed, each attending to all. None: T.
        """
        attended, weights = self.attention(x, mask, return_weights, num_queries)  # (B, T_q, D)
        x = self.attention_norm(x[:, :num_queries] + self.dropout(attended))
        x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return x, weights


class Encoder(nn.Module):
    """The stack of all layers."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))
        self.gradient_checkpointing = False  # in training, compute each layer again in the backward pass: saves memory

    def compile_layers(self) -> None:
        """Compiles layer by layer, so that `torch.compile` reuses the code of one layer for the others."""
        for layer in self.layers:
            layer.compile()

    def forward(
        self, x: Tensor, mask: Tensor | None = None, return_weights: bool = False, last_layer_cls_only: bool = False
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Runs all layers.

        Args:
            x: embeddings, float, shape (B, T, D).
            mask: bool, True = may be attended to, shape (B, 1, 1, T), or None.
            return_weights: also return the attention weights of every layer.
            last_layer_cls_only: compute only the first token in the last layer.

        Returns:
            The hidden states, L + 1 of shape (B, T, D), embeddings first, and the weights of each layer, shape
            (B, H, T, T), if asked for; with `last_layer_cls_only` the last of them are (B, 1, D) and (B, H, 1, T).
        """
        hidden_states, all_weights = [x], []
        for layer in self.layers:
            num_queries = 1 if last_layer_cls_only and layer is self.layers[-1] else None
            if self.gradient_checkpointing and self.training:
                x, weights = checkpoint(layer, x, mask, return_weights, num_queries, use_reentrant=False)
            else:
                x, weights = layer(x, mask, return_weights, num_queries)
            hidden_states.append(x)
            if weights is not None:
                all_weights.append(weights)
        return hidden_states, all_weights
