import pytest
import torch
from torch import Tensor

from src.data.masking import NOT_MASKED, Masking, drop_words
from tests.training.tiny_pretraining import generator, leaves_global_random_numbers_alone, masking

both = pytest.mark.parametrize("always", [False, True], ids=["80-10-10", "always"])

MASK, V = 4, 100
SHAPE = (400, 500)


def ordinary(shape: tuple[int, int] = SHAPE) -> Tensor:
    return torch.randint(5, V, shape, generator=generator(1))


def with_specials() -> Tensor:
    """Every id of the vocabulary, special ones as often as others."""
    return torch.randint(0, V, SHAPE, generator=generator(1))


def near(share: Tensor, expected: float, count: int) -> bool:
    """Tells whether a share of so many draws is within five standard errors: a wrong one is far outside."""
    return abs(share.float().mean().item() - expected) < 5 * (expected * (1 - expected) / count) ** 0.5


@both
def test_so_many_tokens_are_chosen_as_the_rate_says_everywhere_in_a_row(always: bool) -> None:
    _, labels = masking(0.4, always)(ordinary((2000, 30)), generator())
    assert all(near(place, 0.4, 2000) for place in (labels != NOT_MASKED).T)


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_eighty_percent_become_mask_ten_another_token_and_ten_stay(rate: float) -> None:
    ids = ordinary()
    masked, labels = masking(rate)(ids, generator())
    chosen = labels != NOT_MASKED
    found, true = masked[chosen], ids[chosen]
    assert near(chosen, rate, chosen.numel())
    assert near(found == MASK, 0.8, len(found))
    # A random token is now and then the true one.
    assert near((found != MASK) & (found != true), 0.1 * (V - 6) / (V - 5), len(found))
    assert near(found == true, 0.1 + 0.1 / (V - 5), len(found))


def test_a_random_token_is_any_ordinary_one_and_never_a_special_one() -> None:
    masked, _ = masking(0.9, vocab_size=20)(torch.full(SHAPE, 7), generator())
    random = masked[(masked != MASK) & (masked != 7)]
    counts = torch.bincount(random, minlength=20).tolist()
    assert counts[:5] == [0] * 5 and counts[7] == 0 and len(random) > 10_000
    expected = len(random) / 14
    assert all(abs(counts[index] - expected) < 5 * expected**0.5 for index in range(5, 20) if index != 7)


@both
@pytest.mark.parametrize("special_ids", [[0, 1, 2, 3, 4], [50, 0, 99, MASK]])
def test_special_tokens_wherever_they_lie_are_never_chosen_and_stay(always: bool, special_ids: list[int]) -> None:
    ids = with_specials()
    masked, labels = Masking(0.9, always, MASK, special_ids, V)(ids, generator())
    special = torch.isin(ids, torch.tensor(special_ids))
    assert torch.equal(masked[special], ids[special])
    assert set(labels[special].tolist()) == {NOT_MASKED}
    assert set(masked[~special].tolist()) & set(special_ids) == {MASK}
    assert near(labels[~special] != NOT_MASKED, 0.9, int((~special).sum()))


@both
def test_labels_are_the_true_ids_where_chosen_and_nothing_else_changes(always: bool) -> None:
    ids = with_specials()
    masked, labels = masking(0.3, always)(ids, generator())
    assert torch.equal(ids, with_specials())  # left as it was
    chosen = labels != NOT_MASKED
    assert masked.shape == labels.shape == ids.shape and masked.dtype == labels.dtype == torch.int64
    assert torch.equal(labels[chosen], ids[chosen]) and torch.equal(masked[~chosen], ids[~chosen])
    if always:
        assert torch.equal(chosen, (masked == MASK) & (ids != MASK))
    assert torch.nn.CrossEntropyLoss().ignore_index == NOT_MASKED


@both
def test_a_generator_or_else_the_global_seed_fixes_the_masks_and_every_call_gives_others(always: bool) -> None:
    ids, mask = ordinary((20, 30)), masking(0.3, always)
    one, same, other = (torch.stack(mask(ids, generator(seed))) for seed in (3, 3, 4))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert leaves_global_random_numbers_alone(lambda: mask(ids, generator(3)))
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        found.append([torch.stack(mask(ids)) for _ in range(2)])
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[0][0], found[0][1])


def test_words_are_dropped_at_the_rate_but_special_ones_stay() -> None:
    torch.manual_seed(0)
    ids = with_specials()
    special = ids < 5
    found = drop_words(ids, 0.3, range(5), unk_token_id=1)
    assert torch.equal(found[special], ids[special]) and ((found == ids) | (found == 1)).all()
    assert near(found[~special] == 1, 0.3, int((~special).sum()))
    assert torch.equal(drop_words(ids, 0.0, range(5), 1), ids)
