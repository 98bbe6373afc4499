import math

import pytest
import torch

from src.model.positional_encoding import LearnedPositionalEncoding, SinusoidalPositionalEncoding, sinusoidal_table
from src.utils.config import BertConfig
from tests.model.tiny import POSITIONS, D, T, tiny_config

KINDS = [LearnedPositionalEncoding, SinusoidalPositionalEncoding]
OFFSET = 2


def with_offset(offset: int) -> BertConfig:
    """A shape whose first token uses this row of the position table, as RoBERTa's does for pad_token_id + 1."""
    return tiny_config(model_type="roberta", pad_token_id=offset - 1) if offset else tiny_config()


def test_sinusoidal_table_is_the_formula_of_the_paper() -> None:
    found = sinusoidal_table(5000, D)
    assert found.dtype == torch.float32
    for pos in (*range(POSITIONS), 4999):
        angles = [pos / 10000 ** (2 * i / D) for i in range(D // 2)]
        assert found[pos, 0::2].tolist() == pytest.approx([math.sin(angle) for angle in angles], abs=1e-7)
        assert found[pos, 1::2].tolist() == pytest.approx([math.cos(angle) for angle in angles], abs=1e-7)


def test_sinusoidal_encoding_returns_its_first_rows_and_trains_nothing() -> None:
    encoding = SinusoidalPositionalEncoding(tiny_config())
    assert torch.equal(encoding(T), sinusoidal_table(POSITIONS, D)[:T] / D**0.5)
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
def test_rows_begin_at_the_offset_and_end_with_the_table(kind: type[LearnedPositionalEncoding]) -> None:
    for offset in (0, OFFSET):
        encoding = kind(with_offset(offset))
        assert torch.equal(encoding(T), encoding.weight[offset : offset + T])
        assert len(encoding(POSITIONS - offset)) == POSITIONS - offset
        with pytest.raises(IndexError, match=f"position {POSITIONS} .*max_position_embeddings = {POSITIONS}"):
            encoding(POSITIONS - offset + 1)
