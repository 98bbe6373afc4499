import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.data.batching import Batch
from src.data.tokenizer import CLS, PAD, SEP, UNK
from src.evaluation.predictor import classify
from src.training.loop import StepReport
from src.utils.errors import DivergedError
from tests.training.tiny_training import (
    NO_DROPOUT,
    ClassifierTrainer,
    all_tensors,
    assert_same,
    setup,
)

BETA1 = 0.9
UNCLIPPED: dict[str, Any] = {"max_grad_norm": 1e9}
PARTS = (range(7), range(7, 8), range(8, 13))  # unequal, so that a mean of means would be another number


def gradients(trainer: ClassifierTrainer) -> dict[str, Tensor]:
    """What the first step's gradients were, after clipping: AdamW's first mean is (1 - beta1) times them."""
    state = trainer.state.optimizer.state
    trained = {name: one for name, one in trainer.model.named_parameters() if one.requires_grad}
    return {name: state[parameter]["exp_avg"] / (1 - BETA1) for name, parameter in trained.items()}


def batches_of(trainer: ClassifierTrainer, *parts: range) -> list[Batch]:
    return [trainer.dataset.collate(part) for part in parts]


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Compares gradients that were summed in another order."""
    assert found.keys() == wanted.keys() and norm_of(wanted) > 1e-2
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=1e-6)


def norm_of(tensors: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in tensors.values()))


def test_accumulated_batches_equal_one_batch_of_all_their_sentences() -> None:
    split, whole = (setup(**NO_DROPOUT, **UNCLIPPED).trainer for _ in range(2))
    one = split.training_step(batches_of(split, *PARTS))
    other = whole.training_step(batches_of(whole, range(13)))
    assert one.loss == pytest.approx(other.loss, abs=1e-6)
    assert (one.predictions, one.tokens) == (other.predictions, other.tokens) == (13, sum(split.dataset.lengths[:13]))
    assert_close(gradients(split), gradients(whole))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_gradient_is_the_mean_over_sentences(smoothing: float) -> None:
    parts = setup(**NO_DROPOUT, **UNCLIPPED, label_smoothing=smoothing)
    trainer, batch = parts.trainer, parts.trainer.dataset.collate(range(9))
    logits = trainer.model(batch["input_ids"], batch["attention_mask"])
    loss = F.cross_entropy(logits, batch["labels"], label_smoothing=smoothing)
    names = [name for name, _ in trainer.model.named_parameters()]
    wanted = dict(zip(names, torch.autograd.grad(loss, list(trainer.model.parameters())), strict=True))
    report = trainer.training_step([batch])
    assert report.loss == pytest.approx(loss.item(), abs=1e-6)
    assert report.gradient_norm == pytest.approx(norm_of(wanted), rel=1e-5)
    for name, gradient in gradients(trainer).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-5, atol=1e-7)


def test_words_are_dropped_in_training_only() -> None:
    parts = setup(**NO_DROPOUT, word_dropout=0.5)
    trainer, seen = parts.trainer, list[Tensor]()
    trainer.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = trainer.dataset.collate(range(20))
    original = batch["input_ids"].clone()
    trainer.training_step([batch])
    replaced = seen[0] != original
    assert 0.2 < replaced.float().mean() < 0.8
    assert set(seen[0][replaced].tolist()) == {parts.classifier.tokenizer.token_to_id(UNK)}
    special_ids = torch.tensor([parts.classifier.tokenizer.token_to_id(token) for token in (PAD, CLS, SEP)])
    assert torch.isin(original, special_ids).any() and not torch.isin(original[replaced], special_ids).any()
    seen.clear()
    classify(trainer.model, trainer.dataset, trainer.device)
    pad = trainer.dataset.pad_token_id
    rows = sorted(row[row != pad].tolist() for ids in seen for row in ids)
    assert rows == sorted(ids.tolist() for ids in trainer.dataset.input_ids)


def break_loss(trainer: ClassifierTrainer, broken: list[bool]) -> None:
    trainer.model.register_forward_hook(lambda _, inputs, logits: logits * math.nan if broken[0] else logits)


def break_gradient(trainer: ClassifierTrainer, broken: list[bool]) -> None:
    hook = trainer.model.classifier.weight.register_hook
    hook(lambda gradient: gradient * math.inf if broken[0] else gradient)  # type: ignore[no-untyped-call]


def break_loss_alone(trainer: ClassifierTrainer, broken: list[bool]) -> None:
    # A true label of probability 0 costs infinity, but its gradient is as finite as any.
    worst = torch.tensor([0.0, -math.inf])
    trainer.model.register_forward_hook(lambda _, inputs, logits: logits + worst if broken[0] else logits)


def fragile(breaks: Callable[..., None]) -> tuple[ClassifierTrainer, Batch, list[bool]]:
    """A training after its first step, a batch, and whether the next step is to break."""
    trainer, broken = setup(ema_decay=0.9).trainer, [False]
    breaks(trainer, broken)
    batch = trainer.dataset.collate(range(9))
    trainer.training_step([batch])
    return trainer, batch, broken


@pytest.mark.parametrize("breaks", [break_loss, break_loss_alone, break_gradient])
def test_a_step_that_is_not_finite_changes_nothing(
    breaks: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    trainer, batch, broken = fragile(breaks)
    before = all_tensors(trainer, with_random_states=False)
    assert any(name.startswith("optimizer.") for name in before) and any(name.startswith("average.") for name in before)
    broken[0] = True
    report = trainer.training_step([batch])
    assert not (math.isfinite(report.loss) and math.isfinite(report.gradient_norm))
    assert_same(all_tensors(trainer, with_random_states=False), before)
    assert "step 2" in capsys.readouterr().err
    broken[0] = False
    trainer.training_step([batch])
    after = all_tensors(trainer, with_random_states=False)
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert not torch.equal(after["model.classifier.weight"], before["model.classifier.weight"])


def test_three_steps_in_a_row_that_are_not_finite_end_the_training() -> None:
    trainer, batch, broken = fragile(break_loss)
    for bad in (True, True, False, True, True):  # a finite step in between resets the count
        broken[0] = bad
        trainer.training_step([batch])
    with pytest.raises(DivergedError, match="step 7"):
        trainer.training_step([batch])


def test_every_example_is_seen_once_an_epoch_in_another_order() -> None:
    trainer = setup(gradient_accumulation_steps=3).trainer
    seen: list[list[int]] = [[], []]
    collate = trainer.dataset.collate

    def recording(indices: Any) -> Batch:
        seen[trainer.state.progress.epoch] += indices
        return collate(indices)

    trainer.dataset.collate = recording  # type: ignore[method-assign]
    reports: list[StepReport] = []
    trainer.train_epoch(reports.append)
    trainer.train_epoch(reports.append)
    assert [sorted(epoch) for epoch in seen] == [list(range(36))] * 2
    assert seen[0] != seen[1]
    assert sum(report.predictions for report in reports) == 72
    assert sum(report.tokens for report in reports) == 2 * sum(trainer.dataset.lengths)
    assert len(reports) == trainer.total_steps == 2 * trainer.steps_per_epoch
    assert trainer.state.progress.epoch == 2
    rates = [report.learning_rate for report in reports]
    assert rates[-1] == min(rates) > 0


def test_eight_examples_are_learned_by_heart() -> None:
    trainer = setup(8, **NO_DROPOUT, epochs=40, learning_rate=1e-2, min_frequency=1).trainer
    losses: list[float] = []
    for _ in range(40):
        trainer.train_epoch(lambda report: losses.append(report.loss))
    logits = classify(trainer.model, trainer.dataset, trainer.device)
    assert logits.argmax(-1).tolist() == trainer.dataset.labels
    assert losses[0] > 0.6 and losses[-1] < 0.05


def test_bf16_computes_products_in_bfloat16_and_trains_float32_weights() -> None:
    trainer = setup(**NO_DROPOUT, precision="bf16", epochs=9, learning_rate=1e-2).trainer
    dtypes = set()
    trainer.model.pooler.dense.register_forward_hook(lambda _, inputs, output: dtypes.add(output.dtype))
    losses: list[float] = []
    for _ in range(9):
        trainer.train_epoch(lambda report: losses.append(report.loss))
    assert dtypes == {torch.bfloat16}
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    assert all(map(math.isfinite, losses)) and sum(losses[-6:]) < 0.8 * sum(losses[:6])


# Out of memory


class Memory:
    """A model's memory: forward fails in the calls that are named, or for more sentences than fit."""

    def __init__(self, model: nn.Module, calls: tuple[int, ...] = (), most: int = 10**9):
        self.calls, self.most, self.sizes = calls, most, list[int]()
        model.register_forward_pre_hook(self.fill)

    def fill(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.sizes.append(len(inputs[0]))
        if len(self.sizes) in self.calls or self.sizes[-1] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("calls", [(1,), (2, 5), (1, 2, 3)])
def test_a_step_that_ran_out_of_memory_has_the_gradients_of_one_that_did_not(calls: tuple[int, ...]) -> None:
    small, large = (setup(**NO_DROPOUT, **UNCLIPPED).trainer for _ in range(2))
    Memory(small.model, calls)
    for trainer in (small, large):
        trainer.training_step(batches_of(trainer, *PARTS))
    assert_close(gradients(small), gradients(large))
    assert small.halvings == len(calls)
    # And the next one, which begins in parts.
    one, other = (trainer.training_step(batches_of(trainer, *PARTS)) for trainer in (small, large))
    assert one.loss == pytest.approx(other.loss, abs=1e-5)
    assert (one.tokens, one.predictions) == (other.tokens, other.predictions)


def test_memory_that_runs_out_on_the_way_back_is_met_as_well() -> None:
    small, large = (setup(**NO_DROPOUT, **UNCLIPPED).trainer for _ in range(2))
    failures = [False, True, False]

    def fail(gradient: Tensor) -> None:
        if failures and failures.pop(0):
            raise torch.OutOfMemoryError("CUDA out of memory")

    # Gradients of the layers above are there already when this one fails.
    small.model.bert.embedding.norm.weight.register_hook(fail)  # type: ignore[no-untyped-call]
    for trainer in (small, large):
        trainer.training_step(batches_of(trainer, *PARTS))
    assert_close(gradients(small), gradients(large))
    assert small.halvings == 1


def test_batches_are_halved_as_often_as_memory_ran_out_and_stay_so(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = setup(**NO_DROPOUT).trainer
    memory = Memory(trainer.model, most=2)
    trainer.training_step(batches_of(trainer, range(8)))
    assert memory.sizes == [8, 4, 2, 2, 2, 2]
    memory.sizes.clear()
    trainer.training_step(batches_of(trainer, range(8), range(8, 11)))
    assert memory.sizes == [2, 2, 2, 2, 1, 1, 1]
    notices = [line for line in capsys.readouterr().err.splitlines() if line.startswith("out of memory")]
    assert [re.findall(r"(\d+) parts", line) for line in notices] == [["2"], ["4"]]
    memory.most = 0  # not even for a single sentence
    with pytest.raises(torch.OutOfMemoryError):
        trainer.training_step(batches_of(trainer, range(5)))


# Gradient checkpointing


@pytest.mark.parametrize("options", [{}, {"freeze_layers": 2}], ids=["all", "frozen"])
def test_gradient_checkpointing_computes_layers_twice_with_the_same_dropout_and_gradients(
    options: dict[str, Any],
) -> None:
    losses, calls, found = [], [], []
    for on in (False, True):
        trainer, counted = (
            setup(**UNCLIPPED, **options, num_hidden_layers=3, gradient_checkpointing=on).trainer,
            list[str](),
        )
        for layer in trainer.model.bert.encoder.layers:
            layer.get_submodule("feed_forward").register_forward_hook(lambda *_, counted=counted: counted.append(""))
        torch.manual_seed(3)
        losses.append(trainer.training_step(batches_of(trainer, *PARTS)).loss)
        found.append(gradients(trainer))
        calls.append(len(counted))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert_close(*found)
    # Each of three batches meets three layers; with gradients, again on the way back.
    assert calls == [9, 18 - 3 * options.get("freeze_layers", 0)]
