import pytest
import torch

from src.data.word_dropout import drop_probabilities, drop_words

VOCAB, UNK = 99, 1
SPECIAL_IDS = (0, 1, 2, 3, 4)


def words() -> torch.Tensor:
    return torch.randint(5, VOCAB, (1000, 100), generator=torch.Generator().manual_seed(0))


def uniform(probability: float) -> torch.Tensor:
    return drop_probabilities(torch.ones(VOCAB), probability, 0.0, SPECIAL_IDS)


def test_a_word_is_dropped_with_the_given_probability_and_a_rare_one_with_a_over_a_plus_n_too() -> None:
    assert uniform(0.3)[5:].tolist() == pytest.approx([0.3] * (VOCAB - 5)) and uniform(0.0).tolist() == [0.0] * VOCAB
    counts = torch.tensor([7, 7, 7, 7, 7, 1, 5, 20, 0])
    probabilities = drop_probabilities(counts, 0.0, 5.0, SPECIAL_IDS)
    # A word never seen counts as seen once.
    assert probabilities[5:].tolist() == pytest.approx([5 / 6, 1 / 2, 1 / 5, 5 / 6])
    assert counts.tolist() == [7, 7, 7, 7, 7, 1, 5, 20, 0]
    both = drop_probabilities(torch.tensor([1, 15]), 0.2, 5.0, [0])  # two independent reasons
    assert both.tolist() == pytest.approx([0, 1 - 0.8 * 0.75])


def test_special_ids_are_never_dropped_whatever_their_count() -> None:
    probabilities = drop_probabilities(torch.ones(VOCAB), 0.999, 50.0, SPECIAL_IDS)
    assert probabilities[:5].tolist() == [0.0] * 5
    special = torch.tensor(SPECIAL_IDS).repeat(200, 20)
    assert torch.equal(drop_words(special, probabilities, UNK), special)


def test_each_word_is_dropped_at_its_own_rate() -> None:
    torch.manual_seed(0)
    probabilities = torch.linspace(0, 1, VOCAB)
    ids = torch.arange(VOCAB).repeat(4000, 1)
    rates = (drop_words(ids, probabilities, -1) == -1).float().mean(0)
    deviations = (probabilities * (1 - probabilities) / 4000).sqrt()
    assert ((rates - probabilities).abs() <= 5 * deviations + 1e-6).all()


def test_every_word_is_drawn_by_itself() -> None:
    torch.manual_seed(0)
    dropped = drop_words(words(), uniform(0.5), UNK) == UNK
    for counts, draws in ((dropped.sum(0), 1000), (dropped.sum(1), 100)):
        deviations = (counts - draws / 2).abs() / (draws / 4) ** 0.5
        assert deviations.max() < 6


def test_dropped_words_become_unknown_the_others_stay_and_the_input_is_left_alone() -> None:
    ids = words()
    result = drop_words(ids, uniform(0.3), UNK)
    assert result.shape == ids.shape and result.dtype == torch.int64
    assert ((result == ids) | (result == UNK)).all() and (result != ids).any()
    assert torch.equal(ids, words())


def test_the_seed_fixes_what_is_dropped() -> None:
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(drop_words(words(), uniform(0.5), UNK))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
