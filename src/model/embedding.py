"""From token ids to vectors.

A token id says nothing about meaning, so each id has a learned vector. Attention cannot tell order, nor which of two
sentences a token belongs to, so a vector for the position and one for the segment are added. LayerNorm then gives every
token's vector the same scale (Devlin et al. 2019, figure 2):

    x = LayerNorm(e_token + e_position + e_segment)

The paper has the sum alone; LayerNorm and dropout are in BERT's published code.
"""

from torch import Tensor, nn

from src.model.positional_encoding import LearnedPositionalEncoding, SinusoidalPositionalEncoding
from src.utils.config import BertConfig


class BertEmbedding(nn.Module):
    """Sums the embeddings of token, position and segment, then applies LayerNorm and dropout.

    With `type_vocab_size` 0 there are no segments (DistilBERT).
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        V, D, segments = config.vocab_size, config.hidden_size, config.type_vocab_size
        learned = config.positional_encoding == "learned"
        self.token = nn.Embedding(V, D, padding_idx=config.pad_token_id)
        self.position = LearnedPositionalEncoding(config) if learned else SinusoidalPositionalEncoding(config)
        self.segment = nn.Embedding(segments, D) if segments else None
        self.norm = nn.LayerNorm(D, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Embeds a batch.

        Args:
            input_ids: int64, shape (B, T).
            token_type_ids: segment of every token, int64, shape (B, T); None: all in segment 0.

        Returns:
            float, shape (B, T, D).

        Raises:
            IndexError: there are more tokens than positions, or, on a CPU, a token id is outside the vocabulary.
        """
        _, T = input_ids.shape
        is_token = input_ids != self.token.padding_idx if self.position.offset else None  # of RoBERTa
        x = self._look_up(input_ids) + self.position(T, is_token)  # (B, T, D) + (T, D)
        if self.segment is not None:
            # All in segment 0: its one row, (D,), serves the whole batch.
            x = x + (self.segment.weight[0] if token_type_ids is None else self.segment(token_type_ids))
        return self.dropout(self.norm(x))  # (B, T, D)

    def _look_up(self, input_ids: Tensor) -> Tensor:
        try:
            return self.token(input_ids)  # (B, T, D)
        except IndexError as error:  # PyTorch's own message names neither the id nor the table
            V = self.token.num_embeddings
            wrong = input_ids[(input_ids < 0) | (input_ids >= V)][0]
            raise IndexError(f"token id {int(wrong)} is outside vocab_size = {V}") from error
