from dataclasses import replace
from typing import Any

import pytest

from src.utils.config import PRESETS, BertConfig
from src.utils.errors import UsageError
from tests.model.tiny import POSITIONS, V, tiny_config

CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"vocab_size": 0}, "vocab_size = 0"),
    ({"hidden_size": 0}, "hidden_size = 0"),
    ({"num_hidden_layers": 0}, "num_hidden_layers = 0"),
    ({"num_attention_heads": 0}, "num_attention_heads = 0"),
    ({"intermediate_size": 0}, "intermediate_size = 0"),
    ({"num_attention_heads": 3}, "num_attention_heads = 3"),
    ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob = 1.0"),
    ({"attention_probs_dropout_prob": -0.1}, "attention_probs_dropout_prob = -0.1"),
    ({"classifier_dropout": 1.0}, "classifier_dropout = 1.0"),
    ({"pad_token_id": V}, f"pad_token_id = {V}"),
    ({"pad_token_id": -1}, "pad_token_id = -1"),
    ({"max_position_embeddings": 2}, "max_position_embeddings = 2"),
    ({"positional_encoding": "sinusoidal", "hidden_size": 33, "num_attention_heads": 3}, "hidden_size = 33"),
]


@pytest.mark.parametrize("changes, fact", CONTRADICTIONS, ids=[fact for _, fact in CONTRADICTIONS])
def test_contradiction_is_a_usage_error_that_names_the_field(changes: dict[str, Any], fact: str) -> None:
    with pytest.raises(UsageError) as caught:
        tiny_config(**changes)
    assert fact in str(caught.value)


def test_values_at_the_edge_of_a_rule_are_allowed() -> None:
    tiny_config(vocab_size=1, pad_token_id=0)
    tiny_config(pad_token_id=V - 1, max_position_embeddings=3, type_vocab_size=0)
    tiny_config(hidden_size=33, num_attention_heads=3)


def test_longest_sequence_leaves_out_the_rows_roberta_never_uses() -> None:
    assert tiny_config(pad_token_id=1).longest_sequence == POSITIONS
    assert tiny_config(model_type="roberta", pad_token_id=1).longest_sequence == POSITIONS - 2


def test_presets_have_heads_64_wide_and_a_fourfold_expansion_and_base_is_the_default() -> None:
    for preset in PRESETS.values():
        config = replace(BertConfig(), **preset)
        assert config.hidden_size == 64 * config.num_attention_heads
        assert config.intermediate_size == 4 * config.hidden_size
    assert replace(BertConfig(), **PRESETS["base"]) == BertConfig()
