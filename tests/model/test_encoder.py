import re

import pytest
import torch
from torch import Tensor, nn

from src.model.encoder import Encoder, EncoderLayer
from tests.model.tiny import EPS, F_, LAYERS, B, D, H, T, padding_mask, random_states, randomized, tiny_config

masked_or_not = pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])

PYTORCH_NAMES = {
    "attention.in_proj_": "self_attn.in_proj_",
    "attention.output.": "self_attn.out_proj.",
    "attention_norm.": "norm1.",
    "feed_forward.expand.": "linear1.",
    "feed_forward.contract.": "linear2.",
    "feed_forward_norm.": "norm2.",
}


def layer(dropout: float = 0.0) -> EncoderLayer:
    return EncoderLayer(tiny_config(attention_probs_dropout_prob=dropout, hidden_dropout_prob=dropout))


def pytorch_name(ours: str) -> str:
    for prefix, theirs in PYTORCH_NAMES.items():
        if prefix in ours:
            return ours.replace(prefix, theirs)
    raise KeyError(ours)


def stacked(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Puts queries, keys and values of a layer into one tensor, as PyTorch's layer has them."""
    found = {name: tensor for name, tensor in tensors.items() if not re.search(r"attention\.(query|key|value)\.", name)}
    for name in [name for name in tensors if "attention.query." in name]:
        parts = [tensors[name.replace("query", part)] for part in ("query", "key", "value")]
        found[name.replace("query.", "in_proj_")] = torch.cat(parts)
    return found


@masked_or_not
def test_encoder_and_its_gradients_equal_the_stack_of_pytorch(masked: bool) -> None:
    # In float64, so that gradients can be compared tightly; in training mode, because PyTorch's fast path for
    # evaluation computes neither gradients nor padded positions.
    ours = randomized(Encoder(tiny_config())).double().train()
    their_layer = nn.TransformerEncoderLayer(D, H, F_, 0.0, "gelu", EPS, batch_first=True, norm_first=False)
    theirs = nn.TransformerEncoder(their_layer, LAYERS, enable_nested_tensor=False).double().train()
    theirs.load_state_dict({pytorch_name(name): tensor for name, tensor in stacked(ours.state_dict()).items()})
    x, their_x = (random_states().double().requires_grad_() for _ in range(2))
    allowed = padding_mask()
    found = ours(x, allowed[:, None, None, :] if masked else None)[0][-1]
    expected = theirs(their_x, src_key_padding_mask=~allowed if masked else None)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    for output in (found, expected):
        (output * random_states(1).double()).sum().backward()
    torch.testing.assert_close(x.grad, their_x.grad, rtol=1e-8, atol=1e-9)
    ours_grad = stacked({name: parameter.grad for name, parameter in ours.named_parameters()})
    gradients = {pytorch_name(name): gradient for name, gradient in ours_grad.items()}
    their_gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    torch.testing.assert_close(gradients, their_gradients, rtol=1e-8, atol=1e-9)


def test_encoder_returns_its_input_the_output_of_each_layer_and_its_weights_when_asked() -> None:
    ours, x = randomized(Encoder(tiny_config())), random_states()
    states, weights = ours(x, return_weights=True)
    assert len(states) == LAYERS + 1 and ours(x)[1] == []
    torch.testing.assert_close(states[0], x)
    assert [tuple(each.shape) for each in weights] == [(B, H, T, T)] * LAYERS
    for before, after, found, one in zip(states, states[1:], weights, ours.layers, strict=False):
        torch.testing.assert_close(one(before)[0], after)
        torch.testing.assert_close(one.attention(before, None, True)[1], found)


def test_both_sublayers_drop_their_output_in_training_only() -> None:
    torch.manual_seed(0)
    dropping: EncoderLayer = randomized(layer(dropout=0.5))
    plain, x = randomized(layer()), random_states()
    torch.testing.assert_close(dropping(x)[0], plain(x)[0])
    dropping.train()
    dropping.attention.dropout = 0.0
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def record(_: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        inputs.append(arguments[0])
        outputs.append(output)

    dropping.dropout.register_forward_hook(record)
    dropping(x)
    torch.testing.assert_close(inputs[0], dropping.attention(x)[0])
    assert len(inputs) == 2
    for output in outputs:
        assert 0.4 < (output == 0).float().mean() < 0.6


@masked_or_not
def test_gradient_checkpointing_computes_each_layer_again_on_the_way_back(masked: bool) -> None:
    mask = padding_mask()[:, None, None, :] if masked else None
    gradients = []
    for checkpointing, training, times in ((False, True, 1), (True, True, 2), (True, False, 1)):
        ours, x = randomized(Encoder(tiny_config())), random_states().requires_grad_()
        assert not ours.gradient_checkpointing
        ours.train(training).gradient_checkpointing = checkpointing
        calls: list[nn.Module] = []
        for one in ours.layers:
            one.register_forward_pre_hook(lambda module, _, calls=calls: calls.append(module))
        states, _ = ours(x, mask, last_layer_cls_only=True)
        assert [len(state[0]) for state in states] == [T] * LAYERS + [1]
        states[-1].square().sum().backward()
        assert sorted(map(calls.count, ours.layers)) == [times] * LAYERS
        assert x.grad is not None
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in (x, *ours.parameters())]))
    for found in gradients[1:]:
        torch.testing.assert_close(found, gradients[0], rtol=1e-5, atol=1e-5)
