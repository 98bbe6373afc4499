import pytest
import torch

from src.interop.key_tables import canonical_names, their_name
from src.utils.errors import CheckpointError


def test_layer_number_of_two_digits_is_kept_whole() -> None:
    theirs = "distilbert.transformer.layer.11.sa_layer_norm.bias"
    assert their_name("bert.encoder.layers.11.attention_norm.bias", "distilbert") == theirs


@pytest.mark.parametrize(
    ("family", "old", "expected"),
    [
        ("bert", "bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight"),
        ("bert", "_orig_mod.module.bert.pooler.dense.bias", "bert.pooler.dense.bias"),
        ("bert", "encoder.layer.0.output.dense.bias", "bert.encoder.layer.0.output.dense.bias"),
        ("bert", "cls.predictions.bias", "cls.predictions.bias"),
        ("roberta", "embeddings.LayerNorm.beta", "roberta.embeddings.LayerNorm.bias"),
        ("distilbert", "module.transformer.layer.0.ffn.lin1.bias", "distilbert.transformer.layer.0.ffn.lin1.bias"),
    ],
)
def test_old_names_become_the_current_ones(family: str, old: str, expected: str) -> None:
    assert list(canonical_names({old: torch.zeros(1)}, family)) == [expected]


def test_two_spellings_of_one_name_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"classifier\.bias"):
        canonical_names({"classifier.bias": torch.zeros(1), "module.classifier.bias": torch.ones(1)}, "bert")
