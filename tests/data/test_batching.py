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


def sst2_like_lengths(count: int = 20_000) -> list[int]:
    drawn = np.random.default_rng(0).gamma(1.4, 7.0, count)
    return np.clip(drawn, 1, 62).astype(int).__add__(2).tolist()


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


def test_another_epoch_or_seed_gives_other_batches_in_another_order() -> None:
    lengths = sst2_like_lengths(1000)
    one, other, seeded = (group_by_length(lengths, 300, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0)))
    for batches in (other, seeded):
        assert {frozenset(batch) for batch in one} != {frozenset(batch) for batch in batches}
        assert [lengths[batch[0]] for batch in one] != [lengths[batch[0]] for batch in batches]


def test_without_an_epoch_short_batches_come_first_in_the_order_given() -> None:
    assert group_by_length([5, 3, 5, 3, 4], 10) == [[1, 3], [4, 0], [2]]
    lengths = [3 + index % 2 for index in range(200)]
    expected = [*range(0, 200, 2), *range(1, 200, 2)]
    assert [index for batch in group_by_length(lengths, 10) for index in batch] == expected


def test_the_seed_is_zero_unless_named() -> None:
    lengths = [3] * 50
    named, other = group_by_length(lengths, 10, 0, 1), group_by_length(lengths, 10, 1, 1)
    assert group_by_length(lengths, 10, epoch=1) == named != other


def test_batches_are_shuffled_nearly_full_and_nearly_all_their_tokens_are_real() -> None:
    lengths = sst2_like_lengths()
    budget = 32 * int(np.mean(lengths))
    batches = group_by_length(lengths, budget, 0, 0)
    assert sum(lengths) / sum(padded(batch, lengths) for batch in batches) >= 0.95
    assert len(batches) <= 1.1 * sum(lengths) / budget
    longest = [max(lengths[index] for index in batch) for batch in batches]
    assert longest != sorted(longest)


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
    device = torch.device("meta")
    rows = [torch.tensor([1]), torch.tensor([1, 2])]
    moved = to_device(collate(rows, [0, 1], PAD, rows), device)
    tensors = [tensor for tensor in moved.values() if isinstance(tensor, torch.Tensor)]
    assert len(tensors) == 4 and {tensor.device.type for tensor in tensors} == {"meta"}
    bare = to_device(collate([torch.tensor([1])], [0], PAD), device)
    assert bare["attention_mask"] is None and bare["token_type_ids"] is None


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="copies to a GPU; no CUDA here")
def test_a_batch_is_the_same_on_a_gpu() -> None:
    rows = [torch.tensor([1]), torch.tensor([1, 2])]
    batch = collate(rows, [0, 1], PAD, rows)
    for name, moved in to_device(batch, torch.device("cuda")).items():
        assert isinstance(moved, torch.Tensor) and moved.is_cuda
        assert torch.equal(moved.cpu(), batch[name])  # type: ignore[literal-required]


def test_segments_are_padded_with_the_first_one_and_absent_without_pairs() -> None:
    rows = [torch.tensor([5, 6, 7]), torch.tensor([8])]
    batch = collate(rows, [0, 1], PAD, [torch.tensor([0, 1, 1]), torch.tensor([1])])
    assert batch["token_type_ids"] is not None and batch["token_type_ids"].tolist() == [[0, 1, 1], [1, 0, 0]]
    assert collate(rows, [0, 1], PAD)["token_type_ids"] is None


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
