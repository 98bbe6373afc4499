"""What the hand-written modules' parameters are called in Hugging Face checkpoints, one two-way table a family.

Each row names a module here and the module there; `.weight` and `.bias` follow on both sides. `{i}` is the number of an
encoder layer.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from src.utils.errors import CheckpointError

Table = Mapping[str, str]

_BERT_LAYER: dict[str, str] = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.expand": "intermediate.dense",
    "feed_forward.contract": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
_DISTILBERT_LAYER: dict[str, str] = {
    "attention.query": "attention.q_lin",
    "attention.key": "attention.k_lin",
    "attention.value": "attention.v_lin",
    "attention.output": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "feed_forward.expand": "ffn.lin1",
    "feed_forward.contract": "ffn.lin2",
    "feed_forward_norm": "output_layer_norm",
}


def _encoder(prefix: str, layers: str, layer: Table) -> dict[str, str]:
    embeddings = {
        "bert.embedding.token": f"{prefix}.embeddings.word_embeddings",
        "bert.embedding.position": f"{prefix}.embeddings.position_embeddings",
        "bert.embedding.segment": f"{prefix}.embeddings.token_type_embeddings",
        "bert.embedding.norm": f"{prefix}.embeddings.LayerNorm",
    }
    return embeddings | {
        f"bert.encoder.layers.{{i}}.{ours}": f"{prefix}.{layers}.{{i}}.{theirs}" for ours, theirs in layer.items()
    }


TABLES: dict[str, Table] = {
    "bert": _encoder("bert", "encoder.layer", _BERT_LAYER)
    | {
        "pooler.dense": "bert.pooler.dense",
        "classifier": "classifier",
        "masked_lm.transform": "cls.predictions.transform.dense",
        "masked_lm.norm": "cls.predictions.transform.LayerNorm",
        "masked_lm.decoder": "cls.predictions",  # its .bias; the decoder's matrix is the token embedding
    },
    "distilbert": _encoder("distilbert", "transformer.layer", _DISTILBERT_LAYER)
    | {
        "pooler.dense": "pre_classifier",
        "classifier": "classifier",
        "masked_lm.transform": "vocab_transform",
        "masked_lm.norm": "vocab_layer_norm",
        "masked_lm.decoder": "vocab_projector",
    },
    "roberta": _encoder("roberta", "encoder.layer", _BERT_LAYER)
    | {
        "pooler.dense": "classifier.dense",
        "classifier": "classifier.out_proj",
        "masked_lm.transform": "lm_head.dense",
        "masked_lm.norm": "lm_head.layer_norm",
        "masked_lm.decoder": "lm_head",
    },
}


def their_name(ours: str, model_type: str) -> str:
    """Translates the name of one parameter.

    Args:
        ours: a key of our `state_dict`, e.g. "bert.encoder.layers.3.attention.output.bias".
        model_type: "bert", "distilbert" or "roberta".

    Returns:
        The Hugging Face key.
    """
    module, kind = ours.rsplit(".", 1)
    number = re.search(r"\.layers\.(\d+)\.", module)
    if number is None:
        return f"{TABLES[model_type][module]}.{kind}"
    pattern = module.replace(f".{number[1]}.", ".{i}.", 1)
    return f"{TABLES[model_type][pattern]}.{kind}".replace("{i}", number[1])


def to_hugging_face(state: Mapping[str, Tensor], model_type: str) -> dict[str, Tensor]:
    """Renames our parameters to Hugging Face's; tensors become contiguous."""
    return {their_name(key, model_type): tensor.contiguous() for key, tensor in state.items()}


def from_hugging_face(checkpoint: Mapping[str, Tensor], wanted: Iterable[str], model_type: str) -> dict[str, Tensor]:
    """Collects our parameters out of a Hugging Face checkpoint.

    Args:
        checkpoint: tensors under canonical Hugging Face names (see `canonical_names`).
        wanted: the keys of our `state_dict`.
        model_type: the checkpoint's family.

    Returns:
        Those of the wanted keys that the checkpoint holds.
    """
    names = {key: their_name(key, model_type) for key in wanted}
    return {key: checkpoint[name] for key, name in names.items() if name in checkpoint}


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
