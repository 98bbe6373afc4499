import math

import pytest
import torch
from torch import Tensor

from src.model.positional_encoding import LearnedPositionalEncoding, SinusoidalPositionalEncoding, sinusoidal_table
from src.utils.config import BertConfig
from tests.model.tiny import POSITIONS, D, T, tiny_config

KINDS = [LearnedPositionalEncoding, SinusoidalPositionalEncoding]
OFFSET = 2


def with_offset(offset: int) -> BertConfig:
    """A shape whose first token uses this row of the position table, as RoBERTa's does for pad_token_id + 1."""
    return tiny_config(model_type="roberta", pad_token_id=offset - 1) if offset else tiny_config()


def literal_table() -> Tensor:
    table = torch.empty(POSITIONS, D, dtype=torch.float64)
    for pos in range(POSITIONS):
        for i in range(D // 2):
            table[pos, 2 * i] = math.sin(pos / 10000 ** (2 * i / D))
            table[pos, 2 * i + 1] = math.cos(pos / 10000 ** (2 * i / D))
    return table


def test_sinusoidal_table_is_the_formula_of_the_paper() -> None:
    found = sinusoidal_table(POSITIONS, D)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), literal_table(), rtol=0, atol=1e-7)
    far_out = sinusoidal_table(5000, D)[-1].double()
    for i in range(D // 2):
        assert far_out[2 * i].item() == pytest.approx(math.sin(4999 / 10000 ** (2 * i / D)), abs=1e-7)


def test_sinusoidal_encoding_returns_its_first_rows_and_trains_nothing() -> None:
    encoding = SinusoidalPositionalEncoding(tiny_config())
    assert torch.equal(encoding(T), sinusoidal_table(POSITIONS, D)[:T])
    assert list(encoding.parameters()) == []
    assert list(encoding.state_dict()) == ["weight"]


def test_learned_encoding_returns_its_first_rows_and_trains_only_those() -> None:
    encoding = LearnedPositionalEncoding(tiny_config())
    vectors = encoding(T)
    assert torch.equal(vectors, encoding.weight[:T])
    vectors.sum().backward()
    assert encoding.weight.grad is not None
    assert encoding.weight.grad[:T].eq(1).all()
    assert encoding.weight.grad[T:].eq(0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_first_token_uses_the_row_of_the_offset(kind: type[LearnedPositionalEncoding]) -> None:
    encoding = kind(with_offset(OFFSET))
    assert torch.equal(encoding(T), encoding.weight[OFFSET : OFFSET + T])


@pytest.mark.parametrize("kind", KINDS)
def test_position_beyond_the_table_is_an_error_that_names_its_size(kind: type[LearnedPositionalEncoding]) -> None:
    for offset in (0, OFFSET):
        encoding = kind(with_offset(offset))
        assert len(encoding(POSITIONS - offset)) == POSITIONS - offset
        with pytest.raises(IndexError, match=f"position {POSITIONS} .*max_position_embeddings = {POSITIONS}"):
            encoding(POSITIONS - offset + 1)
