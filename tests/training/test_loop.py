import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from src.data.batching import Batch
from src.data.tokenizer import CLS, PAD, SEP, UNK
from src.evaluation.predictor import classify
from src.training.loop import StepReport
from src.utils.errors import DivergedError
from tests.training.tiny_training import ALL_RANDOMNESS, NO_DROPOUT, ClassifierTrainer, setup, weights

BETA1 = 0.9
UNCLIPPED: dict[str, Any] = {"max_grad_norm": 1e9}


def gradients(trainer: ClassifierTrainer) -> dict[str, Tensor]:
    """What the first step's gradients were, after clipping: AdamW's first mean is (1 - beta1) times them."""
    state = trainer.state.optimizer.state
    return {name: state[parameter]["exp_avg"] / (1 - BETA1) for name, parameter in trainer.model.named_parameters()}


def norm_of(tensors: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in tensors.values()))


def all_tensors(trainer: ClassifierTrainer) -> dict[str, Tensor]:
    return trainer.state._tensors({})


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


def ignore(report: StepReport) -> None:
    pass


def test_accumulated_batches_equal_one_batch_of_all_their_sentences() -> None:
    split, whole = (setup(**NO_DROPOUT, **UNCLIPPED).trainer for _ in range(2))
    parts = [[0, 1, 2, 3, 4, 5, 6], [7], [8, 9, 10]]  # unequal, so that a mean of means would be another number
    one = split.training_step([split.dataset.collate(part) for part in parts])
    other = whole.training_step([whole.dataset.collate(range(11))])
    assert one.loss == pytest.approx(other.loss, abs=1e-6)
    assert (one.predictions, one.tokens) == (other.predictions, other.tokens) == (11, sum(split.dataset.lengths[:11]))
    found, wanted = gradients(split), gradients(whole)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=1e-6)
    assert norm_of(wanted) > 1e-2


def test_gradient_is_the_mean_over_sentences() -> None:
    parts = setup(**NO_DROPOUT, **UNCLIPPED)
    trainer, batch = parts.trainer, parts.trainer.dataset.collate(range(9))
    loss = F.cross_entropy(trainer.model(batch["input_ids"], batch["attention_mask"]), batch["labels"])
    names = [name for name, _ in trainer.model.named_parameters()]
    wanted = dict(zip(names, torch.autograd.grad(loss, list(trainer.model.parameters())), strict=True))
    report = trainer.training_step([batch])
    assert report.loss == pytest.approx(loss.item(), abs=1e-6)
    assert report.gradient_norm == pytest.approx(norm_of(wanted), rel=1e-5)
    for name, gradient in gradients(trainer).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-5, atol=1e-7)


def test_gradients_are_scaled_down_to_the_largest_norm_and_never_up() -> None:
    reported, applied = {}, {}
    for limit in (1e-3, 1e9):
        trainer = setup(**NO_DROPOUT, max_grad_norm=limit).trainer
        reported[limit] = trainer.training_step([trainer.dataset.collate(range(9))]).gradient_norm
        applied[limit] = norm_of(gradients(trainer))
    assert reported[1e9] > 1e-2
    assert reported[1e-3] == pytest.approx(reported[1e9])
    assert applied[1e-3] == pytest.approx(1e-3, rel=1e-3)
    assert applied[1e9] == pytest.approx(reported[1e9], rel=1e-5)


def test_label_smoothing_spreads_the_mass_over_all_labels() -> None:
    trainer = setup(**NO_DROPOUT, label_smoothing=0.3).trainer
    batch = trainer.dataset.collate(range(9))
    logits = trainer.model(batch["input_ids"], batch["attention_mask"]).detach()
    target = 0.7 * F.one_hot(batch["labels"], 2) + 0.3 / 2
    wanted = -(target * logits.log_softmax(-1)).sum(-1).mean()
    assert wanted.item() != pytest.approx(F.cross_entropy(logits, batch["labels"]).item(), abs=1e-4)
    assert trainer.training_step([batch]).loss == pytest.approx(wanted.item(), abs=1e-6)


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


@pytest.fixture(params=[break_loss, break_loss_alone, break_gradient])
def fragile(request: pytest.FixtureRequest) -> Iterator[tuple[ClassifierTrainer, Batch, list[bool]]]:
    trainer, broken = setup(ema_decay=0.9).trainer, [False]
    request.param(trainer, broken)
    batch = trainer.dataset.collate(range(9))
    trainer.training_step([batch])
    yield trainer, batch, broken


def test_a_step_that_is_not_finite_changes_nothing(
    fragile: tuple[ClassifierTrainer, Batch, list[bool]], capsys: pytest.CaptureFixture[str]
) -> None:
    trainer, batch, broken = fragile
    before = all_tensors(trainer)
    assert any(name.startswith("optimizer.") for name in before) and any(name.startswith("average.") for name in before)
    broken[0] = True
    report = trainer.training_step([batch])
    assert not (math.isfinite(report.loss) and math.isfinite(report.gradient_norm))
    assert_same(all_tensors(trainer), before)
    assert "step 2: loss" in capsys.readouterr().err
    broken[0] = False
    trainer.training_step([batch])
    after = all_tensors(trainer)
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert not torch.equal(after["model.classifier.weight"], before["model.classifier.weight"])


def test_three_steps_in_a_row_that_are_not_finite_end_the_training(
    fragile: tuple[ClassifierTrainer, Batch, list[bool]],
) -> None:
    trainer, batch, broken = fragile
    broken[0] = True
    trainer.training_step([batch])
    trainer.training_step([batch])
    with pytest.raises(DivergedError, match=r"3 times in a row, last in step 4; lower --learning-rate") as caught:
        trainer.training_step([batch])
    assert caught.value.exit_code == 5


def test_a_finite_step_in_between_resets_the_count(fragile: tuple[ClassifierTrainer, Batch, list[bool]]) -> None:
    trainer, batch, broken = fragile
    for bad in (True, True, False, True, True):
        broken[0] = bad
        trainer.training_step([batch])
    assert trainer.state.progress.skipped_in_a_row == 2


@pytest.mark.parametrize("accumulation", [1, 3])
def test_every_example_is_seen_once_an_epoch_in_another_order(accumulation: int) -> None:
    trainer = setup(gradient_accumulation_steps=accumulation).trainer
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


def test_learning_rate_of_the_last_step_is_above_zero_and_the_smallest() -> None:
    trainer = setup(warmup_ratio=0.0).trainer
    reports: list[StepReport] = []
    for _ in range(2):
        trainer.train_epoch(reports.append)
    rates = [report.learning_rate for report in reports]
    assert rates[0] == pytest.approx(3e-3)
    assert rates[-1] == min(rates) == pytest.approx(3e-3 / trainer.total_steps)


def test_eight_examples_are_learned_by_heart() -> None:
    trainer = setup(8, **NO_DROPOUT, epochs=40, learning_rate=1e-2, min_frequency=1).trainer
    losses: list[float] = []
    for _ in range(40):
        trainer.train_epoch(lambda report: losses.append(report.loss))
    logits = classify(trainer.model, trainer.dataset, trainer.device)
    assert logits.argmax(-1).tolist() == trainer.dataset.labels
    assert losses[0] > 0.6 and losses[-1] < 0.05


def test_bf16_computes_products_in_bfloat16_and_trains_float32_weights() -> None:
    trainer = setup(**NO_DROPOUT, precision="bf16", epochs=15, learning_rate=1e-2).trainer
    dtypes = set()
    trainer.model.pooler.dense.register_forward_hook(lambda _, inputs, output: dtypes.add(output.dtype))
    losses: list[float] = []
    for _ in range(15):
        trainer.train_epoch(lambda report: losses.append(report.loss))
    assert dtypes == {torch.bfloat16}
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    assert all(map(math.isfinite, losses)) and sum(losses[-4:]) < 0.5 * sum(losses[:4])


def trained(seed: int) -> dict[str, Tensor]:
    parts = setup(seed=seed, **ALL_RANDOMNESS)
    for _ in range(2):
        parts.trainer.train_epoch(ignore)
    return weights(parts)


def test_the_seed_fixes_every_bit_of_the_weights() -> None:
    first = trained(7)
    torch.rand(3)  # what the program did before must not matter
    assert_same(trained(7), first)
    other = trained(8)
    assert not torch.equal(other["classifier.weight"], first["classifier.weight"])


def test_seed_and_epoch_decide_the_order() -> None:
    orders = [setup(seed=seed).trainer._steps(epoch) for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] and orders[0] != orders[3]


def test_an_epoch_puts_the_model_into_training_mode() -> None:
    trainer = setup().trainer
    trainer.model.eval()
    trainer.train_epoch(lambda report: None)
    assert trainer.model.training


def test_what_after_step_raises_ends_the_epoch_there() -> None:
    trainer = setup().trainer

    def after_step(report: StepReport) -> None:
        if trainer.state.progress.step == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        trainer.train_epoch(after_step)
    assert (trainer.state.progress.step_in_epoch, trainer.state.progress.epoch) == (2, 0)
