import pytest
import torch
from torch import nn

from src.model.dropout import Dropout


def test_nothing_is_dropped_in_evaluation_or_at_probability_0_and_elsewhere_pytorch_drops() -> None:
    x = torch.randn(13, 7, 32)
    assert Dropout(0.5).eval()(x) is x and Dropout(0.0).train()(x) is x
    assert Dropout(0.1).train()(x.to("meta")).device.type == "meta"


@pytest.mark.parametrize("probability", [0.1, 0.9])
def test_elements_are_dropped_as_often_as_pytorch_drops_them(probability: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 1001)  # not a multiple of four
    found, expected = Dropout(probability).train()(x), nn.Dropout(probability).train()(x)
    deviation = (probability * (1 - probability) / x.numel()) ** 0.5
    assert (found == 0).float().mean().item() == pytest.approx(probability, abs=5 * deviation)
    assert found.max().item() == pytest.approx(expected.max().item(), rel=1e-4)
    assert found.mean().item() == pytest.approx(1, abs=5 * deviation / (1 - probability))


def test_on_a_cpu_the_scale_is_that_of_the_rounded_probability() -> None:
    y = Dropout(0.1).train()(torch.ones(1000))
    # 6554 = round(0.1 * 65536); 1 / 0.9 would differ by a hundred thousandth
    assert y[y != 0].tolist() == pytest.approx([65536 / (65536 - 6554)] * int((y != 0).sum()), rel=1e-6)


def test_the_four_elements_that_share_a_random_number_are_dropped_apart() -> None:
    torch.manual_seed(0)
    dropped = (Dropout(0.5).train()(torch.ones(250_000, 4)) == 0).double()
    correlation = torch.corrcoef(dropped.T) - torch.eye(4)
    assert correlation.abs().max() < 0.01
    assert (dropped.mean(0) - 0.5).abs().max() < 0.005


def test_gradients_pass_where_elements_do_as_the_generator_decides() -> None:
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        x = torch.ones(9, 5, requires_grad=True)
        y = Dropout(0.4).train()(x)
        y.sum().backward()
        assert x.grad is not None and torch.allclose(x.grad, y.detach()) and 0 < int((y == 0).sum()) < 45
        draws.append(y)
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_a_probability_that_rounds_to_one_drops_all_but_a_few() -> None:
    torch.manual_seed(0)
    y = Dropout(0.999999).train()(torch.ones(2**20))
    assert 0 < int((y != 0).sum()) < 50 and y.isfinite().all()
