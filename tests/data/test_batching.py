import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.data.batching import Batch, collate, group_by_length, halves, to_device

lengths_of_examples = st.lists(st.integers(1, 80), max_size=200)
budgets = st.integers(1, 400)
epochs = st.one_of(st.none(), st.integers(0, 1000))
PAD = 9


def padded(batch: list[int], lengths: list[int]) -> int:
    return len(batch) * max(lengths[index] for index in batch)


@settings(deadline=None)
@given(lengths_of_examples, budgets, st.integers(0, 2**31), epochs)
def test_every_example_is_in_exactly_one_batch_within_the_budget_as_seed_and_epoch_say(
    lengths: list[int], budget: int, seed: int, epoch: int | None
) -> None:
    batches = group_by_length(lengths, budget, seed, epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    # Only a batch of one may exceed the budget.
    assert all(padded(batch, lengths) <= budget or len(batch) == 1 for batch in batches)
    assert batches == group_by_length(lengths, budget, seed, epoch)
    assert len(batches) == len(group_by_length(lengths, budget))


def test_batches_are_nearly_full_of_real_tokens_and_others_in_another_epoch_or_with_another_seed() -> None:
    drawn = np.random.default_rng(0).gamma(1.4, 7.0, 20_000)  # much as the lengths of SST-2
    lengths: list[int] = (np.clip(drawn, 1, 62).astype(int) + 2).tolist()
    budget = 32 * int(np.mean(lengths))
    one, other, seeded = (group_by_length(lengths, budget, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0)))
    assert sum(lengths) / sum(padded(batch, lengths) for batch in one) >= 0.95
    assert len(one) <= 1.1 * sum(lengths) / budget
    longest = [max(lengths[index] for index in batch) for batch in one]
    assert longest != sorted(longest)
    for batches in (other, seeded):
        assert {frozenset(batch) for batch in one} != {frozenset(batch) for batch in batches}
        assert [lengths[batch[0]] for batch in one] != [lengths[batch[0]] for batch in batches]
    assert group_by_length(lengths, budget, epoch=1) == other  # the seed is zero unless named


def test_without_an_epoch_short_batches_come_first_in_the_order_given() -> None:
    assert group_by_length([5, 3, 5, 3, 4], 10) == [[1, 3], [4, 0], [2]]
    lengths = [3 + index % 2 for index in range(200)]
    expected = [*range(0, 200, 2), *range(1, 200, 2)]
    assert [index for batch in group_by_length(lengths, 10) for index in batch] == expected


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=9), min_size=1, max_size=8))
def test_the_mask_is_true_exactly_at_real_tokens(rows: list[list[int]]) -> None:
    batch = collate([torch.tensor(row) for row in rows], list(range(len(rows))), PAD)
    assert batch["labels"].tolist() == list(range(len(rows)))
    width = max(map(len, rows))
    assert batch["input_ids"].tolist() == [row + [PAD] * (width - len(row)) for row in rows]
    mask = batch["attention_mask"]
    if len({len(row) for row in rows}) == 1:
        assert mask is None
    else:
        assert mask is not None and mask.dtype == torch.bool
        assert mask.tolist() == [[True] * len(row) + [False] * (width - len(row)) for row in rows]


def test_a_batch_moves_whole() -> None:
    rows, device = [torch.tensor([5, 6, 7]), torch.tensor([8])], torch.device("meta")
    batch = collate(rows, [0, 1], PAD, [torch.tensor([0, 1, 1]), torch.tensor([1])])
    assert batch["token_type_ids"] is not None and batch["token_type_ids"].tolist() == [[0, 1, 1], [1, 0, 0]]
    assert [getattr(tensor, "device", None) for tensor in to_device(batch, device).values()] == [device] * 4
    bare = to_device(collate(rows[:1], [0], PAD), device)
    assert bare["attention_mask"] is None and bare["token_type_ids"] is None


def pairs_of(lengths: list[int]) -> Batch:
    rows = [torch.arange(length) + 10 * number for number, length in enumerate(lengths)]
    return collate(rows, list(range(len(rows))), PAD, [row % 2 for row in rows])


@pytest.mark.parametrize("lengths", [[3], [2, 2], [3, 1, 2], [3] * 5])
def test_two_halves_hold_every_sentence_once_in_order(lengths: list[int]) -> None:
    whole = pairs_of(lengths)
    parts = halves(whole)
    sizes = [len(part["labels"]) for part in parts]
    assert len(parts) == min(2, len(lengths)) and max(sizes) - min(sizes) <= 1
    assert all(part.keys() == whole.keys() for part in parts)
    for key, tensor in whole.items():
        if tensor is None:
            assert [part[key] for part in parts] == [None] * len(parts)  # type: ignore[literal-required]
        else:
            assert isinstance(tensor, torch.Tensor)
            assert torch.equal(torch.cat([part[key] for part in parts]), tensor)  # type: ignore[literal-required]
