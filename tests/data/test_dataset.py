from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.utils.data import DataLoader

from src.data.dataset import DSCreator, group_by_length, to_device
from src.data.tokenizer import build_tokenizer
from src.utils.config import TokenizerConfig
from src.utils.errors import DataError

TEXTS = ["a good film", "bad", "a very good film indeed", "xyzzy plugh", "a xyzzy", ""]
PAIRS = ["bad", "a very good film", "", "bad", "bad", "bad"]
LABELS = [1, 0, 1, 0, 1, 0]
WHOLE = [5, 3, 7, 4, 4, 2]  # tokens of the texts
TOKENIZER = build_tokenizer(TEXTS[:3], TokenizerConfig(tokenizer="wordlevel", min_frequency=1), 100)


def dataset(texts: list[str] = TEXTS, seq_len: int = 64, tokenizer: Tokenizer = TOKENIZER, **options: Any) -> DSCreator:
    split = {"sentence": texts, "label": LABELS[: len(texts)], "pair": PAIRS[: len(texts)]}
    return DSCreator(split, tokenizer, seq_len, **options)


@pytest.mark.parametrize("make", [dict, Dataset.from_dict])
def test_a_mapping_or_a_hugging_face_split_becomes_examples(make: Any) -> None:
    split = make({"review": TEXTS, "stars": LABELS, "other": PAIRS})
    found = DSCreator(split, TOKENIZER, 64, "review", "stars")
    assert len(found) == 6 and found.labels == found.text_labels == LABELS and found.lengths == WHOLE
    examples = list(DataLoader(found, batch_size=None))
    assert [example["input_ids"].tolist() for example in examples] == [TOKENIZER.encode(text).ids for text in TEXTS]
    assert [example["labels"].item() for example in examples] == LABELS
    assert examples[0]["input_ids"].dtype == examples[0]["labels"].dtype == torch.int64
    found = DSCreator(split, TOKENIZER, 64, "review", "stars", "other")
    for index, (text, pair) in enumerate(zip(TEXTS, PAIRS, strict=True)):
        encoding = TOKENIZER.encode(text, pair)
        assert found[index]["input_ids"].tolist() == encoding.ids
        assert found[index]["token_type_ids"].tolist() == encoding.type_ids


@pytest.mark.parametrize("seq_len", [3, 5, 6, 7, 64])
def test_seq_len_cuts_and_flags_exactly_the_longer_texts_and_those_without_a_known_word_are_flagged(
    seq_len: int,
) -> None:
    other = Tokenizer.from_str(TOKENIZER.to_str())
    other.enable_truncation(4)
    other.enable_padding(length=50)
    found = dataset(seq_len=seq_len, tokenizer=other)
    assert found.lengths == [min(length, seq_len) for length in WHOLE]
    assert found.truncated == [length > seq_len for length in WHOLE]
    assert found.unknown == [False, False, False, True, False, False]


def test_every_window_knows_its_text_and_repeats_its_label() -> None:
    long = ["a good film", "bad a bad film indeed a", "", "good " * 13]
    found = dataset(long, 6, long_text="windows")
    assert found.overflow_to_sample_mapping == [0, 1, 1, 2, 3, 3, 3, 3]
    assert found.labels == [1, 0, 0, 1, 0, 0, 0, 0] and found.text_labels == LABELS[:4]
    assert found.lengths == [5, 6, 4, 2, 6, 6, 6, 3] and len(found) == 8
    assert found.truncated == [False] * 4


def padded(batch: list[int], lengths: list[int]) -> int:
    return len(batch) * max(lengths[index] for index in batch)


@given(
    st.lists(st.integers(1, 80), max_size=200),
    st.integers(1, 400),
    st.integers(0, 2**31),
    st.none() | st.integers(0, 1000),
)
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
    one, *others = (group_by_length(lengths, budget, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0)))
    assert sum(lengths) / sum(padded(batch, lengths) for batch in one) >= 0.95
    assert len(one) <= 1.1 * sum(lengths) / budget
    longest = [max(lengths[index] for index in batch) for batch in one]
    assert longest != sorted(longest)
    for batches in others:
        assert {frozenset(batch) for batch in one} != {frozenset(batch) for batch in batches}
        assert [lengths[batch[0]] for batch in one] != [lengths[batch[0]] for batch in batches]


def test_without_an_epoch_short_batches_come_first_in_the_order_given() -> None:
    assert group_by_length([5, 3, 5, 3, 4], 10) == [[1, 3], [4, 0], [2]]
    order = [index for batch in group_by_length([3 + index % 2 for index in range(200)], 10) for index in batch]
    assert order == [*range(0, 200, 2), *range(1, 200, 2)]


def test_the_budget_of_a_batch_is_so_many_texts_of_mean_length_but_never_below_the_longest() -> None:
    found = dataset()  # 5 + 3 + 7 + 4 + 4 + 2 = 25 tokens, 4 1/6 a text
    for batch_size, budget in [(1, 7), (2, 8), (3, 12), (4, 17), (100, 417)]:
        assert found.batches(batch_size, 3, 5) == group_by_length(WHOLE, budget, 3, 5)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_a_batch_holds_its_examples_and_a_mask_of_real_tokens_only_where_it_is_padded(indices: list[int]) -> None:
    found = dataset(pair_column="pair")
    assert found.pad_token_id == TOKENIZER.token_to_id("[PAD]")
    found.pad_token_id = 9  # which no text holds
    batch, width = found.collate(indices), max(found.lengths[index] for index in indices)
    assert batch["labels"].tolist() == [LABELS[index] for index in indices]
    real = [[column < found.lengths[index] for column in range(width)] for index in indices]
    columns = found.input_ids, found.token_type_ids or []
    for tensor, rows, padding in zip((batch["input_ids"], batch["token_type_ids"]), columns, (9, 0), strict=True):
        assert tensor is not None
        expected = [rows[index].tolist() + [padding] * (width - found.lengths[index]) for index in indices]
        assert tensor.tolist() == expected
    mask = batch["attention_mask"]
    assert mask is None if all(map(all, real)) else mask is not None and mask.tolist() == real
    moved = to_device(batch, torch.device("meta"))
    assert [None if part is None else str(part.device) for part in moved.values()] == [  # type: ignore[attr-defined]
        None if part is None else "meta" for part in batch.values()
    ]


@pytest.mark.parametrize("pair_column", [None, "pair"])
def test_a_data_loader_of_pytorch_makes_the_batches_of_the_trainer(pair_column: str | None) -> None:
    found = dataset(pair_column=pair_column)
    found.teacher_logits = torch.arange(12.0).view(6, 2)
    batches = found.batches(2, seed=3, epoch=5)
    loaded = list(DataLoader(found, batch_sampler=batches, collate_fn=DSCreator.collate_fn))
    assert len(loaded) == len(batches) > 2
    for batch, indices in zip(loaded, batches, strict=True):
        torch.testing.assert_close(batch, found.collate(indices), rtol=0, atol=0)
        assert batch["teacher_logits"].tolist() == [[2.0 * index, 2.0 * index + 1] for index in indices]


@pytest.mark.parametrize("column", ["label", "pair"])
def test_a_column_of_another_length_is_refused(column: str) -> None:
    split: dict[str, list[Any]] = {"sentence": TEXTS, "label": LABELS, "pair": PAIRS}
    with pytest.raises(DataError, match="6 texts and 5"):
        DSCreator(split | {column: split[column][:5]}, TOKENIZER, 64, pair_column="pair")


def test_where_there_is_no_padding_token_any_id_pads() -> None:
    bare = dataset(tokenizer=Tokenizer(WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")))
    assert bare.collate([0, 1])["input_ids"].shape == (2, max(bare.lengths[:2]))
