import sys
from dataclasses import replace
from typing import Any

import pytest

from src.utils.config import PRESETS, BertConfig
from src.utils.errors import UsageError, run_program
from tests.model.tiny import CONFIG, POSITIONS, D, H, V, tiny_config

CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"vocab_size": 0}, "vocab_size = 0"),
    ({"hidden_size": 0}, "hidden_size = 0"),
    ({"num_hidden_layers": 0}, "num_hidden_layers = 0"),
    ({"num_attention_heads": 0}, "num_attention_heads = 0"),
    ({"intermediate_size": 0}, "intermediate_size = 0"),
    ({"num_attention_heads": 3}, f"num_attention_heads = 3 must divide hidden_size = {D}"),
    ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob = 1.0"),
    ({"hidden_dropout_prob": -0.1}, "hidden_dropout_prob = -0.1"),
    ({"attention_probs_dropout_prob": 1.0}, "attention_probs_dropout_prob = 1.0"),
    ({"attention_probs_dropout_prob": -0.1}, "attention_probs_dropout_prob = -0.1"),
    ({"classifier_dropout": 1.0}, "classifier_dropout = 1.0"),
    ({"classifier_dropout": -0.1}, "classifier_dropout = -0.1"),
    ({"pad_token_id": V}, f"pad_token_id = {V} must be an id below vocab_size = {V}"),
    ({"pad_token_id": -1}, "pad_token_id = -1"),
    ({"max_position_embeddings": 2}, "max_position_embeddings = 2"),
    (
        {"positional_encoding": "sinusoidal", "hidden_size": 33, "num_attention_heads": 3},
        "hidden_size = 33 must be even",
    ),
]


@pytest.mark.parametrize(("changes", "message"), CONTRADICTIONS, ids=[message for _, message in CONTRADICTIONS])
def test_contradiction_is_a_usage_error_that_names_the_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        tiny_config(**changes)
    assert message in str(caught.value)


def test_contradiction_ends_the_program_with_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    def main(arguments: list[str]) -> None:
        tiny_config(num_attention_heads=3)

    monkeypatch.setattr(sys, "argv", ["program"])
    with pytest.raises(SystemExit) as caught:
        run_program(main)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"vocab_size": 1, "pad_token_id": 0},
        {"hidden_dropout_prob": 0.0},
        {"pad_token_id": V - 1},
        {"max_position_embeddings": 3},
        {"hidden_size": 33, "num_attention_heads": 3},
        {"type_vocab_size": 0},
    ],
    ids=str,
)
def test_value_at_the_edge_of_a_rule_is_allowed(changes: dict[str, Any]) -> None:
    assert replace(CONFIG, **changes) != CONFIG or changes.items() <= vars(CONFIG).items()


def test_longest_sequence_leaves_out_the_rows_roberta_never_uses() -> None:
    assert tiny_config(pad_token_id=1).longest_sequence == POSITIONS
    assert tiny_config(model_type="roberta", pad_token_id=1).longest_sequence == POSITIONS - 2


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_a_valid_shape_with_heads_64_wide_and_a_fourfold_expansion(name: str) -> None:
    config = replace(BertConfig(), **PRESETS[name])
    assert config.hidden_size == 64 * config.num_attention_heads
    assert config.intermediate_size == 4 * config.hidden_size


def test_default_shape_is_the_base_preset() -> None:
    assert replace(BertConfig(), **PRESETS["base"]) == BertConfig()
    assert BertConfig().num_attention_heads != H
