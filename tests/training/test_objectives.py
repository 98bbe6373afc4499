from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from src.data.batching import Batch, halves
from src.data.masking import NOT_MASKED
from src.interop.huggingface import save_masked_lm
from src.training.objectives import MaskedLanguageModelling
from src.training.pretrain_setup import PretrainSetup
from tests.model.tiny import randomized
from tests.training.tiny_pretraining import generator, setup, varied_texts

# transformers leaves config.json open in save_pretrained
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*config.json:ResourceWarning")

OBJECTIVE = MaskedLanguageModelling()
EXACT: dict[str, Any] = {"max_grad_norm": 1e9, "mask_rate": 0.3}
ROWS = list(range(0, 140, 14))


def large(cache: Path, **options: Any) -> PretrainSetup:
    """A pre-training whose model has large weights, so that every token has another loss."""
    parts = setup(cache, varied_texts(), **EXACT, **options)
    randomized(parts.subject.masked_lm.model, std=0.5)
    return parts


def batch_of(parts: PretrainSetup, starts: list[int], seed: int = 0) -> Batch:
    return parts.trainer.dataset.collate(starts, generator(seed))


def masked_tokens(batch: Batch) -> int:
    return sum(label != NOT_MASKED for row in batch["labels"].tolist() for label in row)


def gradients(parts: PretrainSetup) -> dict[str, Tensor]:
    """What the first step's gradients were: AdamW's first mean is (1 - beta1) times them."""
    state = parts.trainer.state.optimizer.state
    return {name: state[weight]["exp_avg"] / (1 - 0.9) for name, weight in parts.trainer.model.named_parameters()}


def test_the_loss_is_the_sum_over_masked_tokens_as_transformers_computes_it(tmp_path: Path) -> None:
    parts = large(tmp_path / "cache")
    batch, model = batch_of(parts, ROWS[:3]), parts.subject.masked_lm.model
    save_masked_lm(tmp_path, parts.subject.masked_lm)
    theirs = transformers.BertForMaskedLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        mean = theirs(input_ids=batch["input_ids"], labels=batch["labels"]).loss
        found = OBJECTIVE.summed_loss(model, batch)
    count = OBJECTIVE.predictions(batch)
    assert count == masked_tokens(batch) > 5
    torch.testing.assert_close(found / count, mean, rtol=0, atol=1e-5)


def test_rows_shorter_than_others_are_padded_with_a_mask(tmp_path: Path) -> None:
    parts = large(tmp_path / "cache")
    batch, model = batch_of(parts, ROWS[:3]), parts.subject.masked_lm.model
    padded: Batch = {
        **batch,
        "input_ids": torch.nn.functional.pad(batch["input_ids"], (0, 4), value=0),
        "attention_mask": torch.nn.functional.pad(torch.ones_like(batch["input_ids"]), (0, 4)).bool(),
        "labels": torch.nn.functional.pad(batch["labels"], (0, 4), value=NOT_MASKED),
    }
    found, expected = OBJECTIVE.summed_loss(model, padded), OBJECTIVE.summed_loss(model, batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_predictions_are_the_masked_tokens(tmp_path: Path) -> None:
    parts = setup(tmp_path, mask_rate=0.3)
    batch = batch_of(parts, ROWS)
    assert OBJECTIVE.predictions(batch) == masked_tokens(batch) > 20
    nothing: Batch = {**batch, "labels": torch.full_like(batch["labels"], NOT_MASKED)}
    assert OBJECTIVE.predictions(nothing) == 0


def test_accumulated_batches_equal_one_batch_of_all_their_rows(tmp_path: Path) -> None:
    split, whole = large(tmp_path), large(tmp_path)
    parts = [batch_of(split, ROWS[:7]), batch_of(split, ROWS[7:8], seed=1), batch_of(split, ROWS[8:], seed=2)]
    counts = [OBJECTIVE.predictions(batch) for batch in parts]
    assert len(set(counts)) == 3  # a mean of means would be another number
    united: Batch = {
        "input_ids": torch.cat([batch["input_ids"] for batch in parts]),
        "attention_mask": None,
        "token_type_ids": None,
        "labels": torch.cat([batch["labels"] for batch in parts]),
    }
    one, other = split.trainer.training_step(parts), whole.trainer.training_step([united])
    assert one.loss == pytest.approx(other.loss, abs=1e-6)
    assert (one.predictions, one.tokens) == (other.predictions, other.tokens) == (sum(counts), 16 * len(ROWS))
    found, wanted = gradients(split), gradients(whole)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=1e-6)
    assert max(float(gradient.abs().max()) for gradient in wanted.values()) > 1e-2


def test_a_steps_loss_is_the_mean_over_masked_tokens(tmp_path: Path) -> None:
    parts = large(tmp_path)
    batch = batch_of(parts, ROWS)
    expected = OBJECTIVE.summed_loss(parts.trainer.model, batch).item() / masked_tokens(batch)
    assert parts.trainer.training_step([batch]).loss == pytest.approx(expected, abs=1e-6)


def test_two_halves_of_a_batch_have_the_same_sum_of_losses(tmp_path: Path) -> None:
    parts = large(tmp_path)
    batch, model = batch_of(parts, ROWS[:5]), parts.trainer.model
    pieces = halves(batch)
    assert [len(piece["labels"]) for piece in pieces] in ([2, 3], [3, 2])
    found = torch.stack([OBJECTIVE.summed_loss(model, piece) for piece in pieces]).sum()
    torch.testing.assert_close(found, OBJECTIVE.summed_loss(model, batch), rtol=0, atol=1e-4)


def test_a_batch_without_a_masked_token_costs_nothing_and_harms_nothing(tmp_path: Path) -> None:
    parts = large(tmp_path, weight_decay=0.0)
    batch = batch_of(parts, ROWS)
    nothing: Batch = {**batch, "labels": torch.full_like(batch["labels"], NOT_MASKED)}
    before = {name: weight.clone() for name, weight in parts.trainer.model.named_parameters()}
    report = parts.trainer.training_step([nothing])
    assert (report.loss, report.gradient_norm) == (0.0, 0.0)
    assert all(torch.equal(weight, before[name]) for name, weight in parts.trainer.model.named_parameters())
