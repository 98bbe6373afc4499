import re
from pathlib import Path

import pytest
import torch

from src.data.tokenizer import PAD, SPECIAL_TOKENS
from src.training.pretrain_setup import with_steps
from src.utils.errors import DataError
from tests.training.tiny_pretraining import WORDS, corpus, settings, setup, weights


def test_the_model_has_as_many_embeddings_as_the_tokenizer_tokens_and_its_padding(tmp_path: Path) -> None:
    parts = setup(tmp_path)
    masked_lm = parts.subject.masked_lm
    assert masked_lm.model.config.vocab_size == masked_lm.tokenizer.get_vocab_size() == len(WORDS) + 5 < 64
    assert masked_lm.model.config.pad_token_id == masked_lm.tokenizer.token_to_id(PAD)
    assert masked_lm.seq_len == 16


def test_the_rows_are_of_the_length_and_masked_as_the_settings_say(tmp_path: Path) -> None:
    parts = setup(tmp_path, seq_len=12, mask_rate=0.3, mask_replacement="mask")
    for rows, stream in (
        (parts.subject.train, corpus(tmp_path).train),
        (parts.subject.validation, corpus(tmp_path).validation),
    ):
        assert rows.seq_len == 12 and rows.stream.tolist() == stream.tolist()
        rate = 0.3 if rows is parts.subject.train else 0.15  # evaluations mask alike whatever the training does
        assert (rows.masking.rate, rows.masking.only_mask_tokens) == (rate, True)
        tokens = [parts.subject.masked_lm.tokenizer.id_to_token(index) for index in rows.masking.special_ids]
        assert tokens == list(SPECIAL_TOKENS)
        assert parts.subject.masked_lm.tokenizer.id_to_token(rows.masking.mask_token_id) == "[MASK]"
    assert not setup(tmp_path).subject.train.masking.only_mask_tokens
    assert setup(tmp_path).subject.validation.masking.only_mask_tokens
    assert parts.trainer.dataset is parts.subject.train


@pytest.mark.parametrize("steps", [6, 16])
def test_the_training_ends_after_so_many_steps_within_an_epoch_or_in_a_later_one(steps: int, tmp_path: Path) -> None:
    trainer, done = setup(tmp_path, max_steps=steps).trainer, list[int]()
    assert (trainer.steps_per_epoch, trainer.total_steps) == (6, steps)
    while trainer.state.progress.step < steps:
        trainer.train_epoch(lambda report: done.append(report.tokens))
    assert len(done) == steps
    assert trainer.state.progress.epoch == -(-steps // 6)


@pytest.mark.parametrize("written", [["red " * 200, "red"], ["red", "red " * 200]])
def test_too_little_text_for_a_row_is_a_data_error(written: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\b2 tokens.*--seq-len 16\b"):
        setup(tmp_path, written)


# Minutes


def test_minutes_become_as_many_steps_as_take_that_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = settings(max_steps=None, minutes=2.0)
    found = with_steps(config, corpus(tmp_path))
    steps = found.optimization.max_steps
    assert steps is not None and found == settings(max_steps=steps, minutes=2.0)
    told = re.search(r"steps       ([\d,]+) in 2 minutes, at (\d+) ms a step", capsys.readouterr().err)
    assert told is not None and int(told[1].replace(",", "")) == steps
    assert 120_000 / (int(told[2]) + 0.5) - 1 < steps
    assert int(told[2]) == 0 or steps < 120_000 / (int(told[2]) - 0.5) + 1


def test_the_measurement_leaves_no_trace_in_the_weights(tmp_path: Path) -> None:
    expected = weights(setup(tmp_path, max_steps=5))
    with_steps(settings(max_steps=None, minutes=0.01), corpus(tmp_path))
    found = weights(setup(tmp_path, max_steps=5))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
