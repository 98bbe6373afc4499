import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from src.data.dataset import Batch
from src.data.masking import NOT_MASKED
from src.data.sources import TextSplit
from src.data.tokenizer import PAD, SEP, SPECIAL_TOKENS
from src.training.dry_run import with_steps
from src.training.tasks import ClassificationTask, draw, freeze
from src.training.trainer import Trainer
from src.utils.errors import DataError, UsageError
from tests.model.tiny import randomized
from tests.training import tiny_pretraining, tiny_training
from tests.training.tiny_pretraining import corpus, generator, varied_texts
from tests.training.tiny_training import (
    ALL_RANDOMNESS,
    NO_DROPOUT,
    assert_same,
    corpus_of,
    sentences,
    settings,
    weights,
)

# transformers leaves config.json open in save_pretrained
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*config.json:ResourceWarning")

TEXTS = [f"text {index}" for index in range(50)]
SPLIT = TextSplit(TEXTS, [index % 2 for index in range(50)], "made up", [f"pair of {text}" for text in TEXTS])

# Classification: data and model


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
    task = tiny_training.task(max_train_samples=20)
    assert (len(task.train), len(task.validation)) == (20, 12)
    assert [task.data[key] for key in ("name", "train", "validation", "unlabelled")] == ["made-up", 20, 12, 0]


def test_vocabulary_comes_from_the_training_split_alone() -> None:
    zebras = TextSplit(["zebra zebra zebra film"], [0], "made up")
    task = ClassificationTask(settings(), corpus_of(sentences(36, 1), zebras))
    config, tokenizer = task.model.config, task.classifier.tokenizer
    assert tokenizer.token_to_id("film") is not None and tokenizer.token_to_id("zebra") is None
    assert config.vocab_size == tokenizer.get_vocab_size() < 50
    assert config.pad_token_id == tokenizer.token_to_id(PAD)


def test_labels_are_counted_once_a_text_whatever_its_windows(capsys: pytest.CaptureFixture[str]) -> None:
    task = tiny_training.task(seq_len=5, long_text="windows")
    task.log_start(total_steps=6, steps_per_epoch=6)
    assert len(task.train) > 36
    err = capsys.readouterr().err
    assert "18 negative, 18 positive" in err and "truncated" not in err
    assert (task.data["train"], task.data["validation"]) == (36, 12)
    assert task.classifier.long_text == "windows"


@pytest.mark.parametrize(("kind", "is_told"), [("wordlevel", True), ("wordpiece", False)])
def test_texts_of_mostly_unknown_words_are_said(kind: str, is_told: bool, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [f"\u4eca\u56de\u306e\u97f3\u697d\u306f{number}" for number in range(40)]  # no spaces
    train, validation = (TextSplit(texts[start::2], [0, 1] * 10, "made up") for start in (0, 1))
    ClassificationTask(settings(tokenizer=kind, min_frequency=1), corpus_of(train, validation)).log_start(1, 1)
    assert ("--tokenizer wordpiece" in capsys.readouterr().err) == is_told


def test_second_texts_are_in_the_vocabulary_and_in_both_datasets() -> None:
    train, validation = (
        replace(split, pairs=[f"zebra {text}" for text in split.texts])
        for split in (sentences(36, 1), sentences(12, 2))
    )
    task = ClassificationTask(settings(max_train_samples=20), corpus_of(train, validation))
    zebra, sep = (task.classifier.tokenizer.token_to_id(token) for token in ("zebra", SEP))
    assert zebra is not None and len(task.train) == 20
    for dataset in (task.train, task.validation):
        for ids, types in zip(dataset.input_ids, dataset.token_type_ids or [], strict=True):
            at = ids.tolist().index(zebra)
            assert ids[at - 1] == sep and types.tolist() == [0] * at + [1] * (len(ids) - at)


# Classification: weights of classes


def test_balanced_weights_are_those_of_scikit_learn_and_weigh_the_loss() -> None:
    labels = [0] * 9 + [1] * 2 + [2]
    names = ("a", "b", "c", "absent")
    train, validation = replace(sentences(12, 1), labels=labels), sentences(4, 2)
    task = ClassificationTask(settings(class_weights="balanced", **NO_DROPOUT), corpus_of(train, validation, names))
    weights = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    batch = task.train.collate(range(12))
    logits = task.model(batch["input_ids"], batch["attention_mask"])
    losses = F.cross_entropy(logits, batch["labels"], reduction="none")
    wanted = float((losses.detach() * torch.tensor(weights)[batch["labels"]]).sum())
    assert task.loss(task.model, batch).item() == pytest.approx(wanted, rel=1e-5)
    task.config = settings(class_weights="balanced", label_smoothing=0.1)
    assert task.loss(task.model, batch).isfinite()  # although one class is absent


# Classification: freezing


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
    trainer = tiny_training.trainer(num_hidden_layers=3, freeze_layers=layers, epochs=1, **ALL_RANDOMNESS)
    before = weights(trainer)
    assert len(tiny_training.train_epoch(trainer)) == trainer.total_steps
    after = trainer.trained_model.state_dict()
    optimised = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    for name, parameter in trainer.model.named_parameters():
        is_frozen = part_of(name) in frozen
        assert parameter.requires_grad is not is_frozen
        assert (id(parameter) in optimised) is not is_frozen
        assert torch.equal(after[name], before[name]) is is_frozen, name


def test_more_layers_than_there_are_cannot_be_frozen() -> None:
    model = tiny_training.task(num_hidden_layers=2).model
    with pytest.raises(UsageError, match=r"freeze_layers = 3\b"):
        freeze(model, 3)
    assert all(parameter.requires_grad for parameter in model.parameters())


# Masked language modelling: data and model


def test_the_rows_are_of_the_length_and_masked_as_the_settings_say(tmp_path: Path) -> None:
    task, text = tiny_pretraining.task(tmp_path, seq_len=12, mask_rate=0.3, mask_replacement="mask"), corpus(tmp_path)
    for rows, stream in ((task.train, text.train), (task.validation, text.validation)):
        assert rows.seq_len == 12 and rows.stream.tolist() == stream.tolist()
        rate = 0.3 if rows is task.train else 0.15  # evaluations mask alike whatever the training does
        assert (rows.masking.rate, rows.masking.only_mask_tokens) == (rate, True)
        tokens = [task.tokenizer.id_to_token(index) for index in rows.masking.special_ids]
        assert tokens == list(SPECIAL_TOKENS)
        assert task.tokenizer.id_to_token(rows.masking.mask_token_id) == "[MASK]"
    usual = tiny_pretraining.task(tmp_path)
    assert not usual.train.masking.only_mask_tokens and usual.validation.masking.only_mask_tokens


@pytest.mark.parametrize("written", [["red " * 200, "red"], ["red", "red " * 200]])
def test_too_little_text_for_a_row_is_a_data_error(written: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\b2 tokens.*--seq-len 16\b"):
        tiny_pretraining.task(tmp_path, written)


def test_measuring_the_steps_leaves_no_trace_in_the_weights(tmp_path: Path) -> None:
    expected = weights(tiny_pretraining.trainer(tmp_path, max_steps=5))
    with_steps(tiny_pretraining.settings(max_steps=None, minutes=0.01), corpus(tmp_path))
    assert_same(weights(tiny_pretraining.trainer(tmp_path, max_steps=5)), expected)


# Masked language modelling: loss

ROWS = list(range(0, 140, 14))


def large(cache: Path, **options: Any) -> Trainer:
    """A pre-training whose model has large weights, so that every token has another loss."""
    trainer = tiny_pretraining.trainer(cache, varied_texts(), max_grad_norm=1e9, mask_rate=0.3, **options)
    randomized(trainer.model, std=0.5)
    return trainer


def batch_of(trainer: Trainer, starts: list[int], seed: int = 0) -> Batch:
    return trainer.task.train.collate(starts, generator(seed))  # type: ignore[call-arg]


def gradients(trainer: Trainer) -> dict[str, Tensor]:
    """What the first step's gradients were: AdamW's first mean is (1 - beta1) times them."""
    state = trainer.optimizer.state
    return {name: state[weight]["exp_avg"] / (1 - 0.9) for name, weight in trainer.model.named_parameters()}


def test_the_loss_is_the_sum_over_masked_tokens_as_transformers_computes_it(tmp_path: Path) -> None:
    trainer = large(tmp_path / "cache")
    task, batch = trainer.task, batch_of(trainer, ROWS[:3])
    task.save(tmp_path, trainer.model)
    theirs = transformers.BertForMaskedLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        mean = theirs(input_ids=batch["input_ids"], labels=batch["labels"]).loss
        found = task.loss(trainer.model, batch)
    count = task.num_targets(batch)
    assert count == sum(label != NOT_MASKED for row in batch["labels"].tolist() for label in row) > 5
    torch.testing.assert_close(found / count, mean, rtol=0, atol=1e-5)


def test_accumulated_batches_equal_one_batch_of_all_their_rows(tmp_path: Path) -> None:
    split, whole = large(tmp_path), large(tmp_path)
    batches = [batch_of(split, ROWS[:7]), batch_of(split, ROWS[7:8], seed=1), batch_of(split, ROWS[8:], seed=2)]
    counts = [split.task.num_targets(batch) for batch in batches]
    assert len(set(counts)) == 3  # a mean of means would be another number
    ids, labels = (torch.cat([batch[key] for batch in batches]) for key in ("input_ids", "labels"))
    united = Batch(input_ids=ids, attention_mask=None, token_type_ids=None, labels=labels)
    summed = whole.task.loss(whole.model, united).item()
    one, other = split.training_step(batches), whole.training_step([united])
    assert one.loss == pytest.approx(other.loss, abs=1e-6)
    assert one.loss == pytest.approx(summed / sum(counts), abs=1e-6)
    assert (one.num_targets, one.num_tokens) == (other.num_targets, other.num_tokens) == (sum(counts), 16 * len(ROWS))
    found, wanted = gradients(split), gradients(whole)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=1e-6)
    assert max(float(gradient.abs().max()) for gradient in wanted.values()) > 1e-2


def test_a_batch_without_a_masked_token_costs_nothing_and_harms_nothing(tmp_path: Path) -> None:
    trainer = large(tmp_path, weight_decay=0.0)
    batch = batch_of(trainer, ROWS)
    nothing: Batch = {**batch, "labels": torch.full_like(batch["labels"], NOT_MASKED)}
    before = weights(trainer)
    assert trainer.task.num_targets(nothing) == 0
    report = trainer.training_step([nothing])
    assert (report.loss, report.gradient_norm) == (0.0, 0.0)
    assert_same(weights(trainer), before)
