"""The encoder: a stack of layers, each attention then feed-forward, each followed by residual and LayerNorm."""

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from src.model.attention import MultiHeadAttention
from src.model.dropout import Dropout
from src.model.feed_forward import FeedForward


class EncoderLayer(nn.Module):
    """One layer: x = LayerNorm(x + SubLayer(x)), twice (Vaswani et al. 2017, section 3.1, "post-norm").

    Args:
        attention: the first sub-layer.
        feed_forward: the second sub-layer.
        hidden_size: D.
        layer_norm_eps: added to the variance.
        dropout: probability, on each sub-layer's output (section 5.4).
    """

    def __init__(
        self,
        attention: MultiHeadAttention,
        feed_forward: FeedForward,
        hidden_size: int,
        layer_norm_eps: float,
        dropout: float,
    ):
        super().__init__()
        self.attention = attention
        self.attention_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.feed_forward = feed_forward
        self.feed_forward_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, return_weights: bool = False, only_cls: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Maps float (B, T, D) to (B, T, D), and to the attention weights (B, H, T, T) if asked for.

        With `only_cls`, all of this for the first token alone, which still attends to all: (B, 1, D) and (B, H, 1, T).
        """
        attended, weights = self.attention(x, mask, return_weights, only_cls)  # (B, T, D)
        x = x[:, :1] if only_cls else x
        x = self.attention_norm(x + self.dropout(attended))
        x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return x, weights


class Encoder(nn.Module):
    """A stack of encoder layers.

    Args:
        layers: the layers, first to last.
    """

    def __init__(self, layers: list[EncoderLayer]):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.gradient_checkpointing = False  # in training, compute each layer again on the way back: saves memory

    def compile_layers(self) -> None:
        """Compiles the layers, all of which share the code that `torch.compile` makes of one."""
        for layer in self.layers:
            layer.compile()

    def forward(
        self, x: Tensor, mask: Tensor | None = None, return_weights: bool = False, only_cls: bool = False
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Runs all layers.

        Args:
            x: embeddings, float, shape (B, T, D).
            mask: bool, True = may be attended, shape (B, 1, 1, T), or None.
            return_weights: collect the attention weights of every layer.
            only_cls: let the last layer compute its first token alone, where nothing else is read.

        Returns:
            The hidden states, `num_hidden_layers + 1` of shape (B, T, D), embeddings first, and the weights of each
            layer, shape (B, H, T, T), if asked for; of the last layer (B, 1, D) and (B, H, 1, T) with `only_cls`.
        """
        hidden_states, all_weights = [x], []
        for number, layer in enumerate(self.layers, start=1):
            inputs = x, mask, return_weights, only_cls and number == len(self.layers)
            if self.gradient_checkpointing and self.training:
                x, weights = checkpoint(layer, *inputs, use_reentrant=False)
            else:
                x, weights = layer(*inputs)
            hidden_states.append(x)
            if weights is not None:
                all_weights.append(weights)
        return hidden_states, all_weights
