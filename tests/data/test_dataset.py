from typing import Any

import numpy as np
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.utils.data import DataLoader

from src.data.dataset import Batch, DSCreator, group_by_length, to_device
from src.data.tokenizer import build_tokenizer
from src.utils.config import LongText, TokenizerConfig

TEXTS = ["a good film", "bad", "a very good film indeed", "xyzzy plugh", "a xyzzy", ""]
LABELS = [1, 0, 1, 0, 1, 0]
WHOLE = [5, 3, 7, 4, 4, 2]  # tokens of the texts


def tokenizer() -> Tokenizer:
    config = TokenizerConfig(tokenizer="wordlevel", min_frequency=1)
    return build_tokenizer(["a very good film indeed", "bad"], config, 100)


def columns(text: str = "sentence", label: str = "label") -> dict[str, list[object]]:
    return {text: list(TEXTS), label: list(LABELS)}


def dataset_of(count: int, pair: str | None = None) -> DSCreator:
    """Texts of 1, 2, 3 ... known words, labelled 0, 1, 2 ..."""
    texts = [" ".join(["good"] * number) for number in range(1, count + 1)]
    split: dict[str, list[Any]] = {"sentence": texts, "label": list(range(count)), "pair": [pair] * count}
    return DSCreator(split, tokenizer(), 64, pair_column=None if pair is None else "pair")


# The dataset


def test_a_mapping_or_a_hugging_face_split_becomes_examples() -> None:
    known = tokenizer()
    for split in (columns(), Dataset.from_dict(columns())):
        dataset = DSCreator(split, known, 64)
        assert len(dataset) == 6 and dataset.labels == LABELS
        assert [ids.tolist() for ids in dataset.input_ids] == [known.encode(text).ids for text in TEXTS]
        assert dataset.lengths == WHOLE
    dataset = DSCreator(Dataset.from_dict(columns("review", "stars")), known, 64, "review", "stars")
    assert dataset.lengths == WHOLE and dataset.labels == LABELS


def test_an_example_is_a_pair_of_int64_tensors_which_a_data_loader_takes_in_grouped_batches() -> None:
    dataset = DSCreator(columns(), tokenizer(), 64)
    assert set(dataset[0]) == {"input_ids", "labels"}
    assert [example["labels"].item() for example in DataLoader(dataset, batch_size=None)] == LABELS
    assert [len(example["input_ids"]) for example in DataLoader(dataset, batch_size=None)] == WHOLE
    assert dataset[0]["input_ids"].dtype == dataset[0]["labels"].dtype == torch.int64
    groups = group_by_length(dataset.lengths, 10)
    loader: DataLoader[Batch] = DataLoader(groups, batch_size=None, collate_fn=dataset.collate)  # type: ignore[arg-type]
    for batch, group in zip(loader, groups, strict=True):
        assert batch["labels"].tolist() == [LABELS[index] for index in group]
        assert batch["input_ids"].shape == (len(group), max(WHOLE[index] for index in group))


def test_seq_len_cuts_and_flags_exactly_the_longer_texts_and_those_without_a_known_word_are_flagged() -> None:
    other = tokenizer()
    for seq_len in (3, 5, 6, 7, 64):
        other.enable_truncation(4)
        other.enable_padding(length=50)
        dataset = DSCreator(columns(), other, seq_len)
        assert dataset.lengths == [min(length, seq_len) for length in WHOLE]
        assert dataset.truncated == [length > seq_len for length in WHOLE]
        assert dataset.unknown == [False, False, False, True, False, False]


def test_every_window_knows_its_text_and_repeats_its_label() -> None:
    long = {"sentence": ["a good film", "bad a bad film indeed a", "", "good " * 13], "label": [1, 0, 1, 0]}
    dataset = DSCreator(long, tokenizer(), 6, long_text="windows")
    assert dataset.overflow_to_sample_mapping == [0, 1, 1, 2, 3, 3, 3, 3]
    assert dataset.labels == [1, 0, 0, 1, 0, 0, 0, 0]
    assert dataset.text_labels == [1, 0, 1, 0] and len(dataset) == 8
    assert dataset.lengths == [5, 6, 4, 2, 6, 6, 6, 3]
    assert dataset.truncated == [False] * 4
    modes: tuple[LongText, ...] = ("truncate", "head-tail")
    for long_text in modes:
        whole = DSCreator(long, tokenizer(), 6, long_text=long_text)
        assert whole.overflow_to_sample_mapping == [0, 1, 2, 3] and whole.labels == whole.text_labels
        assert whole.truncated == [False, True, False, True]


# Batches


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


def padded(batch: list[int], lengths: list[int]) -> int:
    return len(batch) * max(lengths[index] for index in batch)


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


def test_the_budget_of_a_batch_is_so_many_texts_of_mean_length_but_never_below_the_longest() -> None:
    dataset = DSCreator(columns(), tokenizer(), 64)  # 5 + 3 + 7 + 4 + 4 + 2 = 25 tokens, 4 1/6 a text
    for batch_size, budget in [(1, 7), (2, 8), (3, 12), (4, 17), (100, 417)]:
        assert dataset.batches(batch_size, 3, 5) == group_by_length(dataset.lengths, budget, 3, 5)
    assert dataset.batches(2, 0, 0) != dataset.batches(2, 0, 1) != dataset.batches(2, 1, 1)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=8))
def test_a_batch_holds_its_examples_and_a_mask_of_real_tokens_only_where_it_is_padded(indices: list[int]) -> None:
    dataset = dataset_of(9)
    dataset.pad_token_id = 9
    batch, rows = dataset.collate(indices), [dataset.input_ids[index].tolist() for index in indices]
    width = max(map(len, rows))
    assert batch["labels"].tolist() == indices and batch["token_type_ids"] is None
    assert batch["input_ids"].tolist() == [row + [9] * (width - len(row)) for row in rows]
    mask = batch["attention_mask"]
    if len(set(indices)) == 1:
        assert mask is None
    else:
        assert mask is not None and mask.dtype == torch.bool
        assert mask.tolist() == [[True] * len(row) + [False] * (width - len(row)) for row in rows]


def test_batches_pad_with_the_tokenizers_padding_id_or_any_where_there_is_none() -> None:
    assert DSCreator(columns(), tokenizer(), 64).pad_token_id == 0
    bare = DSCreator(columns(), Tokenizer(WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")), 64)
    assert bare.collate([0, 1])["input_ids"].shape == (2, max(bare.lengths[:2]))


def test_pairs_have_segments() -> None:
    split: dict[str, list[Any]] = {"sentence": ["a film", "bad"], "pair": ["bad", "a very good film"], "label": [1, 0]}
    known = tokenizer()
    dataset = DSCreator(split, known, 64, pair_column="pair")
    assert dataset.token_type_ids is not None
    for row, (text, pair) in enumerate(zip(split["sentence"], split["pair"], strict=True)):
        encoding = known.encode(text, pair)
        assert dataset.input_ids[row].tolist() == encoding.ids
        assert dataset.token_type_ids[row].tolist() == dataset[row]["token_type_ids"].tolist() == encoding.type_ids
    batch = dataset.collate([0, 1])
    assert batch["token_type_ids"] is not None
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1, 1, 1]]


def test_a_batch_moves_whole() -> None:
    device = torch.device("meta")
    moved = to_device(dataset_of(3, "bad").collate([0, 2]), device)
    assert [getattr(part, "device", None) for part in moved.values()] == [device] * 4
    bare = to_device(dataset_of(1).collate([0]), device)
    assert bare["attention_mask"] is None and bare["token_type_ids"] is None
