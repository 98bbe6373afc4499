import re
from dataclasses import replace
from typing import Any
from unittest.mock import ANY

import pytest
import torch

from src.data.sources import TextSplit
from src.data.tokenizer import PAD, SEP
from src.training.setup import draw, freeze, set_up
from src.utils.errors import UsageError
from tests.training.tiny_training import ALL_RANDOMNESS, corpus_of, sentences, settings, setup, weights

TEXTS = [f"text {index}" for index in range(50)]
SPLIT = TextSplit(TEXTS, [index % 2 for index in range(50)], "made up", [f"pair of {text}" for text in TEXTS])


def test_drawing_keeps_texts_labels_and_order_together() -> None:
    drawn = draw(SPLIT, 20, seed=3)
    indices = [int(text.removeprefix("text ")) for text in drawn.texts]
    assert len(set(indices)) == 20 and indices == sorted(indices)
    assert drawn.labels == [index % 2 for index in indices]
    assert drawn.pairs == [f"pair of {text}" for text in drawn.texts]
    assert draw(SPLIT, 20, seed=3) == drawn != draw(SPLIT, 20, seed=4)
    for count in (None, 50, 51):  # as many as there are is all of them
        assert draw(SPLIT, count, seed=3) == SPLIT


def test_data_is_described_for_run_json_and_only_the_training_split_is_shortened() -> None:
    parts = setup(max_train_samples=20)
    assert (len(parts.trainer.dataset), len(parts.validation)) == (20, 12)
    assert parts.data == {
        "name": "made-up",
        "label_names": ("negative", "positive"),
        "train_origin": "made up",
        "train": 20,
        "validation_origin": "made up",
        "validation": 12,
        "sha256": ANY,
    }


def test_vocabulary_comes_from_the_training_split_alone() -> None:
    zebras = TextSplit(["zebra zebra zebra film"], [0], "made up")
    parts = set_up(settings(), corpus_of(sentences(36, 1), zebras))
    config, tokenizer = parts.classifier.model.config, parts.classifier.tokenizer
    assert tokenizer.token_to_id("film") is not None and tokenizer.token_to_id("zebra") is None
    assert config.vocab_size == tokenizer.get_vocab_size() < 50
    assert config.pad_token_id == tokenizer.token_to_id(PAD)


def test_labels_are_counted_once_a_text_whatever_its_windows(capsys: pytest.CaptureFixture[str]) -> None:
    parts = setup(seq_len=5, long_text="windows")
    assert len(parts.trainer.dataset) > 36
    err = capsys.readouterr().err
    assert "18 negative, 18 positive" in err and "truncated" not in err
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


# Freezing


def part_of(name: str) -> str:
    """Names the part of a model that a parameter belongs to: "embedding", the number of a layer, "pooler" ..."""
    return re.sub(r"^(bert\.)?(encoder\.layers\.)?(\w+)\..*", r"\3", name)


@pytest.mark.parametrize(
    ("layers", "frozen"),
    [
        (None, set()),
        (0, {"embedding"}),
        (1, {"embedding", "0"}),
        (3, {"embedding", "0", "1", "2"}),
        ("all", {"embedding", "0", "1", "2"}),
    ],
)
def test_the_embeddings_and_the_lowest_layers_are_frozen_and_do_not_change(layers: Any, frozen: set[str]) -> None:
    parts = setup(num_hidden_layers=3, freeze_layers=layers, epochs=1, **ALL_RANDOMNESS)
    before = weights(parts)
    parts.trainer.train_epoch(lambda report: None)
    with parts.trainer.state.as_delivered():
        after = weights(parts)
    optimised = {id(parameter) for group in parts.trainer.state.optimizer.param_groups for parameter in group["params"]}
    for name, parameter in parts.classifier.model.named_parameters():
        is_frozen = part_of(name) in frozen
        assert parameter.requires_grad is not is_frozen
        assert (id(parameter) in optimised) is not is_frozen
        assert torch.equal(after[name], before[name]) is is_frozen, name


def test_more_layers_than_there_are_cannot_be_frozen() -> None:
    model = setup(num_hidden_layers=2).classifier.model
    with pytest.raises(UsageError, match=r"freeze_layers = 3\b"):
        freeze(model, 3)
    assert all(parameter.requires_grad for parameter in model.parameters())
