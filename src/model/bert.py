"""BERT, and what is put on top of it.

BERT is the encoder alone: each of its vectors has seen the words on both sides. Pre-training hides some tokens and
lets the masked-language-model head predict them, which needs no labels. Fine-tuning replaces that head by a classifier
that reads the vector of the first token, [CLS] (Devlin et al. 2019, sections 3 and 4.1).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.model.embedding import BertEmbedding
from src.model.encoder import Encoder
from src.utils.config import BertConfig


@dataclass(frozen=True)
class BertOutput:
    """What BERT computed: hidden states of all layers, and attention weights if they were asked for.

    With `last_layer_cls_only` those of the last layer are (B, 1, D) and (B, H, 1, T).
    """

    hidden_states: list[Tensor]  # L + 1 of (B, T, D), embeddings first
    attentions: list[Tensor]  # L of (B, H, T, T), or empty

    @property
    def last_hidden_state(self) -> Tensor:
        """The last layer's output, shape (B, T, D)."""
        return self.hidden_states[-1]


class Pretrained(nn.Module):
    """A module that can be loaded from a checkpoint."""

    config: BertConfig

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> Self:
        """Loads a folder, or an id of the hub such as "google-bert/bert-base-uncased", for evaluation on the CPU."""
        from src.interop.huggingface import from_pretrained  # not above: it needs the classes below

        return from_pretrained(cls, name_or_path)


class Bert(Pretrained):
    """Embeddings and encoder (Devlin et al. 2019, section 3)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.embedding = BertEmbedding(config)
        self.encoder = Encoder(config)
        initialize(self, config.initializer_range)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        return_attentions: bool = False,
        last_layer_cls_only: bool = False,
    ) -> BertOutput:
        """Encodes a batch of token ids.

        Args:
            input_ids: int64, shape (B, T).
            attention_mask: 1 or True at real tokens, 0 or False at padding, shape (B, T); None: nothing is padded.
            token_type_ids: segment of every token, int64, shape (B, T); None: one segment.
            return_attentions: also return every layer's attention weights.
            last_layer_cls_only: compute only [CLS] in the last layer: the same vector, for a fraction of the work.

        Raises:
            IndexError: there are more tokens than positions, or, on a CPU, a token id is outside the vocabulary.
        """
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None, :]  # (B, 1, 1, T)
        x = self.embedding(input_ids, token_type_ids)  # (B, T, D)
        return BertOutput(*self.encoder(x, mask, return_attentions, last_layer_cls_only))


class Pooler(nn.Module):
    """Maps the vector of [CLS] to one of the sentence: tanh(W h_[CLS] + b), in BERT's code though not in its paper.

    DistilBERT has relu in place of tanh.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = torch.relu if config.model_type == "distilbert" else torch.tanh

    def forward(self, last_hidden_state: Tensor) -> Tensor:
        """Maps float (B, T, D), or (B, 1, D), to (B, D)."""
        return self.activation(self.dense(last_hidden_state[:, 0]))


class BertForSequenceClassification(Pretrained):
    """BERT, pooler, dropout and one linear layer to C classes (Devlin et al. 2019, section 4.1)."""

    def __init__(self, config: BertConfig, num_labels: int):
        super().__init__()
        self.config = config
        self.num_labels = num_labels
        self.bert = Bert(config)
        self.pooler = Pooler(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, num_labels)
        initialize(self.pooler, config.initializer_range)
        initialize(self.classifier, config.initializer_range)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Maps token ids, int64 (B, T), to logits, float (B, C); the arguments are those of `Bert.forward`."""
        output = self.bert(input_ids, attention_mask, token_type_ids, last_layer_cls_only=True)
        x = self.pooler(output.last_hidden_state)  # (B, 1, D) -> (B, D)
        return self.classifier(self.dropout(x))  # (B, D) -> (B, C)


class MaskedLMHead(nn.Module):
    """Scores every token of the vocabulary: logits u E^T + b, with u = LayerNorm(GELU(h W + b')).

    E is the token embedding itself, used for input and output alike (Vaswani et al. 2017, section 3.4). The layer that
    makes u of h is in BERT's code, not in its paper.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.transform = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))  # b; the matrix comes with `forward`

    def forward(self, x: Tensor, token_embedding: Tensor) -> Tensor:
        """Maps float (..., D) to logits (..., V), given the token embedding (V, D)."""
        x = self.norm(F.gelu(self.transform(x)))
        return F.linear(x, token_embedding, self.bias)


class BertForMaskedLM(Pretrained):
    """BERT that predicts masked tokens (Devlin et al. 2019, section 3.1, task 1)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.bert = Bert(config)
        self.masked_lm = MaskedLMHead(config)
        initialize(self.masked_lm, config.initializer_range)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        target_mask: Tensor | None = None,
    ) -> Tensor:
        """Predicts tokens.

        Args:
            input_ids: int64, shape (B, T).
            attention_mask: as in `Bert.forward`.
            token_type_ids: as in `Bert.forward`.
            target_mask: bool, shape (B, T), True at the N tokens to predict; None: predict every token. The product
                with the whole vocabulary is the costliest step of a small model, so training predicts these only.

        Returns:
            Logits over the vocabulary, float, shape (N, V), or (B, T, V) without `target_mask`.
        """
        x = self.bert(input_ids, attention_mask, token_type_ids).last_hidden_state  # (B, T, D)
        if target_mask is not None:
            x = x[target_mask]  # (N, D)
        return self.masked_lm(x, self.bert.embedding.token.weight)


def initialize(module: nn.Module, std: float) -> None:
    """Initialises matrices and embeddings from a normal distribution, biases and [PAD] with zero.

    As `transformers` does; Google's original code draws from a normal distribution cut off at two standard deviations.

    Args:
        module: the module, with everything inside it.
        std: standard deviation (`initializer_range`).
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=std)
            if part.padding_idx is not None:
                nn.init.zeros_(part.weight[part.padding_idx])
