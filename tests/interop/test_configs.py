from dataclasses import replace
from typing import Any

import pytest
import transformers

from src.interop.configs import from_hugging_face_config, to_hugging_face_config
from src.utils.errors import CheckpointError
from tests.interop.peers import FAMILIES, LABELS, POSITIONS, D, H, V, our_config, their_config

WHERE = "folder/config.json"

THEIRS = {
    "bert": transformers.BertConfig,
    "distilbert": transformers.DistilBertConfig,
    "roberta": transformers.RobertaConfig,
}


def values(family: str, **changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = their_config(family).to_dict()
    return content | changes


@pytest.mark.parametrize("family", FAMILIES)
def test_shape_survives_the_way_to_transformers_and_back(family: str) -> None:
    ours = replace(
        our_config(family),
        hidden_dropout_prob=0.11,
        attention_probs_dropout_prob=0.13,
        classifier_dropout=0.17,
        initializer_range=0.03,
    )
    theirs = THEIRS[family](**to_hugging_face_config(ours, "classifier", LABELS))
    assert from_hugging_face_config(theirs.to_dict(), WHERE) == (ours, LABELS)
    for head in ("classifier", "masked_lm"):
        written = to_hugging_face_config(ours, head)
        assert getattr(transformers, written["architectures"][0]).config_class is THEIRS[family]
        assert from_hugging_face_config(written, WHERE) == (ours, ())


@pytest.mark.parametrize("family", FAMILIES)
def test_value_left_out_is_the_default_of_transformers(family: str) -> None:
    found, _ = from_hugging_face_config({"model_type": family}, WHERE)
    expected, _ = from_hugging_face_config(THEIRS[family]().to_dict(), WHERE)
    assert found == expected


@pytest.mark.parametrize(
    ("family", "changes", "named"),
    [
        ("bert", {"hidden_act": "gelu_new"}, ["hidden_act", "gelu_new"]),
        ("distilbert", {"activation": "relu"}, ["hidden_act", "relu"]),
        ("bert", {"position_embedding_type": "relative_key"}, ["position_embedding_type", "relative_key"]),
        ("bert", {"positional_encoding": "rotary"}, ["positional_encoding", "rotary"]),
        ("bert", {"is_decoder": True}, ["is_decoder"]),
        ("bert", {"num_attention_heads": 3}, ["num_attention_heads", "3", "hidden_size", str(D)]),
        ("distilbert", {"n_layers": None}, ["num_hidden_layers", "None"]),
        ("bert", {"pad_token_id": V}, ["pad_token_id", str(V)]),
        ("bert", {"id2label": {"0": "no", "2": "yes"}}, ["id2label"]),
    ],
)
def test_what_this_encoder_is_not_is_refused_by_name(family: str, changes: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(CheckpointError) as caught:
        from_hugging_face_config(values(family, **changes), WHERE)
    assert all(fact in str(caught.value) for fact in (WHERE, *named))


def test_label_names_are_in_the_order_of_their_numbers() -> None:
    eleven = {str(i): f"label {i}" for i in (10, *range(10))}
    assert from_hugging_face_config(values("bert", id2label=eleven), WHERE)[1][-2:] == ("label 9", "label 10")


def test_what_a_family_has_of_its_own_is_read() -> None:
    config = our_config("roberta")
    assert (config.num_attention_heads, config.max_position_embeddings) == (H, POSITIONS)
    assert (config.pad_token_id, config.position_offset, config.layer_norm_eps) == (1, 2, 1e-3)
    assert our_config("distilbert").type_vocab_size == 0
    config, _ = from_hugging_face_config(values("bert", classifier_dropout=None, hidden_dropout_prob=0.23), WHERE)
    assert config.classifier_dropout == 0.23  # as in the hidden layers
