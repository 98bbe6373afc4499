import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from src.model.attention import MultiHeadAttention, scaled_dot_product_attention
from tests.model.tiny import B, D, H, T, padding_mask, random_states, randomized, tiny_config

masked_or_not = pytest.mark.parametrize("mask", [None, padding_mask()[:, None, None, :]], ids=["unmasked", "masked"])
readable_or_fused = pytest.mark.parametrize("return_weights", [True, False], ids=["readable", "fused"])


def attention(dropout: float = 0.0) -> MultiHeadAttention:
    module: MultiHeadAttention = randomized(MultiHeadAttention(tiny_config(attention_probs_dropout_prob=dropout)))
    return module


@masked_or_not
def test_equation_is_that_of_pytorch(mask: Tensor | None) -> None:
    q, k, v = torch.randn(3, B, H, T, D // H, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = F.scaled_dot_product_attention(q, k, v, mask)
    torch.testing.assert_close(scaled_dot_product_attention(q, k, v, mask)[0], expected, rtol=1e-12, atol=1e-12)


@masked_or_not
def test_multi_head_attention_equals_that_of_pytorch(mask: Tensor | None) -> None:
    ours, x = attention(), random_states()
    output, tokens = ours.output, x.transpose(0, 1)  # (T, B, D)
    three = (ours.query, ours.key, ours.value)
    weight, bias = torch.cat([one.weight for one in three]), torch.cat([one.bias for one in three])
    expected, expected_weights = F.multi_head_attention_forward(
        tokens, tokens, tokens, D, H, weight, bias, None, None, False, 0.0, output.weight,
        output.bias, training=False, key_padding_mask=None if mask is None else ~padding_mask(),
        average_attn_weights=False,
    )  # fmt: skip
    context, weights = ours(x, mask, return_weights=True)
    # float32, summed in another order
    torch.testing.assert_close(context, expected.transpose(0, 1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weights, expected_weights, rtol=1e-5, atol=1e-5)


@masked_or_not
def test_readable_and_fused_path_have_equal_values_and_gradients(mask: Tensor | None) -> None:
    ours, probe = attention().double(), random_states(1).double()
    found = []
    for return_weights in (True, False):
        x = random_states().double().requires_grad_()
        context, weights = ours(x, mask, return_weights)
        assert (weights is not None) == return_weights
        found.append([context, *torch.autograd.grad((context * probe).sum(), [x, *ours.parameters()])])
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-10)


@readable_or_fused
def test_row_with_nothing_to_attend_to_stays_finite(return_weights: bool) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        ours = attention().to(dtype)
        x = random_states().to(dtype).requires_grad_()
        context, _ = ours(x, torch.zeros(B, 1, 1, T, dtype=torch.bool), return_weights)
        context.float().sum().backward()
        assert context.isfinite().all()
        assert x.grad is not None and x.grad.isfinite().all()


@readable_or_fused
def test_dropout_acts_in_training_only_and_not_on_the_weights_returned(return_weights: bool) -> None:
    torch.manual_seed(0)
    with_dropout, without, x = attention(dropout=0.5), attention(), random_states()
    expected, expected_weights = without(x, None, return_weights)
    torch.testing.assert_close(with_dropout(x, None, return_weights)[0], expected)
    dropped, weights = with_dropout.train()(x, None, return_weights)
    assert (dropped - expected).abs().mean() > 0.01
    torch.testing.assert_close(weights, expected_weights)


@masked_or_not
def test_attention_of_the_first_token_alone_is_the_first_row_of_all(mask: Tensor | None) -> None:
    module, x = attention(), random_states()
    together, all_weights = module(x, mask, return_weights=True)
    alone, weights = module(x, mask, return_weights=True, num_queries=1)
    fused, no_weights = module(x, mask, num_queries=1)
    assert no_weights is None
    for found in (alone, fused):
        torch.testing.assert_close(found, together[:, :1], rtol=1e-5, atol=1e-5)  # products of other shapes
    torch.testing.assert_close(weights, all_weights[:, :, :1], rtol=1e-5, atol=1e-5)
