from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from src.data.batching import Batch
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
    summed = OBJECTIVE.summed_loss(whole.trainer.model, united).item()
    one, other = split.trainer.training_step(parts), whole.trainer.training_step([united])
    assert one.loss == pytest.approx(other.loss, abs=1e-6)
    assert one.loss == pytest.approx(summed / sum(counts), abs=1e-6)
    assert (one.predictions, one.tokens) == (other.predictions, other.tokens) == (sum(counts), 16 * len(ROWS))
    found, wanted = gradients(split), gradients(whole)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=1e-6)
    assert max(float(gradient.abs().max()) for gradient in wanted.values()) > 1e-2


def test_a_batch_without_a_masked_token_costs_nothing_and_harms_nothing(tmp_path: Path) -> None:
    parts = large(tmp_path, weight_decay=0.0)
    batch = batch_of(parts, ROWS)
    nothing: Batch = {**batch, "labels": torch.full_like(batch["labels"], NOT_MASKED)}
    before = {name: weight.clone() for name, weight in parts.trainer.model.named_parameters()}
    assert OBJECTIVE.predictions(nothing) == 0
    report = parts.trainer.training_step([nothing])
    assert (report.loss, report.gradient_norm) == (0.0, 0.0)
    assert all(torch.equal(weight, before[name]) for name, weight in parts.trainer.model.named_parameters())
