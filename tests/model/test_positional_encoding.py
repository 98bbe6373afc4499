import math

import pytest
import torch
from torch import Tensor

from src.model.bert import Bert
from src.model.positional_encoding import LearnedPositionalEncoding, SinusoidalPositionalEncoding, sinusoidal_table
from tests.model.tiny import POSITIONS, D, T, V, tiny_config, token_ids

KINDS = [LearnedPositionalEncoding, SinusoidalPositionalEncoding]
OFFSET = 2


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


def test_sinusoidal_encoding_returns_its_first_rows_and_trains_nothing() -> None:
    encoding = SinusoidalPositionalEncoding(POSITIONS, D)
    assert torch.equal(encoding(T), sinusoidal_table(POSITIONS, D)[:T])
    assert list(encoding.parameters()) == []
    assert list(encoding.state_dict()) == ["weight"]


def test_learned_encoding_returns_its_first_rows_and_trains_only_those() -> None:
    encoding = LearnedPositionalEncoding(POSITIONS, D)
    vectors = encoding(T)
    assert torch.equal(vectors, encoding.weight[:T])
    vectors.sum().backward()
    assert encoding.weight.grad is not None
    assert encoding.weight.grad[:T].eq(1).all()
    assert encoding.weight.grad[T:].eq(0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_first_token_uses_the_row_of_the_offset(kind: type[LearnedPositionalEncoding]) -> None:
    encoding = kind(POSITIONS, D, OFFSET)
    assert torch.equal(encoding(T), encoding.weight[OFFSET : OFFSET + T])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset", [0, OFFSET])
def test_position_beyond_the_table_is_an_error_that_names_its_size(
    kind: type[LearnedPositionalEncoding], offset: int
) -> None:
    encoding = kind(POSITIONS, D, offset)
    assert len(encoding(POSITIONS - offset)) == POSITIONS - offset
    with pytest.raises(IndexError, match=f"position {POSITIONS} .*max_position_embeddings = {POSITIONS}"):
        encoding(POSITIONS - offset + 1)


def test_roberta_counts_positions_from_behind_its_padding_id() -> None:
    model = Bert(tiny_config(model_type="roberta", pad_token_id=1))
    assert model.embedding.position.offset == 2
    longest = token_ids()[:, [0] * (POSITIONS - 2)]
    model(longest)
    with pytest.raises(IndexError, match="max_position_embeddings"):
        model(token_ids()[:, [0] * (POSITIONS - 1)])


def test_sentence_longer_than_the_table_is_an_error_in_the_whole_model() -> None:
    model = Bert(tiny_config())
    with pytest.raises(IndexError, match="max_position_embeddings"):
        model(torch.full((1, POSITIONS + 1), V - 1))


def test_sinusoidal_table_is_exact_far_out() -> None:
    found = sinusoidal_table(5000, D)[-1].double()
    for i in range(D // 2):
        assert abs(found[2 * i].item() - math.sin(4999 / 10000 ** (2 * i / D))) < 1e-7
