"""From token ids to vectors: token + position + segment, normalised (Devlin et al. 2019, figure 2)."""

from torch import Tensor, nn

from src.model.dropout import Dropout


class BertEmbedding(nn.Module):
    """Sums the embeddings of token, position and segment, then LayerNorm and dropout.

    Args:
        vocab_size: V.
        hidden_size: D.
        type_vocab_size: number of segments; 0 for none at all (DistilBERT).
        positional_encoding: module that maps a length T to position vectors (T, D).
        pad_token_id: id whose embedding no look-up trains; a decoder tied to the table does.
        layer_norm_eps: added to the variance.
        dropout: probability.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        type_vocab_size: int,
        positional_encoding: nn.Module,
        pad_token_id: int,
        layer_norm_eps: float,
        dropout: float,
    ):
        super().__init__()
        self.token = nn.Embedding(vocab_size, hidden_size, padding_idx=pad_token_id)
        self.segment = nn.Embedding(type_vocab_size, hidden_size) if type_vocab_size else None
        self.position = positional_encoding
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = Dropout(dropout)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Embeds a batch.

        Args:
            input_ids: int64, shape (B, T).
            token_type_ids: segment of every token, int64, shape (B, T); None: all in segment A.

        Returns:
            float, shape (B, T, D).

        Raises:
            IndexError: T exceeds the position table, or (on a CPU) an id the vocabulary.
        """
        _, T = input_ids.shape
        x = self._look_up(input_ids) + self.position(T)  # (B, T, D) + (T, D)
        if self.segment is not None:
            # Without token types all tokens belong to segment 0: one row, (D,), for the whole batch.
            x = x + (self.segment.weight[0] if token_type_ids is None else self.segment(token_type_ids))
        return self.dropout(self.norm(x))  # (B, T, D)

    def _look_up(self, input_ids: Tensor) -> Tensor:
        try:
            return self.token(input_ids)  # (B, T, D)
        except IndexError as error:  # PyTorch's own message names neither the id nor the table
            V = self.token.num_embeddings
            foreign = input_ids[(input_ids < 0) | (input_ids >= V)][0]
            raise IndexError(f"token id {int(foreign)} lies beyond vocab_size = {V}") from error
