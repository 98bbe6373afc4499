from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.utils.data import DataLoader

from src.data.batching import Batch, group_by_length
from src.data.dataset import DSCreator
from src.data.tokenizer import build_tokenizer
from src.evaluation.predictor import classify
from src.model.bert import BertForSequenceClassification
from src.utils.config import LongText, TokenizerConfig
from tests.model.tiny import randomized, tiny_config

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


# Long texts in windows, pairs

LONG: dict[str, list[Any]] = {
    "sentence": ["a good film", "bad a bad film indeed a", "", "good " * 13],
    "label": [1, 0, 1, 0],
}
PAIRS: dict[str, list[Any]] = {
    "sentence": ["a good film", "bad", "film"],
    "pair": ["bad", "a very good film", ""],
    "label": [1, 0, 1],
}
CPU = torch.device("cpu")


def model() -> BertForSequenceClassification:
    """Random weights, large enough that every token counts."""
    found: BertForSequenceClassification = randomized(BertForSequenceClassification(tiny_config(), 5))
    return found


def call(*inputs: torch.Tensor | None) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model()(*inputs)
    return logits


def test_every_window_knows_its_text_and_repeats_its_label() -> None:
    dataset = DSCreator(LONG, tokenizer(), 6, long_text="windows")
    assert dataset.owners == [0, 1, 1, 2, 3, 3, 3, 3]
    assert dataset.labels == [1, 0, 0, 1, 0, 0, 0, 0]
    assert dataset.text_labels == LONG["label"] and len(dataset) == 8
    assert dataset.lengths == [5, 6, 4, 2, 6, 6, 6, 3]
    assert dataset.truncated == [False] * 4


@pytest.mark.parametrize("long_text", ["truncate", "head-tail"])
def test_without_windows_every_text_is_one_example(long_text: LongText) -> None:
    dataset = DSCreator(LONG, tokenizer(), 6, long_text=long_text)
    assert dataset.owners == [0, 1, 2, 3] and dataset.labels == dataset.text_labels == LONG["label"]
    assert dataset.truncated == [False, True, False, True]


def test_logits_of_a_text_are_the_mean_of_its_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = DSCreator(LONG, tokenizer(), 6, long_text="windows")
    each = [call(ids[None])[0] for ids in dataset.input_ids]
    wanted = [each[0], (each[1] + each[2]) / 2, each[3], (each[4] + each[5] + each[6] + each[7]) / 4]
    # Windows of a text fall into several batches.
    monkeypatch.setattr("src.evaluation.predictor.TOKENS_PER_BATCH", {"cpu": 13})
    found = classify(model(), dataset, CPU)
    torch.testing.assert_close(found, torch.stack(wanted), rtol=0, atol=1e-5)
    assert (wanted[1] - each[1]).abs().max() > 0.01


def test_pairs_reach_the_model_with_their_segments() -> None:
    known = tokenizer()
    dataset = DSCreator(PAIRS, known, 64, pair_column="pair")
    found = classify(model(), dataset, CPU)
    for row, (text, pair) in enumerate(zip(PAIRS["sentence"], PAIRS["pair"], strict=True)):
        encoding = known.encode(text, pair)
        ids, types = torch.tensor([encoding.ids]), torch.tensor([encoding.type_ids])
        torch.testing.assert_close(found[row], call(ids, None, types)[0], rtol=0, atol=1e-5)
        assert (found[row] - call(ids, None, 1 - types)[0]).abs().max() > 0.01
        assert (found[row] - call(ids)[0]).abs().max() > 0.01


def test_pairs_of_unequal_length_share_a_batch_without_seeing_each_other() -> None:
    dataset = DSCreator(PAIRS, tokenizer(), 64, pair_column="pair")
    assert dataset.token_type_ids is not None
    torch.testing.assert_close(dataset[1]["token_type_ids"], dataset.token_type_ids[1])
    batch = dataset.collate([0, 1, 2])
    assert batch["attention_mask"] is not None and batch["token_type_ids"] is not None
    together = call(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
    torch.testing.assert_close(together, classify(model(), dataset, CPU), rtol=0, atol=1e-5)


def test_without_pairs_there_are_no_segments() -> None:
    dataset = DSCreator(columns(), tokenizer(), 64)
    assert dataset.token_type_ids is None and dataset.collate([0])["token_type_ids"] is None


def test_the_budget_of_a_batch_is_so_many_texts_of_mean_length_but_never_below_the_longest() -> None:
    dataset = DSCreator(columns(), tokenizer(), 64)  # 5 + 3 + 7 + 4 + 4 + 2 = 25 tokens, 4 1/6 a text
    for batch_size, budget in [(1, 7), (2, 8), (3, 12), (4, 17), (100, 417)]:
        assert dataset.batches(batch_size, 3, 5) == group_by_length(dataset.lengths, budget, 3, 5)
    assert sorted(index for batch in dataset.batches(2, 0, 0) for index in batch) == list(range(6))
    assert dataset.batches(2, 0, 0) != dataset.batches(2, 0, 1) != dataset.batches(2, 1, 1)


def test_unshuffled_batches_have_the_seed_of_nothing() -> None:
    dataset = DSCreator(columns(), tokenizer(), 64)
    assert dataset.grouped(10) == group_by_length(dataset.lengths, 10) == dataset.grouped(10, seed=9)
    assert dataset.grouped(10, epoch=2) == group_by_length(dataset.lengths, 10, 0, 2)


def test_without_a_padding_token_any_id_pads() -> None:
    bare = Tokenizer(WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    dataset = DSCreator(columns(), bare, 64)
    assert dataset.pad_token_id == 0
    assert dataset.collate([0, 1])["input_ids"].shape == (2, max(dataset.lengths[:2]))
