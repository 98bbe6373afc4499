"""What our parameters are called in Hugging Face checkpoints, one two-way table per family.

Each row names a module here and the module there; `.weight` and `.bias` follow on both sides. `{}` is the number of an
encoder layer.
"""

import re
from collections.abc import Mapping

_BERT_LAYER = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.expand": "intermediate.dense",
    "feed_forward.contract": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
_DISTILBERT_LAYER = {
    "attention.query": "attention.q_lin",
    "attention.key": "attention.k_lin",
    "attention.value": "attention.v_lin",
    "attention.output": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "feed_forward.expand": "ffn.lin1",
    "feed_forward.contract": "ffn.lin2",
    "feed_forward_norm": "output_layer_norm",
}


def _encoder(prefix: str, layers: str, layer: Mapping[str, str]) -> dict[str, str]:
    return {
        "bert.embedding.token": f"{prefix}.embeddings.word_embeddings",
        "bert.embedding.position": f"{prefix}.embeddings.position_embeddings",
        "bert.embedding.segment": f"{prefix}.embeddings.token_type_embeddings",
        "bert.embedding.norm": f"{prefix}.embeddings.LayerNorm",
        **{f"bert.encoder.layers.{{}}.{ours}": f"{prefix}.{layers}.{{}}.{theirs}" for ours, theirs in layer.items()},
    }


TABLES = {
    "bert": {
        **_encoder("bert", "encoder.layer", _BERT_LAYER),
        "pooler.dense": "bert.pooler.dense",
        "classifier": "classifier",
        "masked_lm.transform": "cls.predictions.transform.dense",
        "masked_lm.norm": "cls.predictions.transform.LayerNorm",
        "masked_lm": "cls.predictions",  # its .bias; the matrix is the token embedding
    },
    "distilbert": {
        **_encoder("distilbert", "transformer.layer", _DISTILBERT_LAYER),
        "pooler.dense": "pre_classifier",
        "classifier": "classifier",
        "masked_lm.transform": "vocab_transform",
        "masked_lm.norm": "vocab_layer_norm",
        "masked_lm": "vocab_projector",
    },
    "roberta": {
        **_encoder("roberta", "encoder.layer", _BERT_LAYER),
        "pooler.dense": "classifier.dense",
        "classifier": "classifier.out_proj",
        "masked_lm.transform": "lm_head.dense",
        "masked_lm.norm": "lm_head.layer_norm",
        "masked_lm": "lm_head",
    },
}


def their_name(ours: str, model_type: str) -> str:
    """Translates a key of our `state_dict`, e.g. "bert.encoder.layers.3.attention.output.bias", to Hugging Face's."""
    module, kind = ours.rsplit(".", 1)
    row, layer = re.sub(r"\d+", "{}", module), re.findall(r"\d+", module)
    return TABLES[model_type][row].format(*layer) + f".{kind}"


def canonical_name(theirs: str, model_type: str) -> str:
    """Gives the name that current Hugging Face models use for a tensor of a checkpoint.

    Old files say gamma and beta for LayerNorm, and bare encoders lack the family's prefix.
    """
    name = re.sub(r"\bgamma$", "weight", re.sub(r"\bbeta$", "bias", theirs))
    is_bare = re.match(r"(embeddings|encoder|transformer|pooler)\.", name)
    return f"{model_type}.{name}" if is_bare else name
