"""The training loop, by hand: what happens in a step, and an epoch of steps, in one process or many.

The loss of a step is the mean over its predictions: sentences, or masked tokens. A classifier's batches hold equal
lengths under a token budget, so a batch of long sentences holds fewer of them, and each weighs more: training leans
towards whole sentences, as validation consists of.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from src.data.batching import Batch, halves, to_device
from src.model.bert import BertForMaskedLM, BertForSequenceClassification
from src.training.gradients import GradientSum
from src.training.objectives import Objective, TrainingData
from src.training.optimizer import (
    ExponentialMovingAverage,
    build_optimizer,
    clipped_step,
    learning_rate_at,
    set_learning_rate,
)
from src.training.state import Progress, TrainingState
from src.utils.config import OptimizerConfig
from src.utils.device import autocast
from src.utils.distributed import share
from src.utils.errors import DivergedError, notice

Model = TypeVar("Model", bound=BertForSequenceClassification | BertForMaskedLM)
Data = TypeVar("Data", bound=TrainingData)

NON_FINITE_STEPS_ALLOWED = 2


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did."""

    loss: float  # mean cross-entropy in nats
    learning_rate: float
    gradient_norm: float  # before clipping
    tokens: int  # real ones, without padding
    predictions: int  # sentences, or masked tokens
    asked_to_stop: bool  # whether any process was, before the gradients were added up


class Trainer(Generic[Model, Data]):
    """Trains a model on a dataset.

    Args:
        model: trained in place, already on its device.
        dataset: the training examples.
        objective: the loss to minimise.
        config: how to train.
        seed: fixes the order of the examples; the caller seeds PyTorch.
        bf16: compute matrix products in bfloat16.
    """

    def __init__(
        self,
        model: Model,
        dataset: Data,
        objective: Objective,
        config: OptimizerConfig,
        seed: int,
        bf16: bool = False,
    ):
        self.model, self.dataset, self.objective, self.config = model, dataset, objective, config
        self.seed, self.bf16 = seed, bf16
        self.device = next(model.parameters()).device
        self.halvings = 0  # how often memory ran out, and batches were cut in two
        self.signal: int | None = None  # that asked this process to stop; to be set by whoever hears it
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # Frozen parameters never change, so that they need no average.
        average = ExponentialMovingAverage(trained, config.ema_decay) if config.ema_decay else None
        self.state = TrainingState(model, build_optimizer(model, config), average, Progress())
        self.gradients = GradientSum(self.state)
        self.steps_per_epoch = len(self._steps(epoch=0))
        self.total_steps = config.total_steps(self.steps_per_epoch)

    @property
    def ends_epoch(self) -> bool:
        """Whether the step just done was the last one of its epoch, or of the training."""
        progress = self.state.progress
        last = progress.step_in_epoch == self.steps_per_epoch or progress.step == self.total_steps
        return last and progress.step_in_epoch > 0

    @property
    def epochs_done(self) -> float:
        """Passes over the data, those not yet complete in part."""
        return self.state.progress.step / self.steps_per_epoch

    def train_epoch(self, after_step: Callable[[StepReport], None]) -> None:
        """Trains to the end of the current epoch, or of the last step.

        Args:
            after_step: called after every optimizer step; what it raises ends the training there.

        Raises:
            DivergedError: loss or gradient was not finite three times in a row.
        """
        progress = self.state.progress
        self.model.train()
        end = progress.step_in_epoch + max(0, self.total_steps - progress.step)
        for step in self._steps(progress.epoch)[progress.step_in_epoch : end]:
            started = time.perf_counter()
            shares = [share(indices) for indices in step]
            report = self.training_step([self.dataset.collate(indices) for indices in shares if indices])
            progress.training_seconds += time.perf_counter() - started
            after_step(report)
        progress.epoch += 1
        progress.step_in_epoch = 0

    def training_step(self, batches: Sequence[Batch]) -> StepReport:
        """Does one optimizer step on one or more batches (gradient accumulation), together with all other processes.

        Args:
            batches: this process's share, perhaps nothing; gradients are averaged over all predictions of all shares.

        Returns:
            What happened.

        Raises:
            DivergedError: loss or gradient was not finite three times in a row.
        """
        state, config = self.state, self.config
        state.progress.step += 1
        state.progress.step_in_epoch += 1
        learning_rate = learning_rate_at(
            state.progress.step, self.total_steps, config.learning_rate, config.warmup_ratio
        )
        set_learning_rate(state.optimizer, learning_rate)

        sums = self.gradients(
            self._backward(batches),
            sum(self.objective.predictions(batch) for batch in batches),
            sum(_real_tokens(batch) for batch in batches),
            self.signal is not None,
        )
        predictions = max(1, int(sums.predictions))
        loss, norm = sums.loss / predictions, sums.norm / predictions

        if self._is_finite(loss, norm):
            clipped_step(state.optimizer, norm, config.max_grad_norm, divisor=predictions)
            if state.average is not None:
                state.average.update(self.gradients.own, state.progress.step)
        self.gradients.clear()
        return StepReport(
            loss.item(), learning_rate, norm.item(), int(sums.tokens), predictions, bool(sums.asked_to_stop)
        )

    def _backward(self, batches: Sequence[Batch]) -> Tensor:
        """Adds up the gradients of the loss summed over all predictions; returns that loss."""
        while True:
            parts = list(batches)
            for _ in range(self.halvings):
                parts = [half for part in parts for half in halves(part)]
            try:
                return self._backward_parts(parts)
            except torch.OutOfMemoryError:
                if max(len(part["input_ids"]) for part in parts) == 1:
                    raise
            self.state.optimizer.zero_grad()  # what the failed attempt has added so far
            torch.cuda.empty_cache()
            self.halvings += 1
            notice(
                f"out of memory  batches are cut into {2**self.halvings} parts from here on; the result is the same, "
                "but for the draws of dropout"
            )

    def _backward_parts(self, batches: Sequence[Batch]) -> Tensor:
        losses = [torch.zeros((), device=self.device)]
        for batch in batches:
            with autocast(self.device, self.bf16):
                loss = self.objective.summed_loss(self.model, to_device(batch, self.device))
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _is_finite(self, loss: Tensor, norm: Tensor) -> bool:
        progress = self.state.progress
        if bool(loss.isfinite() & norm.isfinite()):
            progress.skipped_in_a_row = 0
            return True
        progress.skipped_in_a_row += 1
        notice(f"step {progress.step}: loss {loss.item()}, gradient norm {norm.item()}; the step changes nothing")
        if progress.skipped_in_a_row > NON_FINITE_STEPS_ALLOWED:
            raise DivergedError(
                f"loss or gradient was not finite {progress.skipped_in_a_row} times in a row, last in step "
                f"{progress.step}; lower --learning-rate or raise --warmup-ratio"
            )
        return False

    def _steps(self, epoch: int) -> list[list[list[int]]]:
        batches = self.dataset.batches(self.config.batch_size, self.seed, epoch)
        size = self.config.gradient_accumulation_steps
        return [batches[start : start + size] for start in range(0, len(batches), size)]


def _real_tokens(batch: Batch) -> int:
    mask = batch["attention_mask"]
    return batch["input_ids"].numel() if mask is None else int(mask.sum())
