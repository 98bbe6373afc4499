"""config.json, two ways: our `BertConfig` and Hugging Face's, which speaks the same names for BERT and RoBERTa."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from src.utils.config import BertConfig
from src.utils.errors import CheckpointError, UsageError

ARCHITECTURES = {
    "bert": {"classifier": "BertForSequenceClassification", "masked_lm": "BertForMaskedLM"},
    "distilbert": {"classifier": "DistilBertForSequenceClassification", "masked_lm": "DistilBertForMaskedLM"},
    "roberta": {"classifier": "RobertaForSequenceClassification", "masked_lm": "RobertaForMaskedLM"},
}

# Ours to DistilBERT's; all other names agree.
DISTILBERT_NAMES = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "classifier_dropout": "seq_classif_dropout",
}

FEW = 1e6  # what a rate, a deviation or an epsilon stays far below

# What transformers takes where config.json is silent, unless BertConfig takes the same.
DEFAULTS: dict[str, dict[str, Any]] = {
    "bert": {},
    "distilbert": {"num_hidden_layers": 6, "classifier_dropout": 0.2},
    "roberta": {"vocab_size": 50_265, "pad_token_id": 1},
}


def to_hugging_face_config(config: BertConfig, head: str, label_names: Sequence[str] = ()) -> dict[str, Any]:
    """Describes a model so that `transformers` builds the same one.

    Args:
        config: the model's shape.
        head: "classifier" or "masked_lm".
        label_names: names of the classes, in order of their logits.

    Returns:
        The content of config.json.
    """
    values = asdict(config)
    if config.model_type == "distilbert":
        values = {DISTILBERT_NAMES.get(name, name): value for name, value in values.items()}
        values |= {"activation": "gelu", "sinusoidal_pos_embds": False}
        del values["type_vocab_size"]
    else:
        values |= {"hidden_act": "gelu", "position_embedding_type": "absolute"}
    values |= {"architectures": [ARCHITECTURES[config.model_type][head]], "dtype": "float32"}
    if label_names:
        values["id2label"] = dict(enumerate(label_names))
        values["label2id"] = {name: index for index, name in enumerate(label_names)}
    return values


def from_hugging_face_config(values: dict[str, Any], where: str) -> tuple[BertConfig, tuple[str, ...]]:
    """Reads the shape of a model, and refuses what this encoder is not.

    Args:
        values: the content of config.json.
        where: the file, for messages.

    Returns:
        The shape, and the names of the classes (none if the file holds none).

    Raises:
        CheckpointError: another family, activation or kind of positions, or a value that is missing or contradictory.
    """
    family = values.get("model_type")
    if not isinstance(family, str) or family not in ARCHITECTURES:
        raise CheckpointError(
            f"{where}: model_type {family!r} is not supported; this encoder reads {', '.join(ARCHITECTURES)}, "
            "others differ in layer order, attention or positions"
        )
    if family == "distilbert":
        values = values | {ours: values[theirs] for ours, theirs in DISTILBERT_NAMES.items() if theirs in values}
        values["type_vocab_size"] = 0
    values = DEFAULTS[family] | values
    _refuse_variants(values, where)
    if values.get("classifier_dropout") is None:
        values = values | {"classifier_dropout": values.get("hidden_dropout_prob", 0.1)}
    return _shape(values, where), _label_names(values, where)


def _shape(values: dict[str, Any], where: str) -> BertConfig:
    shape = {field.name: values.get(field.name, field.default) for field in fields(BertConfig)}
    for field in fields(BertConfig):
        kind, value = type(field.default), shape[field.name]
        fits = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
        if not fits or (kind is float and not abs(value) < FEW):
            raise CheckpointError(f"{where}: {field.name} is {value!r:.40}, no {kind.__name__}; restore the file")
    try:
        return BertConfig(**shape)
    except UsageError as error:
        raise CheckpointError(f"{where}: {error}; restore the file") from None


def _refuse_variants(values: dict[str, Any], where: str) -> None:
    activation = values.get("hidden_act", values.get("activation", "gelu"))
    if activation != "gelu":
        raise CheckpointError(f"{where}: hidden_act {activation!r} is not supported; this encoder computes gelu")
    positions = values.get("position_embedding_type", "absolute")
    if positions not in ("absolute", None):
        raise CheckpointError(
            f"{where}: position_embedding_type {positions!r} is not supported; this encoder adds absolute positions"
        )
    if values.get("positional_encoding", "learned") not in ("learned", "sinusoidal"):
        raise CheckpointError(
            f"{where}: positional_encoding {values['positional_encoding']!r} is neither learned nor sinusoidal"
        )
    if values.get("is_decoder") or values.get("add_cross_attention"):
        raise CheckpointError(f"{where}: is_decoder is not supported; this encoder attends to both sides")


def _label_names(values: dict[str, Any], where: str) -> tuple[str, ...]:
    names = values.get("id2label") or {}
    try:
        ordered = sorted((int(index), str(name)) for index, name in names.items())
    except (ValueError, AttributeError):
        raise CheckpointError(f"{where}: id2label must map class indices to names; restore the file") from None
    if [index for index, _ in ordered] != list(range(len(ordered))):
        raise CheckpointError(f"{where}: id2label must number its classes 0, 1, 2, ...; restore the file")
    return tuple(name for _, name in ordered)
