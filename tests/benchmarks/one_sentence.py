"""One real sentence through the shipped classifier, and what every step computes, for src/model/README.md."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.data.tokenizer import encode
from src.interop.huggingface import load_classifier
from src.model.attention import scaled_dot_product_attention
from src.model.bert import Bert, BertForSequenceClassification
from src.model.encoder import EncoderLayer
from src.utils.config import SHIPPED_CHECKPOINT

SENTENCE = "Sweet without being sticky."  # of the bundled sample: the shipped model was not trained on it
LAYER, HEAD = 1, 2  # counted from 1; the head that brings the two pieces of "sticky" together
MEANINGS = (
    "sentences",
    "tokens",
    "hidden size",
    "attention heads",
    "dimensions of one head, D / H",
    "width of the feed-forward layer",
    "vocabulary size",
    "classes",
)
MINUS = "\u2212"


@dataclass(frozen=True)
class Head:
    """What one head of one layer computes."""

    query: Tensor  # (T, D_h)
    key: Tensor  # (T, D_h)
    value: Tensor  # (T, D_h)
    weights: Tensor  # (T, T)
    context: Tensor  # (T, D_h)


@dataclass(frozen=True)
class Walk:
    """All steps from the sentence to its logits."""

    model: BertForSequenceClassification
    label_names: tuple[str, ...]
    tokens: list[str]
    input_ids: Tensor  # (1, T)
    summands: Mapping[str, Tensor]  # token, position and segment: (T, D)
    hidden_states: list[Tensor]  # embeddings and every layer's output, (T, D); of the last layer (1, D)
    attentions: list[Tensor]  # of every layer, (H, T, T); of the last one (H, 1, T)
    head: Head
    logits: Tensor  # (C,)

    @property
    def sizes(self) -> dict[str, int]:
        """The letters of the legend of shapes, for this sentence and this model."""
        config = self.model.config
        B, T = self.input_ids.shape
        D, H = config.hidden_size, config.num_attention_heads
        sizes = {"B": B, "T": T, "D": D, "H": H, "D_h": D // H, "D_ff": config.intermediate_size}
        return sizes | {"V": config.vocab_size, "C": self.model.num_labels}


@torch.inference_mode()
def walk() -> Walk:
    """Runs the shipped model on the sentence."""
    classifier = load_classifier(SHIPPED_CHECKPOINT)
    model = classifier.model.eval()
    input_ids = torch.tensor(encode(classifier.tokenizer, [SENTENCE], classifier.seq_len).input_ids)
    output = model.bert(input_ids, return_attentions=True, last_layer_cls_only=True)
    return Walk(
        model,
        classifier.label_names,
        [str(classifier.tokenizer.id_to_token(index)) for index in input_ids[0].tolist()],
        input_ids,
        _summands(model.bert, input_ids),
        [states[0] for states in output.hidden_states],
        [weights[0] for weights in output.attentions],
        _head(model.bert, output.hidden_states[LAYER - 1]),
        model(input_ids)[0],
    )


def _summands(bert: Bert, input_ids: Tensor) -> dict[str, Tensor]:
    embedding, T = bert.embedding, input_ids.shape[1]
    assert embedding.segment is not None
    segment = embedding.segment.weight[:1].expand(T, -1)  # all tokens belong to segment 0
    return {"token": embedding.token(input_ids)[0], "position": embedding.position(T), "segment": segment}


def _head(bert: Bert, x: Tensor) -> Head:
    layer = bert.encoder.layers[LAYER - 1]
    assert isinstance(layer, EncoderLayer)
    attention = layer.attention
    projected = (attention.query(x), attention.key(x), attention.value(x))  # 3 of (1, T, D)
    query, key, value = (
        part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in projected
    )  # 3 of (1, H, T, D_h)
    context, weights = scaled_dot_product_attention(query, key, value)
    return Head(*(part[0, HEAD - 1] for part in (query, key, value, weights, context)))


def summary(found: Walk) -> str:
    """Says in Markdown what the letters of the shapes stand for here, what came out, and where the parameters are."""
    letters = " | ".join(f"`{letter}`" for letter in found.sizes)
    sizes = " | ".join(f"{size:,}" for size in found.sizes.values())
    return f"""| {letters} |
{"|---" * len(found.sizes)}|
| {" | ".join(MEANINGS)} |
| {sizes} |

{_ends(found)}
{_parameters(found.model)}
"""


def _ends(found: Walk) -> str:
    shares = found.logits.softmax(-1).tolist()
    ends = zip(found.label_names, found.logits.tolist(), shares, strict=True)
    said = " and ".join(f"{logit:.2f} for {name} ({100 * share:.0f} %)" for name, logit, share in ends)
    return f"The logits are {said.replace('-', MINUS)}."


def _parameters(model: BertForSequenceClassification) -> str:
    layers = model.bert.encoder.layers
    layer = layers[0]
    assert isinstance(layer, EncoderLayer)
    norms = _count(layer.attention_norm, layer.feed_forward_norm)
    return f"""Of the model's {_count(model)} parameters {_count(model.bert.embedding)} are in the embeddings, \
{_count(layer)} in each of {len(layers)} layers
(attention {_count(layer.attention)}, feed-forward {_count(layer.feed_forward)}, LayerNorms {norms}), \
{_count(model.pooler)} in the pooler and {_count(model.classifier)} in the classifier."""


def _count(*modules: nn.Module) -> str:
    return f"{sum(parameter.numel() for module in modules for parameter in module.parameters()):,}"
