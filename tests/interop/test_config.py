from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers

from src.interop.config import from_hugging_face_config, to_hugging_face_config
from src.interop.huggingface import RATES
from src.utils.errors import CheckpointError
from tests.interop.peers import CLASSES, FAMILIES, LABELS, V, our_config, their_config

WHERE = Path("folder/config.json")


def theirs(family: str, **values: Any) -> Any:
    return getattr(transformers, f"{CLASSES[family]}Config")(**values)


@pytest.mark.parametrize("family", FAMILIES)
def test_shape_survives_the_way_to_transformers_and_back(family: str) -> None:
    rates: dict[str, Any] = dict(zip(RATES, (0.11, 0.13, 0.17), strict=True))
    ours = replace(our_config(family), initializer_range=0.03, **rates)
    config = theirs(family, **to_hugging_face_config(ours, "classifier", LABELS))
    assert from_hugging_face_config(config.to_dict(), WHERE) == (ours, LABELS)
    for head in ("classifier", "masked_lm"):
        written = to_hugging_face_config(ours, head)
        assert getattr(transformers, written["architectures"][0]).config_class is type(config)
        assert from_hugging_face_config(written, WHERE) == (ours, ())


@pytest.mark.parametrize("family", FAMILIES)
def test_value_left_out_is_the_default_of_transformers(family: str) -> None:
    found, _ = from_hugging_face_config({"model_type": family}, WHERE)
    assert found == from_hugging_face_config(theirs(family).to_dict(), WHERE)[0]


@pytest.mark.parametrize(
    ("family", "changes", "named"),
    [
        ("bert", {"model_type": "gpt2"}, "gpt2"),
        ("bert", {"hidden_act": "gelu_new"}, "gelu_new"),
        ("distilbert", {"activation": "relu"}, "relu"),
        ("bert", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("bert", {"is_decoder": True}, "is_decoder"),
        ("bert", {"num_attention_heads": 3}, "num_attention_heads"),
        ("bert", {"hidden_size": "32"}, "hidden_size"),
        ("bert", {"pad_token_id": V}, "pad_token_id"),
        ("bert", {"id2label": {"0": "no", "2": "yes"}}, "id2label"),
    ],
)
def test_what_this_encoder_is_not_is_refused_by_name(family: str, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        from_hugging_face_config(their_config(family).to_dict() | changes, WHERE)
    assert str(WHERE) in str(caught.value) and named in str(caught.value)


def test_what_a_family_or_a_file_has_of_its_own_is_read() -> None:
    config = our_config("roberta")
    assert (config.pad_token_id, config.position_offset, config.layer_norm_eps) == (1, 2, 1e-3)
    assert our_config("distilbert").type_vocab_size == 0
    labels = {str(i): f"label {i}" for i in (10, *range(10))}  # in any order
    values: dict[str, Any] = {"classifier_dropout": None, "hidden_dropout_prob": 0.23, "id2label": labels}
    config, names = from_hugging_face_config(their_config("bert").to_dict() | values, WHERE)
    assert config.classifier_dropout == 0.23 and names[-2:] == ("label 9", "label 10")
