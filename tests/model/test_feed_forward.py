import torch
import torch.nn.functional as F

from src.model.feed_forward import FeedForward
from tests.model.tiny import random_states, randomized, tiny_config


def test_feed_forward_is_two_linear_maps_round_the_exact_gelu() -> None:
    module, x = randomized(FeedForward(tiny_config())).double(), random_states().double()
    inner = F.gelu(F.linear(x, module.expand.weight, module.expand.bias), approximate="none")
    expected = F.linear(inner, module.contract.weight, module.contract.bias)
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)
