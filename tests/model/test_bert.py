from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from src.model.bert import Bert, BertForMaskedLM, BertForSequenceClassification, Pooler
from src.utils.config import PRESETS, BertConfig
from tests.model.tiny import (
    CONFIG,
    LAYERS,
    POSITIONS,
    B,
    C,
    D,
    H,
    T,
    V,
    padding_mask,
    randomized,
    segments,
    tiny_config,
    token_ids,
)

# Known sizes of Google's released models, pooler included, at V = 30,522.
PARAMETERS = {
    "tiny": 4_385_920,
    "mini": 11_170_560,
    "small": 28_763_648,
    "medium": 41_373_184,
    "base": 109_482_240,
    "large": 335_141_888,
}

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="compares CUDA with the CPU; no CUDA here")


def classifier(config: BertConfig | None = None) -> BertForSequenceClassification:
    model: BertForSequenceClassification = randomized(BertForSequenceClassification(config or tiny_config(), C))
    return model


@torch.no_grad()
def test_output_holds_the_embeddings_all_layers_and_the_attentions_asked_for() -> None:
    model, ids = classifier().bert, token_ids()
    plain, asked = model(ids), model(ids, return_attentions=True)
    assert [tuple(state.shape) for state in plain.hidden_states] == [(B, T, D)] * (LAYERS + 1)
    torch.testing.assert_close(plain.hidden_states[0], model.embedding(ids))
    assert plain.last_hidden_state is plain.hidden_states[-1]
    assert plain.attentions == []
    assert [tuple(weights.shape) for weights in asked.attentions] == [(B, H, T, T)] * LAYERS


@torch.no_grad()
def test_pooler_is_tanh_of_a_linear_map_of_the_first_token_or_relu_in_distilbert() -> None:
    x = torch.randn(B, T, D, generator=torch.Generator().manual_seed(0))
    for family, activation in (("bert", torch.tanh), ("roberta", torch.tanh), ("distilbert", torch.relu)):
        pooler = classifier(tiny_config(model_type=family, type_vocab_size=0 if family == "distilbert" else 2)).pooler
        expected = activation(x[:, 0] @ pooler.dense.weight.T + pooler.dense.bias)
        torch.testing.assert_close(pooler(x), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_each_dropout_rate_acts_in_training_only() -> None:
    ids = token_ids()
    expected = classifier()(ids)
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"):
        torch.manual_seed(0)
        model = classifier(tiny_config(**{name: 0.5}))
        torch.testing.assert_close(model(ids), expected, msg=name)
        assert (model.train()(ids) - expected).abs().mean() > 0.01, name


@pytest.mark.parametrize("head", [lambda config: BertForSequenceClassification(config, C), BertForMaskedLM])
def test_matrices_start_normal_biases_at_zero_layer_norms_as_identity(head: Callable[[BertConfig], Any]) -> None:
    torch.manual_seed(0)
    std = 0.013
    model = head(tiny_config(initializer_range=std, pad_token_id=3))
    masked_lm = isinstance(model, BertForMaskedLM)
    assert model.bert.embedding.token.weight[3].eq(0).all()
    matrices = [name for name, parameter in model.named_parameters() if parameter.dim() == 2]
    ones = [name for name, _ in model.named_parameters() if name.endswith("norm.weight")]
    assert len(matrices) == 3 + 6 * LAYERS + (1 if masked_lm else 2) and len(ones) == 1 + 2 * LAYERS + masked_lm
    for name, parameter in model.named_parameters():
        if name in matrices:
            drawn = parameter.detach()[parameter.any(dim=1)]  # without [PAD]
            n = drawn.numel()
            assert abs(float(drawn.mean())) < 4.5 * std / n**0.5, name
            assert abs(float(drawn.std()) / std - 1) < 4.5 / (2 * n) ** 0.5, name
        else:
            assert parameter.eq(1 if name in ones else 0).all(), name


def test_presets_have_the_published_numbers_of_parameters() -> None:
    counts = {}
    for name in PARAMETERS:
        config = replace(BertConfig(), **PRESETS[name])
        with torch.device("meta"):  # counts without allocating
            modules = (Bert(config), Pooler(config))
        counts[name] = sum(p.numel() for module in modules for p in module.parameters())
    assert counts == PARAMETERS


@torch.no_grad()
def test_masked_lm_decodes_with_the_token_embedding() -> None:
    model = randomized(BertForMaskedLM(tiny_config()))
    ids = token_ids().clamp(max=V - 2)
    x = model.bert(ids).last_hidden_state
    head = model.masked_lm
    transformed = head.norm(F.gelu(x @ head.transform.weight.T + head.transform.bias))
    expected = transformed @ model.bert.embedding.token.weight.T + head.bias
    before = model(ids)
    torch.testing.assert_close(before, expected, rtol=0, atol=1e-5)
    model.bert.embedding.token.weight[V - 1] += 1  # a word that no sentence holds
    difference = (model(ids) - before).abs().amax(dim=(0, 1))
    assert difference[V - 1] > 0.1
    assert difference[: V - 1].max() < 1e-4
    # There is no other matrix for the decoder.
    assert [tuple(tensor.shape) for tensor in model.state_dict().values()].count((V, D)) == 1


@torch.no_grad()
def test_logits_at_positions_equal_all_logits_indexed() -> None:
    model, ids, mask = randomized(BertForMaskedLM(tiny_config())), token_ids(), padding_mask()
    positions = (torch.rand(B, T, generator=torch.Generator().manual_seed(0)) < 0.3) & mask
    found = model(ids, mask, target_mask=positions)
    assert found.shape == (int(positions.sum()), V)
    torch.testing.assert_close(found, model(ids, mask)[positions], rtol=0, atol=1e-5)


def test_bf16_autocast_stays_near_float32_and_leaves_gradients_in_float32() -> None:
    model, ids, mask = classifier().train(), token_ids(), padding_mask()
    expected = model(ids, mask)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids, mask)
        loss = F.cross_entropy(logits, torch.arange(B) % C)
    assert logits.isfinite().all()
    assert logits.dtype == torch.bfloat16
    assert (logits.float() - expected).abs().max() < 0.03 * expected.abs().max()
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.cuda
@needs_cuda
@torch.no_grad()
def test_cuda_computes_the_logits_of_the_cpu() -> None:
    ids = token_ids()
    for mask in (None, padding_mask()):
        model = classifier()
        expected = model(ids, mask)
        model.cuda()
        on_cuda = (ids.cuda(), None if mask is None else mask.cuda())
        torch.testing.assert_close(model(*on_cuda).cpu(), expected, rtol=0, atol=1e-4)
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(*on_cuda)
        assert logits.dtype == torch.bfloat16
        assert (logits.float().cpu() - expected).abs().max() < 0.03 * expected.abs().max()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_last_layer_of_cls_alone_has_the_same_vector_and_the_same_gradients(checkpointing: bool) -> None:
    found = []
    for only_cls in (False, True):
        model = classifier()
        model.train(checkpointing).bert.encoder.gradient_checkpointing = checkpointing
        x = model.bert(token_ids(), padding_mask(), segments(), last_layer_cls_only=only_cls).last_hidden_state
        assert x.shape == (B, 1 if only_cls else T, D)
        model.pooler(x).square().sum().backward()
        found.append([x[:, 0].detach(), *(weight.grad for weight in model.bert.parameters())])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)  # products of other shapes
    shapes: list[tuple[int, ...]] = []
    model = classifier()  # which computes no more of its last layer
    layers: Any = model.bert.encoder.layers
    for layer in layers:
        layer.feed_forward.register_forward_hook(lambda _, inputs, output: shapes.append(tuple(output.shape)))
    model(token_ids())
    assert shapes == [(B, T, D)] * (LAYERS - 1) + [(B, 1, D)]


@settings(deadline=None, max_examples=30)
@given(
    lengths=st.lists(st.integers(1, T), min_size=1, max_size=5),
    more=st.integers(0, POSITIONS - T),
    seed=st.integers(0, 2**16),
    pad=st.integers(0, V - 1),
)
def test_company_and_padding_of_any_kind_change_no_logits(lengths: list[int], more: int, seed: int, pad: int) -> None:
    model = randomized(BertForSequenceClassification(CONFIG, C), seed % 7)
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(0, V, (length,), generator=generator) for length in lengths]
    ids, mask = torch.full((len(rows), max(lengths) + more), pad), torch.zeros(len(rows), max(lengths) + more)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
    with torch.no_grad():
        alone = torch.cat([model(row[None]) for row in rows])
        torch.testing.assert_close(model(ids, mask), alone, rtol=0, atol=1e-4)  # products of other shapes


def test_mask_and_segments_reach_the_encoder_of_both_heads() -> None:
    ids, mask, types = token_ids(), padding_mask().squeeze(), segments()
    classifier, masked_lm = (
        randomized(model) for model in (BertForSequenceClassification(CONFIG, C), BertForMaskedLM(CONFIG))
    )
    encoded = masked_lm.bert(ids, mask, types)
    torch.testing.assert_close(encoded.hidden_states[0], masked_lm.bert.embedding(ids, types), rtol=1e-5, atol=1e-5)
    expected = masked_lm.masked_lm(encoded.last_hidden_state, masked_lm.bert.embedding.token.weight)
    torch.testing.assert_close(masked_lm(ids, mask, types), expected, rtol=1e-5, atol=1e-5)
    pooled = classifier.pooler(classifier.bert(ids, mask, types).last_hidden_state)
    torch.testing.assert_close(classifier(ids, mask, types), classifier.classifier(pooled), rtol=1e-5, atol=1e-5)
    for model in (classifier, masked_lm):
        assert not torch.allclose(model(ids, mask, types), model(ids, mask))
        assert not torch.allclose(model(ids, mask, types), model(ids, None, types))


def test_roberta_counts_positions_behind_its_padding_and_every_layer_norm_has_the_epsilon() -> None:
    for kind in ("learned", "sinusoidal"):
        model = Bert(tiny_config(model_type="roberta", pad_token_id=3, positional_encoding=kind))
        assert model.embedding.position.offset == 4
        assert Bert(tiny_config(positional_encoding=kind)).embedding.position.offset == 0
    masked_lm = BertForMaskedLM(tiny_config(layer_norm_eps=0.5))
    assert {part.eps for part in masked_lm.modules() if isinstance(part, nn.LayerNorm)} == {0.5}
