"""One optimizer step, and the steps of an epoch."""

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.data.dataset import Batch
from src.data.tokenizer import CLS, PAD, SEP, UNK
from src.training.trainer import StepReport, Trainer
from src.utils.errors import DivergedError
from tests.training.tiny_training import NO_DROPOUT, all_tensors, assert_same, train_epoch, trainer

UNCLIPPED: dict[str, Any] = {"max_grad_norm": 1e9}
PARTS = (range(7), range(7, 8), range(8, 13))  # unequal, so that a mean of means would be another number


def gradients(trainer: Trainer) -> dict[str, Tensor]:
    return {name: one.grad for name, one in trainer.model.named_parameters() if one.grad is not None}


def batches_of(trainer: Trainer, *parts: range) -> list[Batch]:
    return [trainer.task.train.collate(part) for part in parts]


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Compares gradients that were summed in another order."""
    assert found.keys() == wanted.keys() and norm_of(wanted) > 1e-2
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=1e-6)


def norm_of(tensors: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in tensors.values()))


def test_accumulated_batches_equal_one_batch_of_all_their_sentences() -> None:
    split, whole = (trainer(**NO_DROPOUT, **UNCLIPPED) for _ in range(2))
    one = split.training_step(batches_of(split, *PARTS))
    other = whole.training_step(batches_of(whole, range(13)))
    assert one.loss == pytest.approx(other.loss, abs=1e-6)
    tokens = int(batches_of(whole, range(13))[0]["attention_mask"].sum())  # type: ignore[union-attr]
    assert (one.num_targets, one.num_tokens) == (other.num_targets, other.num_tokens) == (13, tokens)
    assert_close(gradients(split), gradients(whole))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("max_norm", [1e9, 0.01])
def test_gradient_is_the_mean_over_sentences_clipped(smoothing: float, max_norm: float) -> None:
    trained = trainer(**NO_DROPOUT, label_smoothing=smoothing, max_grad_norm=max_norm)
    (batch,) = batches_of(trained, range(9))
    logits = trained.model(batch["input_ids"], batch["attention_mask"])
    loss = F.cross_entropy(logits, batch["labels"], label_smoothing=smoothing)
    names = [name for name, _ in trained.model.named_parameters()]
    wanted = dict(zip(names, torch.autograd.grad(loss, list(trained.model.parameters())), strict=True))
    report, norm = trained.training_step([batch]), norm_of(wanted)
    assert report.loss == pytest.approx(loss.item(), abs=1e-6)
    assert report.gradient_norm == pytest.approx(norm, rel=1e-5) and norm > 0.01
    for name, gradient in gradients(trained).items():
        torch.testing.assert_close(gradient, wanted[name] * min(1, max_norm / norm), rtol=1e-4, atol=1e-7)


def test_words_are_dropped_in_training_only() -> None:
    trained, seen = trainer(**NO_DROPOUT, word_dropout=0.5), list[Tensor]()
    task: Any = trained.task
    token_to_id = task.classifier.tokenizer.token_to_id
    trained.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    (batch,) = batches_of(trained, range(20))
    original = batch["input_ids"].clone()
    trained.training_step([batch])
    replaced = seen[0] != original
    assert 0.2 < replaced.float().mean() < 0.8
    assert set(seen[0][replaced].tolist()) == {token_to_id(UNK)}
    special_ids = torch.tensor([token_to_id(token) for token in (PAD, CLS, SEP)])
    assert torch.isin(original, special_ids).any() and not torch.isin(original[replaced], special_ids).any()
    seen.clear()
    task.evaluate(trained.model)
    rows = sorted(row[row != token_to_id(PAD)].tolist() for ids in seen for row in ids)
    assert rows == sorted(ids.tolist() for ids in task.validation.input_ids)


# Numbers that are not finite


def break_loss(trainer: Trainer, broken: list[bool]) -> None:
    trainer.model.register_forward_hook(lambda _, inputs, logits: logits * math.nan if broken[0] else logits)


def break_gradient(trainer: Trainer, broken: list[bool]) -> None:
    hook = trainer.model.bert.embedding.token.weight.register_hook
    hook(lambda gradient: gradient * math.inf if broken[0] else gradient)  # type: ignore[no-untyped-call]


def break_loss_alone(trainer: Trainer, broken: list[bool]) -> None:
    # A true label of probability 0 costs infinity, but its gradient is as finite as any.
    worst = torch.tensor([0.0, -math.inf])
    trainer.model.register_forward_hook(lambda _, inputs, logits: logits + worst if broken[0] else logits)


def fragile(breaks: Callable[..., None]) -> tuple[Trainer, list[Batch], list[bool]]:
    """A training after its first step, a batch, and whether the next step is to break."""
    trained, broken = trainer(ema_decay=0.9), [False]
    breaks(trained, broken)
    batches = batches_of(trained, range(9))
    trained.training_step(batches)
    return trained, batches, broken


@pytest.mark.parametrize("breaks", [break_loss, break_loss_alone, break_gradient])
def test_a_step_not_finite_changes_nothing(breaks: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    trained, batches, broken = fragile(breaks)
    before = all_tensors(trained, with_random_states=False)
    assert {name.partition(".")[0] for name in before} == {"model", "optimizer", "ema"}
    broken[0] = True
    report = trained.training_step(batches)
    assert not (math.isfinite(report.loss) and math.isfinite(report.gradient_norm))
    assert_same(all_tensors(trained, with_random_states=False), before)
    assert "step 2" in capsys.readouterr().err
    broken[0] = False
    trained.training_step(batches)
    after = all_tensors(trained, with_random_states=False)
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert not torch.equal(after["model.classifier.weight"], before["model.classifier.weight"])


def test_three_steps_in_a_row_that_are_not_finite_end_the_training() -> None:
    trained, batches, broken = fragile(break_loss)
    for bad in (True, True, False, True, True):  # a finite step in between resets the count
        broken[0] = bad
        trained.training_step(batches)
    with pytest.raises(DivergedError, match="step 7"):
        trained.training_step(batches)


# Epochs


def test_every_example_is_seen_once_an_epoch_in_another_order() -> None:
    trained, seen = trainer(gradient_accumulation_steps=3), [list[int](), list[int]()]
    dataset: Any = trained.task.train
    collate = dataset.collate

    def recording(indices: Any) -> Batch:
        seen[trained.progress.epoch] += indices
        return collate(indices)

    dataset.collate = recording
    reports = train_epoch(trained) + train_epoch(trained)
    assert [sorted(epoch) for epoch in seen] == [list(range(36))] * 2
    assert seen[0] != seen[1]
    assert sum(report.num_targets for report in reports) == 72
    assert sum(report.num_tokens for report in reports) == 2 * sum(dataset.lengths)
    assert len(reports) == trained.total_steps == 2 * trained.steps_per_epoch
    rates = [report.learning_rate for report in reports]
    assert rates[-1] == min(rates) > 0


def test_bf16_computes_products_in_bfloat16_and_trains_float32_weights() -> None:
    trained, dtypes = trainer(**NO_DROPOUT, precision="bf16", epochs=9, learning_rate=1e-2), set[torch.dtype]()
    trained.model.get_submodule("pooler.dense").register_forward_hook(lambda *inputs: dtypes.add(inputs[-1].dtype))
    losses = [report.loss for _ in range(9) for report in train_epoch(trained)]
    assert dtypes == {torch.bfloat16}
    assert {parameter.dtype for parameter in trained.model.parameters()} == {torch.float32}
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


def step_on(trainer: Trainer, *parts: range) -> StepReport:
    """Does an epoch of one step, on these sentences."""
    trainer.task.train.batches = lambda *_: list(map(list, parts))  # type: ignore[method-assign]
    (report,) = train_epoch(trainer)
    return report


def small_and_large() -> list[Trainer]:
    return [trainer(**NO_DROPOUT, **UNCLIPPED, gradient_accumulation_steps=3) for _ in range(2)]


@pytest.mark.parametrize("calls", [(1,), (2, 5), (1, 2, 3)])
def test_a_step_that_ran_out_of_memory_has_the_gradients_of_one_that_did_not(calls: tuple[int, ...]) -> None:
    small, large = small_and_large()
    Memory(small.model, calls)
    for _ in range(2):  # the second step begins in parts
        one, other = step_on(small, *PARTS), step_on(large, *PARTS)
        assert_close(gradients(small), gradients(large))
        assert one.loss == pytest.approx(other.loss, abs=1e-5)
        assert (one.num_tokens, one.num_targets) == (other.num_tokens, other.num_targets)
        assert small.progress.num_parts == 2 ** len(calls)


def test_memory_that_runs_out_on_the_way_back_is_met_as_well() -> None:
    small, large = small_and_large()
    failures = [False, True, False]

    def fail(gradient: Tensor) -> None:
        if failures and failures.pop(0):
            raise torch.OutOfMemoryError("CUDA out of memory")

    # Gradients of the layers above are there already when this one fails.
    small.model.bert.embedding.norm.weight.register_hook(fail)  # type: ignore[no-untyped-call]
    for trained in (small, large):
        step_on(trained, *PARTS)
    assert_close(gradients(small), gradients(large))
    assert small.progress.num_parts == 2


def test_memory_that_runs_out_in_the_update_is_an_error_for_the_model_may_have_changed() -> None:
    trained, _ = small_and_large()

    def fail() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    trained.optimizer.step = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(torch.OutOfMemoryError):
        step_on(trained, *PARTS)


def test_batches_are_halved_as_often_as_memory_ran_out_and_stay_so(capsys: pytest.CaptureFixture[str]) -> None:
    trained, _ = small_and_large()
    memory = Memory(trained.model, most=2)
    step_on(trained, range(8))
    assert memory.sizes == [8, 4, 2, 2, 2, 2]
    memory.sizes.clear()
    step_on(trained, range(8), range(8, 11))
    assert memory.sizes == [2, 2, 2, 2, 1, 1, 1]
    notices = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: out of memory")]
    assert [re.findall(r"(\d+) parts", line) for line in notices] == [["2"], ["4"]]
    memory.most = 0  # not even for a single sentence
    with pytest.raises(torch.OutOfMemoryError):
        step_on(trained, range(5))


# Gradient checkpointing


@pytest.mark.parametrize("options", [{}, {"freeze_layers": 2}], ids=["all", "frozen"])
def test_gradient_checkpointing_computes_layers_twice_with_the_same_gradients(options: dict[str, Any]) -> None:
    losses, calls, found = [], [], []
    for on in (False, True):
        trained, counted = trainer(**UNCLIPPED, **options, num_hidden_layers=3, gradient_checkpointing=on), list[str]()
        for layer in trained.model.bert.encoder.layers:
            layer.get_submodule("feed_forward").register_forward_hook(lambda *_, counted=counted: counted.append(""))
        torch.manual_seed(3)
        losses.append(trained.training_step(batches_of(trained, *PARTS)).loss)
        found.append(gradients(trained))
        calls.append(len(counted))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert_close(*found)
    # Each of three batches meets three layers; with gradients, again on the way back.
    assert calls == [9, 18 - 3 * options.get("freeze_layers", 0)]
