import math

import torch

from src.model.feed_forward import FeedForward
from tests.model.tiny import random_states, randomized, tiny_config


def gelu(x: float) -> float:
    return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))


def test_feed_forward_is_two_linear_maps_round_the_exact_gelu() -> None:
    module: FeedForward = randomized(FeedForward(tiny_config())).double()
    x = random_states().double()
    inner = (x @ module.expand.weight.T + module.expand.bias).detach().clone()
    inner.map_(inner, lambda value, _: gelu(value))
    expected = inner @ module.contract.weight.T + module.contract.bias
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)
