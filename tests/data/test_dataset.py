from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.utils.data import DataLoader

from src.data.batching import Batch, group_by_length
from src.data.dataset import DSCreator
from src.data.tokenizer import build_tokenizer
from src.utils.config import LongText, TokenizerConfig

TEXTS = ["a good film", "bad", "a very good film indeed", "xyzzy plugh", "a xyzzy", ""]
LABELS = [1, 0, 1, 0, 1, 0]


def tokenizer() -> Tokenizer:
    config = TokenizerConfig(tokenizer="wordlevel", min_frequency=1)
    return build_tokenizer(["a very good film indeed", "bad"], config, 100)


def columns(text: str = "sentence", label: str = "label") -> dict[str, list[object]]:
    return {text: list(TEXTS), label: list(LABELS)}


WHOLE = [5, 3, 7, 4, 4, 2]  # tokens of the texts


def test_a_mapping_or_a_hugging_face_split_becomes_examples() -> None:
    known = tokenizer()
    for split in (columns(), Dataset.from_dict(columns())):
        dataset = DSCreator(split, known, 64)
        assert len(dataset) == 6 and dataset.labels == LABELS
        assert [ids.tolist() for ids in dataset.input_ids] == [known.encode(text).ids for text in TEXTS]
        assert dataset.lengths == WHOLE
    renamed = columns("review", "stars")
    for split in (renamed, Dataset.from_dict(renamed)):
        dataset = DSCreator(split, known, 64, "review", "stars")
        assert dataset.lengths == WHOLE and dataset.labels == LABELS


def test_an_example_is_a_pair_of_int64_tensors_which_a_data_loader_takes_in_grouped_batches() -> None:
    dataset = DSCreator(columns(), tokenizer(), 64)
    assert set(dataset[0]) == {"input_ids", "labels"}
    assert [example["labels"].item() for example in DataLoader(dataset, batch_size=None)] == LABELS
    assert [len(example["input_ids"]) for example in DataLoader(dataset, batch_size=None)] == WHOLE
    assert dataset[0]["input_ids"].dtype == dataset[0]["labels"].dtype == torch.int64
    assert dataset.token_type_ids is None and dataset.collate([0])["token_type_ids"] is None
    groups = dataset.grouped(10, seed=3, epoch=1)
    assert groups == group_by_length(WHOLE, 10, 3, 1) and dataset.grouped(10, seed=9) == group_by_length(WHOLE, 10)
    loader: DataLoader[Batch] = DataLoader(groups, batch_size=None, collate_fn=dataset.collate)  # type: ignore[arg-type]
    for batch, group in zip(loader, groups, strict=True):
        assert batch["labels"].tolist() == [LABELS[index] for index in group]
        assert batch["input_ids"].shape == (len(group), max(WHOLE[index] for index in group))
    assert DSCreator({"sentence": [], "label": []}, tokenizer(), 64).grouped(100) == []


def test_seq_len_cuts_and_flags_exactly_the_longer_texts_and_those_without_a_known_word_are_flagged() -> None:
    other = tokenizer()
    for seq_len in (3, 5, 6, 7, 64):
        other.enable_truncation(4)
        other.enable_padding(length=50)
        dataset = DSCreator(columns(), other, seq_len)
        assert dataset.lengths == [min(length, seq_len) for length in WHOLE]
        assert dataset.truncated == [length > seq_len for length in WHOLE]
        assert dataset.unknown == [False, False, False, True, False, False]


def test_batches_pad_with_the_tokenizers_padding_id() -> None:
    known = tokenizer()
    dataset = DSCreator(columns(), known, 64)
    assert dataset.pad_token_id == 0
    batch = dataset.collate([1, 2])
    assert batch["input_ids"][0].tolist() == [*known.encode("bad").ids, 0, 0, 0, 0]
    assert batch["labels"].tolist() == [0, 1]
    # Where there is no padding token any id will do.
    bare = DSCreator(columns(), Tokenizer(WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")), 64)
    assert bare.pad_token_id == 0
    assert bare.collate([0, 1])["input_ids"].shape == (2, max(bare.lengths[:2]))


# Long texts in windows, pairs

LONG: dict[str, list[Any]] = {
    "sentence": ["a good film", "bad a bad film indeed a", "", "good " * 13],
    "label": [1, 0, 1, 0],
}


def test_every_window_knows_its_text_and_repeats_its_label() -> None:
    dataset = DSCreator(LONG, tokenizer(), 6, long_text="windows")
    assert dataset.owners == [0, 1, 1, 2, 3, 3, 3, 3]
    assert dataset.labels == [1, 0, 0, 1, 0, 0, 0, 0]
    assert dataset.text_labels == LONG["label"] and len(dataset) == 8
    assert dataset.lengths == [5, 6, 4, 2, 6, 6, 6, 3]
    assert dataset.truncated == [False] * 4
    modes: tuple[LongText, ...] = ("truncate", "head-tail")
    for long_text in modes:
        whole = DSCreator(LONG, tokenizer(), 6, long_text=long_text)
        assert whole.owners == [0, 1, 2, 3] and whole.labels == whole.text_labels == LONG["label"]
        assert whole.truncated == [False, True, False, True]


def test_pairs_have_segments() -> None:
    split: dict[str, list[Any]] = {
        "sentence": ["a good film", "bad"],
        "pair": ["bad", "a very good film"],
        "label": [1, 0],
    }
    known = tokenizer()
    dataset = DSCreator(split, known, 64, pair_column="pair")
    assert dataset.token_type_ids is not None
    for row, (text, pair) in enumerate(zip(split["sentence"], split["pair"], strict=True)):
        encoding = known.encode(text, pair)
        assert dataset.input_ids[row].tolist() == encoding.ids
        assert dataset.token_type_ids[row].tolist() == dataset[row]["token_type_ids"].tolist() == encoding.type_ids
    batch = dataset.collate([0, 1])
    assert batch["token_type_ids"] is not None
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1, 1]]


def test_the_budget_of_a_batch_is_so_many_texts_of_mean_length_but_never_below_the_longest() -> None:
    dataset = DSCreator(columns(), tokenizer(), 64)  # 5 + 3 + 7 + 4 + 4 + 2 = 25 tokens, 4 1/6 a text
    for batch_size, budget in [(1, 7), (2, 8), (3, 12), (4, 17), (100, 417)]:
        assert dataset.batches(batch_size, 3, 5) == group_by_length(dataset.lengths, budget, 3, 5)
    assert sorted(index for batch in dataset.batches(2, 0, 0) for index in batch) == list(range(6))
    assert dataset.batches(2, 0, 0) != dataset.batches(2, 0, 1) != dataset.batches(2, 1, 1)
