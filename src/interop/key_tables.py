"""What our parameters are called in Hugging Face checkpoints; `.weight` and `.bias` follow on both sides."""

import re

EMBEDDING = {"token": "word_embeddings", "position": "position_embeddings", "segment": "token_type_embeddings"}
# Ours to those of BERT and RoBERTa, and of DistilBERT.
LAYER = {
    "attention.query": ("attention.self.query", "attention.q_lin"),
    "attention.key": ("attention.self.key", "attention.k_lin"),
    "attention.value": ("attention.self.value", "attention.v_lin"),
    "attention.output": ("attention.output.dense", "attention.out_lin"),
    "attention_norm": ("attention.output.LayerNorm", "sa_layer_norm"),
    "feed_forward.expand": ("intermediate.dense", "ffn.lin1"),
    "feed_forward.contract": ("output.dense", "ffn.lin2"),
    "feed_forward_norm": ("output.LayerNorm", "output_layer_norm"),
}
# Ours to those of BERT, DistilBERT and RoBERTa. Of masked_lm itself there is a bias; the matrix is the token embedding.
HEADS = {
    "pooler.dense": ("bert.pooler.dense", "pre_classifier", "classifier.dense"),
    "classifier": ("classifier", "classifier", "classifier.out_proj"),
    "masked_lm.transform": ("cls.predictions.transform.dense", "vocab_transform", "lm_head.dense"),
    "masked_lm.norm": ("cls.predictions.transform.LayerNorm", "vocab_layer_norm", "lm_head.layer_norm"),
    "masked_lm": ("cls.predictions", "vocab_projector", "lm_head"),
    "masked_lm.decoder": ("cls.predictions.decoder", "vocab_projector", "lm_head.decoder"),  # tied, so we have none
}


def their_name(ours: str, model_type: str) -> str:
    """Translates a key of our `state_dict`, e.g. "bert.encoder.layers.3.attention.output.bias", to Hugging Face's."""
    module, kind = ours.rsplit(".", 1)
    is_distilbert = model_type == "distilbert"
    if match := re.fullmatch(r"bert\.embedding\.(token|position|segment|norm)", module):
        theirs = f"{model_type}.embeddings.{EMBEDDING.get(match[1], 'LayerNorm')}"
    elif match := re.fullmatch(r"bert\.encoder\.layers\.(\d+)\.(.+)", module):
        layers = "transformer" if is_distilbert else "encoder"
        theirs = f"{model_type}.{layers}.layer.{match[1]}.{LAYER[match[2]][is_distilbert]}"
    else:
        family = ("bert", "distilbert", "roberta").index(model_type)
        theirs = HEADS[module][family] if module in HEADS else module  # of a head of one's own
    return f"{theirs}.{kind}"


def canonical_name(theirs: str, model_type: str) -> str:
    """Gives a tensor's current name: old files say gamma and beta, and bare encoders lack the family's prefix."""
    name = re.sub(r"\bgamma$", "weight", re.sub(r"\bbeta$", "bias", theirs))
    is_bare = re.match(r"(embeddings|encoder|transformer|pooler)\.", name)
    return f"{model_type}.{name}" if is_bare else name
