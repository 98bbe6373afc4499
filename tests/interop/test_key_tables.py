import pytest
import torch
from torch import nn

from src.interop.key_tables import canonical_names, from_hugging_face, their_names, to_hugging_face
from src.model.bert import BertForMaskedLM, BertForSequenceClassification
from src.utils.errors import CheckpointError
from tests.interop.peers import FAMILIES, C, D, our_config, randomized, their_model

HEADS = ("classifier", "masked_lm")


def our_model(family: str, head: str) -> nn.Module:
    config = our_config(family)
    model: nn.Module = randomized(
        BertForSequenceClassification(config, C) if head == "classifier" else BertForMaskedLM(config)
    )
    return model


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_the_table_names_exactly_the_parameters_of_transformers_and_is_invertible(family: str, head: str) -> None:
    theirs = {name: tuple(p.shape) for name, p in their_model(family, head).named_parameters()}
    state = our_model(family, head).state_dict()
    renamed = to_hugging_face(state, family)
    assert {name: tuple(tensor.shape) for name, tensor in renamed.items()} == theirs
    back = from_hugging_face(renamed, state, family)
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(back[name], tensor), name


def test_layer_number_of_two_digits_is_kept_whole() -> None:
    theirs = ("distilbert.transformer.layer.11.sa_layer_norm.bias",)
    assert their_names("bert.encoder.layers.11.attention_norm.bias", "distilbert") == theirs


def test_written_tensors_are_contiguous() -> None:
    state = {"bert.encoder.layers.0.attention.query_key_value.weight": torch.randn(D, 3 * D).T}
    assert all(tensor.is_contiguous() for tensor in to_hugging_face(state, "bert").values())


def test_incomplete_stack_is_not_found() -> None:
    ours = "bert.encoder.layers.0.attention.query_key_value.bias"
    query, key, _ = their_names(ours, "bert")
    assert from_hugging_face({query: torch.zeros(D), key: torch.zeros(D)}, [ours], "bert") == {}


def test_old_names_become_the_current_ones() -> None:
    for family, old, expected in (
        ("bert", "bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight"),
        ("bert", "_orig_mod.module.bert.pooler.dense.bias", "bert.pooler.dense.bias"),
        ("bert", "encoder.layer.0.output.dense.bias", "bert.encoder.layer.0.output.dense.bias"),
        ("bert", "cls.predictions.bias", "cls.predictions.bias"),
        ("roberta", "embeddings.LayerNorm.beta", "roberta.embeddings.LayerNorm.bias"),
        ("distilbert", "module.transformer.layer.0.ffn.lin1.bias", "distilbert.transformer.layer.0.ffn.lin1.bias"),
    ):
        assert list(canonical_names({old: torch.zeros(1)}, family)) == [expected]


def test_two_spellings_of_one_name_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"classifier\.bias"):
        canonical_names({"classifier.bias": torch.zeros(1), "module.classifier.bias": torch.ones(1)}, "bert")
