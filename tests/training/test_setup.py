import re
import time
from dataclasses import replace
from typing import Any
from unittest.mock import ANY

import pytest
import torch

from src.data.sources import TextSplit
from src.data.tokenizer import PAD, SEP
from src.training.setup import draw, set_up
from tests.training.tiny_training import corpus_of, sentences, settings, setup

SPLIT = TextSplit([f"text {index}" for index in range(50)], [index % 2 for index in range(50)], "made up")


def test_drawing_keeps_texts_labels_and_order_together() -> None:
    drawn = draw(SPLIT, 20, seed=3)
    indices = [int(text.removeprefix("text ")) for text in drawn.texts]
    assert len(set(indices)) == 20 and indices == sorted(indices)
    assert drawn.labels == [index % 2 for index in indices]


def test_the_seed_decides_what_is_drawn() -> None:
    assert draw(SPLIT, 20, seed=3) == draw(SPLIT, 20, seed=3) != draw(SPLIT, 20, seed=4)


@pytest.mark.parametrize("count", [None, 50, 51])
def test_as_many_as_there_are_is_all_of_them(count: int | None) -> None:
    assert draw(SPLIT, count, seed=3) == SPLIT


def test_max_train_samples_leaves_the_validation_split_alone() -> None:
    parts = setup(max_train_samples=20)
    assert (len(parts.trainer.dataset), len(parts.validation)) == (20, 12)


def test_data_is_described_for_run_json() -> None:
    assert setup(max_train_samples=20).data == {
        "name": "made-up",
        "label_names": ("negative", "positive"),
        "train_origin": "made up",
        "train": 20,
        "validation_origin": "made up",
        "validation": 12,
        "sha256": ANY,
    }


def test_another_text_label_or_order_is_other_data() -> None:
    split = sentences(36, 1)
    others = [
        replace(split, texts=[*split.texts[:-1], split.texts[-1] + " x"]),
        replace(split, labels=[1 - split.labels[0], *split.labels[1:]]),
        replace(split, texts=split.texts[::-1], labels=split.labels[::-1]),
    ]
    corpora = [corpus_of(train, validation) for train in (split, *others) for validation in (split, others[0])]
    found = [set_up(settings(), corpus).data["sha256"] for corpus in corpora]
    assert len(set(found)) == len(found)
    assert set_up(settings(), corpus_of(sentences(36, 1), split)).data["sha256"] == found[0]


def test_vocabulary_comes_from_the_training_split_alone() -> None:
    zebras = TextSplit(["zebra zebra zebra film"], [0], "made up")
    parts = set_up(settings(), corpus_of(sentences(36, 1), zebras))
    assert parts.classifier.tokenizer.token_to_id("film") is not None
    assert parts.classifier.tokenizer.token_to_id("zebra") is None


def test_training_time_begins_with_tokenizing() -> None:
    before = time.perf_counter()
    parts = setup()
    assert 0 < parts.trainer.state.progress.training_seconds < time.perf_counter() - before


def test_model_has_as_many_embeddings_as_the_tokenizer_tokens_and_its_padding() -> None:
    parts = setup()
    config, tokenizer = parts.classifier.model.config, parts.classifier.tokenizer
    assert config.vocab_size == tokenizer.get_vocab_size() < 50
    assert config.pad_token_id == tokenizer.token_to_id(PAD)
    assert parts.classifier.seq_len == 64


def test_model_has_one_logit_a_label() -> None:
    train = TextSplit(["a film"] * 6, [0, 1, 2] * 2, "made up")
    parts = set_up(settings(), corpus_of(train, train, ("bad", "mixed", "good")))
    assert parts.classifier.model.num_labels == 3
    assert parts.classifier.label_names == ("bad", "mixed", "good")


def test_seed_fixes_the_first_weights_whatever_happened_before() -> None:
    first = setup(seed=5).classifier.model.classifier.weight
    torch.rand(3)
    assert torch.equal(setup(seed=5).classifier.model.classifier.weight, first)
    assert not torch.equal(setup(seed=6).classifier.model.classifier.weight, first)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "training    36 examples (18 negative, 18 positive) of made up"),
        ({}, "validation  12 examples of made up"),
        ({}, "vocabulary  22 tokens; "),
        ({}, "1 layers, 16 wide, 2 heads: "),
        ({"epochs": 7}, "steps       7 epochs of 6, on cpu in fp32"),
        ({"precision": "bf16"}, "on cpu in bf16"),
        ({"seq_len": 5}, " training texts to 5 tokens (--seq-len)"),
    ],
)
def test_what_is_trained_is_said_on_standard_error(
    options: dict[str, Any], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    setup(**options)
    printed = capsys.readouterr()
    assert line in printed.err
    assert printed.out == ""


def test_truncated_texts_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    dataset = setup(seq_len=5).trainer.dataset
    assert 0 < sum(dataset.truncated) < 36
    found = re.search(r"truncated   (\d+) training", capsys.readouterr().err)
    assert found is not None and int(found[1]) == sum(dataset.truncated)


def test_labels_are_counted_once_a_text_whatever_its_windows(capsys: pytest.CaptureFixture[str]) -> None:
    parts = setup(seq_len=5, long_text="windows")
    assert len(parts.trainer.dataset) > 36
    err = capsys.readouterr().err
    assert "training    36 examples (18 negative, 18 positive) of made up" in err
    assert "validation  12 examples of made up" in err and "truncated" not in err
    assert (parts.data["train"], parts.data["validation"]) == (36, 12)
    assert parts.classifier.long_text == "windows"


def test_second_texts_are_in_the_vocabulary_and_in_both_datasets() -> None:
    train, validation = (
        replace(split, pairs=[f"zebra {text}" for text in split.texts])
        for split in (sentences(36, 1), sentences(12, 2))
    )
    parts = set_up(settings(max_train_samples=20), corpus_of(train, validation))
    tokenizer = parts.classifier.tokenizer
    zebra, sep = (tokenizer.token_to_id(token) for token in ("zebra", SEP))
    assert zebra is not None and len(parts.trainer.dataset) == 20
    for dataset in (parts.trainer.dataset, parts.validation):
        for ids, types in zip(dataset.input_ids, dataset.token_type_ids or [], strict=True):
            at = ids.tolist().index(zebra)
            assert ids[at - 1] == sep and types.tolist() == [0] * at + [1] * (len(ids) - at)


def test_drawing_keeps_second_texts_with_their_first() -> None:
    drawn = draw(replace(SPLIT, pairs=[f"pair of {text}" for text in SPLIT.texts]), 20, seed=3)
    assert drawn.pairs == [f"pair of {text}" for text in drawn.texts]


@pytest.mark.parametrize("on", [True, False])
def test_gradient_checkpointing_is_switched_by_its_option(on: bool) -> None:
    assert setup(gradient_checkpointing=on).classifier.model.bert.encoder.gradient_checkpointing is on
