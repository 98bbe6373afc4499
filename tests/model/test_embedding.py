from typing import Any

import pytest
import torch
import torch.nn.functional as F

from src.model.embedding import BertEmbedding
from tests.model.tiny import EPS, D, T, V, padding_mask, randomized, segments, tiny_config, token_ids

PAD, SEGMENTS = 3, 2


def embedding(type_vocab_size: int = SEGMENTS, dropout: float = 0.0, **changes: Any) -> BertEmbedding:
    config = tiny_config(type_vocab_size=type_vocab_size, pad_token_id=PAD, hidden_dropout_prob=dropout, **changes)
    module: BertEmbedding = randomized(BertEmbedding(config))
    return module


def test_embedding_is_the_normalised_sum_of_token_position_and_segment() -> None:
    module, ids, types = embedding(), token_ids(), segments()
    assert module.segment is not None
    total = module.token.weight[ids] + module.position(T) + module.segment.weight[types]
    expected = F.layer_norm(total, (D,), module.norm.weight, module.norm.bias, EPS)
    torch.testing.assert_close(module(ids, types), expected, rtol=0, atol=1e-6)


def test_missing_token_types_mean_segment_zero_in_values_and_gradients() -> None:
    module, ids = embedding(), token_ids()
    gradients = []
    for types in (None, torch.zeros_like(ids)):
        output = module(ids, types)
        gradients.append(torch.autograd.grad((output * output.detach().cos()).sum(), list(module.parameters())))
    torch.testing.assert_close(module(ids), module(ids, torch.zeros_like(ids)), rtol=0, atol=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-5)
    assert (module(ids) - module(ids, torch.ones_like(ids))).abs().max() > 0.01


def test_padding_row_starts_at_zero_and_gets_no_gradient() -> None:
    fresh = BertEmbedding(tiny_config(type_vocab_size=SEGMENTS, pad_token_id=PAD))
    assert fresh.token.weight[PAD].eq(0).all()
    ids = token_ids().masked_fill(~padding_mask(), PAD)
    fresh(ids).pow(3).sum().backward()
    assert fresh.token.weight.grad is not None
    seen = torch.zeros(V, dtype=torch.bool)
    seen[ids.flatten()] = True
    seen[PAD] = False
    assert torch.equal(fresh.token.weight.grad.abs().sum(-1) > 0, seen)


def test_model_without_segments_has_no_segment_table_and_adds_nothing() -> None:
    module, ids = embedding(type_vocab_size=0, model_type="distilbert"), token_ids()
    names = {name for name, _ in module.named_parameters()}
    assert names == {"norm.bias", "norm.weight", "position.weight", "token.weight"}
    total = module.token(ids) + module.position(T)
    torch.testing.assert_close(module(ids), module.norm(total), rtol=0, atol=1e-6)


@pytest.mark.parametrize("foreign", [V, -1])
def test_id_beyond_the_vocabulary_is_an_error_that_names_it_and_the_size(foreign: int) -> None:
    ids = token_ids()
    ids[0, 0], ids[5, 3] = 0, foreign
    with pytest.raises(IndexError, match=f"id {foreign} .*vocab_size = {V}"):
        embedding()(ids)


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    module, ids = embedding(dropout=0.5), token_ids()
    torch.testing.assert_close(module(ids), embedding()(ids))
    assert 0.4 < (module.train()(ids) == 0).float().mean() < 0.6
