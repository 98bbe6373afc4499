"""A stack of layers, each attention and then feed-forward.

Both sub-layers only add a correction to what they read, so that gradients reach the lowest layer; LayerNorm after the
sum keeps the scale from layer to layer ("post-norm", Vaswani et al. 2017, section 3.1):

    x = LayerNorm(x + Dropout(MultiHead(x)))
    x = LayerNorm(x + Dropout(FFN(x)))
"""

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from src.model.attention import MultiHeadAttention
from src.model.feed_forward import FeedForward
from src.utils.config import BertConfig


class EncoderLayer(nn.Module):
    """One layer: the two equations above.

    Args:
        config: the model's shape.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = MultiHeadAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, return_weights: bool = False, only_cls: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Maps float (B, T, D) to (B, T, D), and to the attention weights (B, H, T, T) if asked for.

        With `only_cls`, for the first token alone, which still attends to all: (B, 1, D) and (B, H, 1, T).
        """
        attended, weights = self.attention(x, mask, return_weights, only_cls)  # (B, T, D)
        x = x[:, :1] if only_cls else x
        x = self.attention_norm(x + self.dropout(attended))
        x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return x, weights


class Encoder(nn.Module):
    """The stack of all layers.

    Args:
        config: the model's shape.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))
        self.gradient_checkpointing = False  # in training, compute each layer again in the backward pass: saves memory

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
            The hidden states, L + 1 of shape (B, T, D), embeddings first, and the weights of each layer, shape
            (B, H, T, T), if asked for; of the last layer (B, 1, D) and (B, H, 1, T) with `only_cls`.
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
