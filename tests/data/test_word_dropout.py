import pytest
import torch

from src.data.word_dropout import drop_words

VOCAB, UNK = 99, 1
SPECIAL_IDS = (0, 1, 2, 3, 4)


def words(rows: int = 1000, columns: int = 100) -> torch.Tensor:
    return torch.randint(5, VOCAB, (rows, columns), generator=torch.Generator().manual_seed(0))


def dropped(ids: torch.Tensor, probability: float) -> torch.Tensor:
    return drop_words(ids, probability, UNK, SPECIAL_IDS)


@pytest.mark.parametrize("probability", [0.1, 0.37])
def test_words_are_dropped_at_the_given_rate(probability: float) -> None:
    torch.manual_seed(0)
    ids = words()
    count = int((dropped(ids, probability) != ids).sum())
    deviation = (ids.numel() * probability * (1 - probability)) ** 0.5
    assert abs(count - ids.numel() * probability) < 3 * deviation


def test_without_dropout_nothing_is_dropped() -> None:
    assert torch.equal(dropped(words(), 0.0), words())


def test_every_word_is_drawn_by_itself() -> None:
    torch.manual_seed(0)
    found = dropped(words(), 0.5) == UNK
    for counts, draws in ((found.sum(0), 1000), (found.sum(1), 100)):
        deviations = (counts - draws / 2).abs() / (draws / 4) ** 0.5
        assert deviations.max() < 6


def test_dropped_words_become_unknown_and_the_others_stay() -> None:
    torch.manual_seed(0)
    ids = words()
    result = dropped(ids, 0.3)
    assert result.shape == ids.shape and result.dtype == torch.int64
    assert ((result == ids) | (result == UNK)).all()


def test_special_tokens_are_never_dropped() -> None:
    special = torch.tensor(SPECIAL_IDS).repeat(200, 20)
    assert torch.equal(dropped(special, 0.999), special)


def test_the_input_is_left_alone() -> None:
    ids = words()
    before = ids.clone()
    dropped(ids, 0.9)
    assert torch.equal(ids, before)


def test_the_seed_fixes_what_is_dropped() -> None:
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(dropped(words(), 0.5))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
