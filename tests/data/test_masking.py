import pytest
import torch
from torch import Tensor

from src.data.masking import NOT_MASKED, Masking
from tests.training.tiny_pretraining import generator, leaves_global_random_numbers_alone, masking

both = pytest.mark.parametrize("always", [False, True], ids=["80-10-10", "always"])

MASK, V = 4, 100
SHAPE = (400, 500)


def ordinary(shape: tuple[int, int] = SHAPE, vocab_size: int = V) -> Tensor:
    return torch.randint(5, vocab_size, shape, generator=generator(1))


def near(share: Tensor, expected: float, count: int) -> bool:
    """Whether a share of so many draws is within five standard errors: a wrong one is far outside."""
    return abs(share.float().mean().item() - expected) < 5 * (expected * (1 - expected) / count) ** 0.5


@both
def test_so_many_tokens_are_chosen_as_the_rate_says_everywhere_in_a_row(always: bool) -> None:
    for rate in (0.15, 0.4):
        _, labels = masking(rate, always)(ordinary(), generator())
        assert near(labels != NOT_MASKED, rate, labels.numel())
    _, labels = masking(0.4, always)(ordinary((2000, 30)), generator())
    assert all(near(place, 0.4, 2000) for place in (labels != NOT_MASKED).T)


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_eighty_percent_become_mask_ten_another_token_and_ten_stay(rate: float) -> None:
    ids = ordinary()
    masked, labels = masking(rate)(ids, generator())
    chosen = labels != NOT_MASKED
    found, true = masked[chosen], ids[chosen]
    assert near(found == MASK, 0.8, len(found))
    # A random token is now and then the true one.
    assert near((found != MASK) & (found != true), 0.1 * (V - 6) / (V - 5), len(found))
    assert near(found == true, 0.1 + 0.1 / (V - 5), len(found))


def test_a_random_token_is_any_ordinary_one_and_never_a_special_one() -> None:
    ids = torch.full(SHAPE, 7)
    masked, _ = masking(0.9, vocab_size=20)(ids, generator())
    random = masked[(masked != MASK) & (masked != 7)]
    counts = torch.bincount(random, minlength=20).tolist()
    assert counts[:5] == [0] * 5 and counts[7] == 0
    expected = len(random) / 14
    assert len(random) > 10_000
    assert all(abs(counts[index] - expected) < 5 * expected**0.5 for index in range(5, 20) if index != 7)


@both
def test_special_tokens_are_never_chosen_and_stay_as_they_are(always: bool) -> None:
    ids = torch.randint(0, V, SHAPE, generator=generator(1))  # special ones as often as others
    masked, labels = masking(0.9, always)(ids, generator())
    special = ids < 5
    assert special.float().mean() > 0.04
    assert torch.equal(masked[special], ids[special])
    assert set(labels[special].tolist()) == {NOT_MASKED}
    assert set(masked[~special].tolist()) & set(range(5)) == {MASK}
    assert near(labels[~special] != NOT_MASKED, 0.9, int((~special).sum()))
    # They may lie anywhere in the vocabulary.
    elsewhere = Masking(0.9, always, mask_token_id=50, special_ids=[50, 0, 99], vocab_size=V)
    masked, labels = elsewhere(ids, generator())
    special = torch.isin(ids, torch.tensor([50, 0, 99]))
    assert set(labels[special].tolist()) == {NOT_MASKED}
    assert set(masked[~special].tolist()) == set(range(1, 99))


@both
def test_labels_are_the_true_ids_where_chosen_and_nothing_else_changes(always: bool) -> None:
    ids = torch.randint(0, V, SHAPE, generator=generator(1))  # special ones as often as others
    before = ids.clone()
    masked, labels = masking(0.3, always)(ids, generator())
    assert torch.equal(ids, before)  # left as it was
    chosen = labels != NOT_MASKED
    assert masked.shape == labels.shape == ids.shape and masked.dtype == labels.dtype == torch.int64
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(masked[~chosen], ids[~chosen])
    if always:
        assert torch.equal(chosen, (masked == MASK) & (ids != MASK))
    assert torch.nn.CrossEntropyLoss().ignore_index == NOT_MASKED


@both
def test_a_generator_gives_the_same_masks_whatever_the_global_random_numbers(always: bool) -> None:
    ids, found = ordinary((20, 30)), []

    def mask() -> None:
        found.append(torch.stack(masking(0.3, always)(ids, generator(3))))

    for seed in (1, 2):
        torch.manual_seed(seed)
        assert leaves_global_random_numbers_alone(mask)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], torch.stack(masking(0.3, always)(ids, generator(4))))
    torch.manual_seed(1)  # which decides where there is none, and every call masks anew
    one, other = (torch.stack(masking(0.3, always)(ids)) for _ in range(2))
    torch.manual_seed(1)
    assert torch.equal(torch.stack(masking(0.3, always)(ids)), one) and not torch.equal(one, other)
