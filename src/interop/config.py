"""config.json, two ways: our `BertConfig` and Hugging Face's, which has the same names for BERT and RoBERTa."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from src.utils.config import BertConfig
from src.utils.errors import CheckpointError, UsageError

# Class names of transformers: a family, then a head.
FAMILIES = {"bert": "Bert", "distilbert": "DistilBert", "roberta": "Roberta"}
HEADS = {"classifier": "ForSequenceClassification", "masked_lm": "ForMaskedLM"}
HOLDERS = {"classifier": ("ForSequenceClassification",), "masked_lm": ("ForMaskedLM", "ForPreTraining")}  # of a head

# Families that differ from another one only in the tokenizer, and what the class names of each family begin with.
SAME_AS = {"xlm-roberta": "roberta", "camembert": "roberta"}
PREFIXES = {prefix: family for family, prefix in FAMILIES.items()} | {"XLMRoberta": "roberta", "Camembert": "roberta"}

# Our names to DistilBERT's; all others are the same.
DISTILBERT_NAMES = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "classifier_dropout": "seq_classif_dropout",
    "hidden_act": "activation",
}
ALIASES = ("hidden_size", "num_hidden_layers", "num_attention_heads")  # DistilBERT reads these names as well

# Defaults of transformers for keys missing in config.json, where BertConfig has other defaults.
DEFAULTS: dict[str, dict[str, Any]] = {
    "distilbert": {"num_hidden_layers": 6, "classifier_dropout": 0.2},
    "roberta": {"vocab_size": 50_265, "pad_token_id": 1},
}

# The types a value may have, by the type of its field; bool, an int to Python, is not among them.
JSON_TYPES: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float)}

# The only values that this encoder supports; config.json may leave them out.
SUPPORTED = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}


def to_hugging_face_config(config: BertConfig, head: str, label_names: Sequence[str] = ()) -> dict[str, Any]:
    """Describes a model, whose head is "classifier" or "masked_lm", so that `transformers` builds the same one."""
    values = asdict(config) | {"hidden_act": "gelu"}
    if config.model_type == "distilbert":
        values = {DISTILBERT_NAMES.get(name, name): value for name, value in values.items()}
        values["sinusoidal_pos_embds"] = False
        del values["type_vocab_size"]
    else:
        values["position_embedding_type"] = "absolute"
    values |= {"architectures": [FAMILIES[config.model_type] + HEADS[head]], "dtype": "float32"}
    if label_names:
        values["id2label"] = dict(enumerate(label_names))
        values["label2id"] = {name: index for index, name in enumerate(label_names)}
    return values


def from_hugging_face_config(values: dict[str, Any], path: Path) -> tuple[BertConfig, tuple[str, ...]]:
    """Reads a model's shape, and the names of its classes or (), from the content of config.json."""
    by_class = [family for prefix, family in PREFIXES.items() if class_name(values).startswith(prefix)]
    family = values.get("model_type") or "".join(by_class)
    family = SAME_AS.get(family, family)
    if family not in FAMILIES:
        what = f"{path}: model_type {family!r} is none of {', '.join((*FAMILIES, *SAME_AS))}"
        raise CheckpointError(f"{what}; correct it, or load it by the class that saved it")
    if family == "distilbert":
        # DistilBERT ignores most of BERT's names, and always has the usual LayerNorm epsilon.
        ignored = {*DISTILBERT_NAMES, "layer_norm_eps"}.difference(ALIASES)
        renamed = {ours: values[theirs] for ours, theirs in DISTILBERT_NAMES.items() if theirs in values}
        values = renamed | {name: value for name, value in values.items() if name not in ignored}
        values["type_vocab_size"] = 0
    given = {name: value for name, value in values.items() if value is not None}
    values = DEFAULTS.get(family, {}) | given | {"model_type": family}
    for name, supported in SUPPORTED.items():
        if values.get(name, supported) != supported:
            raise CheckpointError(f"{path}: {name} {values[name]!r} is not supported; this encoder has {supported}")
    values.setdefault("classifier_dropout", values.get("hidden_dropout_prob", 0.1))
    shape = {field.name: values[field.name] for field in fields(BertConfig) if field.name in values}
    kinds = {field.name: JSON_TYPES.get(field.type, (str,)) for field in fields(BertConfig)}
    if wrong := [name for name, value in shape.items() if type(value) not in kinds[name]]:
        raise CheckpointError(f"{path}: {wrong[0]} {shape[wrong[0]]!r} is of the wrong type; restore the file")
    label_names = {int(index): str(name) for index, name in values.get("id2label", {}).items()}
    if sorted(label_names) != list(range(len(label_names))):
        raise CheckpointError(f"{path}: id2label does not number its classes 0, 1, 2, ...; restore the file")
    if len(label_names) == 1 and values.get("problem_type") == "single_label_classification":
        raise CheckpointError(f"{path}: single_label_classification needs at least two classes; correct problem_type")
    try:
        config = BertConfig(**shape)
    except UsageError as error:
        raise CheckpointError(f"{path}: {error}; restore the file") from None
    return config, tuple(label_names[index] for index in range(len(label_names)))


def unnamed_labels(count: int) -> tuple[str, ...]:
    """Names classes as `transformers` does when they have no names."""
    return tuple(f"LABEL_{number}" for number in range(count))


def class_name(values: dict[str, Any]) -> str:
    """Returns the class of `transformers` that config.json names, or ""."""
    return str((values.get("architectures") or [""])[0])
