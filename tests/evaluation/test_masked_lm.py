import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.data.masking import NOT_MASKED
from src.data.tokenizer import SEP
from src.evaluation import masked_lm
from src.evaluation.masked_lm import MaskedEvaluation, evaluate_masked_lm
from src.training.tasks import MaskedLMTask
from tests.model.tiny import randomized
from tests.training.tiny_pretraining import (
    WORDS,
    generator,
    leaves_global_random_numbers_alone,
    task,
    texts,
    varied_texts,
)

CPU = torch.device("cpu")
LONG = varied_texts(4, 600)
NUMBERS = MaskedEvaluation(n=400, accuracy=0.25, loss=2.5, unigram_accuracy=0.125, unigram_loss=3.25)


def large_task(cache: Path, written: list[str] = LONG, **options: Any) -> MaskedLMTask:
    """A model of large random weights on text whose words differ in frequency."""
    found = task(cache, written, **options)
    randomized(found.model)
    return found


@pytest.fixture
def large(tmp_path: Path) -> MaskedLMTask:
    return large_task(tmp_path)


def evaluate(task: MaskedLMTask) -> MaskedEvaluation:
    return task.evaluate(task.model)


def read(task: MaskedLMTask) -> tuple[Any, Any]:
    """All that an evaluation reads, and its labels, as arrays of rows."""
    rows, masks = task.validation, generator(0)
    found = [rows.collate(starts, masks) for starts in rows.batches(masked_lm.ROWS_PER_BATCH, 0, 0)]
    ids, labels = (torch.cat([batch[key] for batch in found]).numpy() for key in ("input_ids", "labels"))
    return ids, labels


def test_the_numbers_are_those_of_all_masked_tokens(large: MaskedLMTask) -> None:
    assert len(large.validation) > masked_lm.ROWS_PER_BATCH  # more than one batch
    ids, labels = read(large)
    with torch.no_grad():
        logits = large.model(torch.from_numpy(ids)).double().log_softmax(-1).numpy()
    chosen = labels != NOT_MASKED
    found = evaluate(large)
    assert found.n == chosen.sum() > 60
    losses = -np.take_along_axis(logits[chosen], labels[chosen][:, None], axis=1)
    assert found.loss == pytest.approx(losses.mean(), abs=1e-5)
    assert found.accuracy == pytest.approx((logits[chosen].argmax(-1) == labels[chosen]).mean())
    assert 0 < found.accuracy < 1


def test_the_unigram_baseline_is_that_of_the_training_text(large: MaskedLMTask) -> None:
    tokenizer, labels = large.tokenizer, read(large)[1]
    true = labels[labels != NOT_MASKED]
    words = " ".join(LONG[:-1]).split()  # the last document is held out
    # One more of each id than there are; ids of special tokens, which are never masked, count as absent.
    counts = np.ones(tokenizer.get_vocab_size())
    for word in WORDS:
        counts[tokenizer.token_to_id(word)] += words.count(word)
    found = evaluate(large)
    assert found.unigram_loss == pytest.approx(-np.log(counts / counts.sum())[true].mean(), abs=1e-5)
    assert found.unigram_accuracy == pytest.approx((true == counts.argmax()).mean())
    assert 0.1 < found.unigram_accuracy < 0.5
    assert found.unigram_loss < math.log(len(WORDS))


def test_the_baseline_never_names_a_token_that_is_never_masked_nor_an_infinite_loss(tmp_path: Path) -> None:
    large = large_task(tmp_path, ([f"{word} {word}" for word in WORDS] * 3)[:19] + LONG[-1:], seq_len=8)
    tokenizer, counts = large.tokenizer, large.train.counts
    assert counts.argmax() == tokenizer.token_to_id(SEP)  # texts are that short
    assert evaluate(large).unigram_accuracy > 0
    only_the_last = torch.zeros_like(counts)  # of the words
    only_the_last[tokenizer.token_to_id(WORDS[-1])] = 10**6
    found = evaluate_masked_lm(large.model, large.validation, only_the_last, CPU)
    assert 10 < found.unigram_loss < 20


def test_every_evaluation_gives_the_same_numbers_without_dropout_and_leaves_the_mode_as_it_was(tmp_path: Path) -> None:
    expected, found = evaluate(large_task(tmp_path)), []
    dropping = large_task(tmp_path, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
    for training in (True, False):
        dropping.model.train(training)
        torch.manual_seed(training)
        assert leaves_global_random_numbers_alone(lambda: found.append(evaluate(dropping)))
        assert {module.training for module in dropping.model.modules()} == {training}
    assert found == [expected] * 2


def test_a_held_out_text_too_short_to_mask_anything_gives_zeros(tmp_path: Path) -> None:
    large = task(tmp_path, [*texts(4), "red"], seq_len=3, mask_rate=1e-6)
    assert evaluate(large) == MaskedEvaluation(0, 0.0, 0.0, 0.0, 0.0)


def test_an_evaluation_survives_being_written_with_more_beside_it() -> None:
    assert MaskedEvaluation.from_dict(NUMBERS.as_dict() | {"dataset": "films"}) == NUMBERS
    text = NUMBERS.as_text()
    assert all(fact in text for fact in ("25.0 %", "2.500", "400", "12.5 %", "3.250"))
