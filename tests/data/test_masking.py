import pytest
import torch

from src.data.masking import drop_words

UNK = 1
SPECIAL_IDS = torch.tensor([0, 1, 2, 3, 4])


def ids(rows: int = 1000, columns: int = 100) -> torch.Tensor:
    return torch.randint(5, 99, (rows, columns), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("probability", [0.1, 0.37])
def test_words_are_dropped_at_the_given_rate(probability: float) -> None:
    torch.manual_seed(0)
    words = ids()
    dropped = int((drop_words(words, probability, UNK, SPECIAL_IDS) != words).sum())
    deviation = (words.numel() * probability * (1 - probability)) ** 0.5
    assert abs(dropped - words.numel() * probability) < 3 * deviation


def test_every_word_is_drawn_by_itself() -> None:
    torch.manual_seed(0)
    dropped = drop_words(ids(), 0.5, UNK, SPECIAL_IDS) == UNK
    for counts, draws in ((dropped.sum(0), 1000), (dropped.sum(1), 100)):
        deviations = (counts - draws / 2).abs() / (draws / 4) ** 0.5
        assert deviations.max() < 6


def test_dropped_words_become_unknown_and_the_others_stay() -> None:
    torch.manual_seed(0)
    words = ids()
    result = drop_words(words, 0.3, UNK, SPECIAL_IDS)
    assert result.shape == words.shape and result.dtype == torch.int64
    assert ((result == words) | (result == UNK)).all()


def test_special_tokens_are_never_dropped() -> None:
    special = SPECIAL_IDS.repeat(200, 20)
    assert torch.equal(drop_words(special, 0.999, UNK, SPECIAL_IDS), special)


def test_the_input_is_left_alone() -> None:
    words = ids()
    before = words.clone()
    drop_words(words, 0.9, UNK, SPECIAL_IDS)
    assert torch.equal(words, before)


def test_probability_zero_drops_nothing_and_one_everything() -> None:
    words = ids()
    assert torch.equal(drop_words(words, 0.0, UNK, SPECIAL_IDS), words)
    assert (drop_words(words, 1.0, UNK, SPECIAL_IDS) == UNK).all()


def test_the_generators_seed_fixes_what_is_dropped() -> None:
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(drop_words(ids(), 0.5, UNK, SPECIAL_IDS))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
