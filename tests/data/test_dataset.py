import time

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from torch.utils.data import DataLoader

from src.data.batching import Batch, group_by_length
from src.data.dataset import DSCreator, encode
from src.data.tokenizer import build_tokenizer
from src.utils.config import TokenizerConfig

TEXTS = ["a good film", "bad", "a very good film indeed", "xyzzy plugh", "a xyzzy", ""]
LABELS = [1, 0, 1, 0, 1, 0]


def tokenizer(kind: str = "wordlevel") -> Tokenizer:
    texts = ["a very good film indeed", "bad"]
    config = TokenizerConfig(tokenizer=kind, min_frequency=1)  # type: ignore[arg-type]
    return build_tokenizer(texts, config, 100)


def columns(text: str = "sentence", label: str = "label") -> dict[str, list[object]]:
    return {text: list(TEXTS), label: list(LABELS)}


def test_a_mapping_of_lists_becomes_examples() -> None:
    known = tokenizer()
    dataset = DSCreator(columns(), known, 64)
    assert len(dataset) == 6
    assert dataset.labels == LABELS
    assert [ids.tolist() for ids in dataset.input_ids] == [known.encode(text).ids for text in TEXTS]
    assert dataset.lengths == [5, 3, 7, 4, 4, 2]


def test_a_hugging_face_split_gives_the_same_examples() -> None:
    ours, theirs = (DSCreator(split, tokenizer(), 64) for split in (columns(), Dataset.from_dict(columns())))
    assert [ids.tolist() for ids in ours.input_ids] == [ids.tolist() for ids in theirs.input_ids]
    assert ours.labels == theirs.labels and len(theirs) == 6


@pytest.mark.parametrize("as_dataset", [False, True])
def test_columns_may_have_other_names(as_dataset: bool) -> None:
    split = columns("review", "stars")
    dataset = DSCreator(Dataset.from_dict(split) if as_dataset else split, tokenizer(), 64, "review", "stars")
    assert dataset.lengths == [5, 3, 7, 4, 4, 2] and dataset.labels == LABELS


def test_an_example_is_a_pair_of_int64_tensors() -> None:
    example = DSCreator(columns(), tokenizer(), 64)[0]
    assert set(example) == {"input_ids", "labels"}
    assert example["input_ids"].dtype == torch.int64 and example["input_ids"].shape == (5,)
    assert example["labels"].dtype == torch.int64 and example["labels"].shape == ()


@pytest.mark.parametrize("seq_len", [3, 4, 5, 6, 7, 8])
def test_seq_len_cuts_and_flags_exactly_the_longer_texts(seq_len: int) -> None:
    dataset = DSCreator(columns(), tokenizer(), seq_len)
    whole = [5, 3, 7, 4, 4, 2]
    assert dataset.lengths == [min(length, seq_len) for length in whole]
    assert dataset.truncated == [length > seq_len for length in whole]


def test_the_tokenizers_own_truncation_and_padding_do_not_matter() -> None:
    other = tokenizer()
    other.enable_truncation(3)
    other.enable_padding(length=50)
    assert DSCreator(columns(), other, 64).lengths == [5, 3, 7, 4, 4, 2]


@pytest.mark.parametrize("text", ["good" + " " * 10_000 + "film", "good " * 10_000])
def test_a_text_whose_end_was_never_read_is_flagged(text: str) -> None:
    dataset = DSCreator({"sentence": [text], "label": [0]}, tokenizer(), 8)
    assert dataset.truncated == [True]


def test_texts_without_a_known_word_are_flagged() -> None:
    assert DSCreator(columns(), tokenizer(), 64).unknown == [False, False, False, True, False, False]
    pieces = DSCreator(
        {"sentence": ["film", "\u6620\u753b", "film \u6620"], "label": [0, 0, 0]}, tokenizer("wordpiece"), 64
    )
    assert pieces.unknown == [False, True, False]


@pytest.mark.parametrize("kind", ["wordlevel", "wordpiece"])
@pytest.mark.parametrize(
    "text", ["." * 10_000_000, "good film " * 1_000_000, "x" * 10_000_000], ids=["dots", "words", "x"]
)
def test_ten_megabytes_of_text_take_less_than_a_second(kind: str, text: str) -> None:
    known = tokenizer(kind)
    start = time.perf_counter()
    dataset = DSCreator({"sentence": [text], "label": [0]}, known, 64)
    assert time.perf_counter() - start < 1
    assert dataset.truncated == [True]


@settings(deadline=None)
@given(text=st.text(st.characters(codec=None), max_size=40))
def test_any_string_is_encoded_even_half_surrogate_pairs(text: str) -> None:
    encoding = encode(tokenizer(), [text, "\udcff" + text], 6)[1]
    assert 2 <= len(encoding) <= 6


def test_no_texts_give_no_examples() -> None:
    dataset = DSCreator({"sentence": [], "label": []}, tokenizer(), 64)
    assert len(dataset) == 0 and dataset.grouped(100) == []


def test_batches_are_grouped_by_length_from_seed_and_epoch() -> None:
    dataset = DSCreator({"sentence": ["a good film", "bad"] * 50, "label": [0, 1] * 50}, tokenizer(), 64)
    for seed, epoch in ((0, None), (3, 1), (3, 2)):
        assert dataset.grouped(20, seed, epoch) == group_by_length([5, 3] * 50, 20, seed, epoch)
    assert dataset.grouped(20) == group_by_length([5, 3] * 50, 20)


def test_batches_pad_with_the_tokenizers_padding_id() -> None:
    known = tokenizer()
    dataset = DSCreator(columns(), known, 64)
    assert dataset.pad_token_id == 0
    batch = dataset.collate([1, 2])
    assert batch["input_ids"][0].tolist() == [*known.encode("bad").ids, 0, 0, 0, 0]
    assert batch["labels"].tolist() == [0, 1]


def test_data_loader_takes_the_grouped_batches() -> None:
    dataset = DSCreator(columns(), tokenizer(), 64)
    groups = dataset.grouped(10, seed=3, epoch=1)
    loader: DataLoader[Batch] = DataLoader(groups, batch_size=None, collate_fn=dataset.collate)  # type: ignore[arg-type]
    batches = list(loader)
    assert [batch["labels"].tolist() for batch in batches] == [[LABELS[index] for index in group] for group in groups]
    for batch, group in zip(batches, groups, strict=True):
        assert batch["input_ids"].shape == (len(group), max(dataset.lengths[index] for index in group))


def test_data_loader_serves_single_examples() -> None:
    dataset = DSCreator(columns(), tokenizer(), 64)
    examples = list(DataLoader(dataset, batch_size=None))
    assert [example["labels"].item() for example in examples] == LABELS
    assert [len(example["input_ids"]) for example in examples] == dataset.lengths
