import pytest

from src.interop.key_tables import canonical_name, their_name


def test_layer_number_of_two_digits_is_kept_whole() -> None:
    theirs = "distilbert.transformer.layer.11.sa_layer_norm.bias"
    assert their_name("bert.encoder.layers.11.attention_norm.bias", "distilbert") == theirs


@pytest.mark.parametrize(
    ("family", "old", "expected"),
    [
        ("bert", "bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight"),
        ("bert", "cls.predictions.bias", "cls.predictions.bias"),
        ("roberta", "embeddings.LayerNorm.beta", "roberta.embeddings.LayerNorm.bias"),
        ("distilbert", "transformer.layer.0.ffn.lin1.bias", "distilbert.transformer.layer.0.ffn.lin1.bias"),
    ],
)
def test_old_names_become_the_current_ones(family: str, old: str, expected: str) -> None:
    assert canonical_name(old, family) == expected
