"""What the hand-written modules' parameters are called in Hugging Face checkpoints, one two-way table a family.

Each row names a module here and the module or modules there; `.weight` and `.bias` follow on both sides. `{i}` is the
number of an encoder layer. Where a row has three names on the right, their matrices are stacked into one here.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from src.utils.errors import CheckpointError

Row = tuple[str, ...]
Table = Mapping[str, Row]

_BERT_LAYER: dict[str, Row] = {
    "attention.query_key_value": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.output": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "feed_forward.expand": ("intermediate.dense",),
    "feed_forward.contract": ("output.dense",),
    "feed_forward_norm": ("output.LayerNorm",),
}
_DISTILBERT_LAYER: dict[str, Row] = {
    "attention.query_key_value": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "attention.output": ("attention.out_lin",),
    "attention_norm": ("sa_layer_norm",),
    "feed_forward.expand": ("ffn.lin1",),
    "feed_forward.contract": ("ffn.lin2",),
    "feed_forward_norm": ("output_layer_norm",),
}


def _encoder(prefix: str, layers: str, layer: Table) -> dict[str, Row]:
    embeddings = {
        "bert.embedding.token": (f"{prefix}.embeddings.word_embeddings",),
        "bert.embedding.position": (f"{prefix}.embeddings.position_embeddings",),
        "bert.embedding.segment": (f"{prefix}.embeddings.token_type_embeddings",),
        "bert.embedding.norm": (f"{prefix}.embeddings.LayerNorm",),
    }
    return embeddings | {
        f"bert.encoder.layers.{{i}}.{ours}": tuple(f"{prefix}.{layers}.{{i}}.{name}" for name in theirs)
        for ours, theirs in layer.items()
    }


TABLES: dict[str, Table] = {
    "bert": _encoder("bert", "encoder.layer", _BERT_LAYER)
    | {
        "pooler.dense": ("bert.pooler.dense",),
        "classifier": ("classifier",),
        "masked_lm.transform": ("cls.predictions.transform.dense",),
        "masked_lm.norm": ("cls.predictions.transform.LayerNorm",),
        "masked_lm.decoder": ("cls.predictions",),  # its .bias; the decoder's matrix is the token embedding
    },
    "distilbert": _encoder("distilbert", "transformer.layer", _DISTILBERT_LAYER)
    | {
        "pooler.dense": ("pre_classifier",),
        "classifier": ("classifier",),
        "masked_lm.transform": ("vocab_transform",),
        "masked_lm.norm": ("vocab_layer_norm",),
        "masked_lm.decoder": ("vocab_projector",),
    },
    "roberta": _encoder("roberta", "encoder.layer", _BERT_LAYER)
    | {
        "pooler.dense": ("classifier.dense",),
        "classifier": ("classifier.out_proj",),
        "masked_lm.transform": ("lm_head.dense",),
        "masked_lm.norm": ("lm_head.layer_norm",),
        "masked_lm.decoder": ("lm_head",),
    },
}


def their_names(ours: str, model_type: str) -> Row:
    """Translates the name of one parameter.

    Args:
        ours: a key of our `state_dict`, e.g. "bert.encoder.layers.3.attention.output.bias".
        model_type: "bert", "distilbert" or "roberta".

    Returns:
        The Hugging Face keys that hold it: one, or three to be stacked.
    """
    module, kind = ours.rsplit(".", 1)
    number = re.search(r"\.layers\.(\d+)\.", module)
    pattern = module if number is None else module.replace(f".{number[1]}.", ".{i}.", 1)
    filled = (name.replace("{i}", number[1]) if number else name for name in TABLES[model_type][pattern])
    return tuple(f"{name}.{kind}" for name in filled)


def to_hugging_face(state: Mapping[str, Tensor], model_type: str) -> dict[str, Tensor]:
    """Renames our parameters to Hugging Face's, unstacking queries, keys and values.

    Args:
        state: our `state_dict`.
        model_type: the family to write.

    Returns:
        Hugging Face's `state_dict`; tensors are contiguous.
    """
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        names = their_names(key, model_type)
        renamed |= {name: part.contiguous() for name, part in zip(names, tensor.chunk(len(names)), strict=True)}
    return renamed


def from_hugging_face(checkpoint: Mapping[str, Tensor], wanted: Iterable[str], model_type: str) -> dict[str, Tensor]:
    """Collects our parameters out of a Hugging Face checkpoint.

    Args:
        checkpoint: tensors under canonical Hugging Face names (see `canonical_names`).
        wanted: the keys of our `state_dict`.
        model_type: the checkpoint's family.

    Returns:
        Those of the wanted keys that the checkpoint holds.

    Raises:
        CheckpointError: tensors that are to be stacked differ in shape.
    """
    found: dict[str, Tensor] = {}
    for key in wanted:
        names = their_names(key, model_type)
        parts = [checkpoint[name] for name in names if name in checkpoint]
        if len({part.shape for part in parts}) > 1:
            shapes = ", ".join(f"{name} {tuple(part.shape)}" for name, part in zip(names, parts, strict=False))
            raise CheckpointError(f"tensors that belong together have different shapes: {shapes}; restore the file")
        if len(parts) == len(names):
            found[key] = torch.cat(parts) if len(parts) > 1 else parts[0]
    return found


def canonical_names(checkpoint: Mapping[str, Tensor], model_type: str) -> dict[str, Tensor]:
    """Gives a checkpoint's tensors the names that current Hugging Face models use.

    Old files say gamma and beta for LayerNorm, wrappers prepend `module.` or `_orig_mod.`, and bare encoders lack the
    family's prefix.

    Args:
        checkpoint: tensors as they stand in the file.
        model_type: the checkpoint's family.

    Returns:
        The same tensors under canonical names.

    Raises:
        CheckpointError: two tensors have the same canonical name.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in checkpoint.items():
        name = re.sub(r"^(module\.|_orig_mod\.)+", "", name)
        name = re.sub(r"\bgamma$", "weight", re.sub(r"\bbeta$", "bias", name))
        if re.match(r"(embeddings|encoder|transformer|pooler)\.", name):
            name = f"{model_type}.{name}"
        if name in renamed:
            raise CheckpointError(f"{name} stands twice in the checkpoint, under two spellings; remove one of them")
        renamed[name] = tensor
    return renamed
