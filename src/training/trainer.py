"""The training loop: epochs of optimizer steps, with evaluation, logging, checkpoints and signals after them.

The loss of a step is the mean over its targets: sentences, or masked tokens. A classifier's batches hold equal lengths
under a token budget, so a batch of long sentences holds fewer of them, and each of these weighs more. This favours
SST-2's whole sentences, the kind in validation, over its phrases.
"""

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import cast

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from src.data.batching import Batch, halves, to_device
from src.evaluation.masked_lm import MaskedEvaluation
from src.evaluation.metrics import Evaluation
from src.training.checkpoint import Progress, RunFolder
from src.training.optimizer import build_ema, build_optimizer, learning_rate_at, set_learning_rate
from src.training.tasks import Task
from src.training.wandb_logger import Tracker
from src.utils.config import RunConfig
from src.utils.device import autocast
from src.utils.distributed import all_reduce, is_main_process, maximum, split_between_processes, world_size
from src.utils.errors import CheckpointError, DivergedError, Interrupted, notice

STEPS_PER_LOG = 50
NON_FINITE_STEPS_ALLOWED = 2


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did."""

    loss: float  # mean over the targets, in nats
    learning_rate: float
    gradient_norm: float  # before clipping
    num_tokens: int  # without padding
    num_targets: int  # sentences, or masked tokens


class Trainer:
    """Trains the model of a task.

    Args:
        task: the model, its data, loss and evaluation.
        seed: fixes the order of the examples; the caller seeds PyTorch.
    """

    def __init__(self, task: Task, seed: int):
        self.task, self.model, self.config, self.seed = task, task.model, task.config.optimization, seed
        self.optimizer = build_optimizer(self.model, self.config)
        self.ema = build_ema(self.model, self.config.ema_decay)
        self.progress = Progress()
        self.steps_per_epoch = math.ceil(
            len(task.train.batches(self.config.batch_size, seed, 0)) / self.config.gradient_accumulation_steps
        )
        self.total_steps = self.config.total_steps(self.steps_per_epoch)
        self.is_updating = False  # whether the step under way has begun to change the model
        self.signal = 0  # number of the signal that asked this process to stop
        self.must_stop = False  # whether any process was asked, as of the step just done
        self.ddp: DistributedDataParallel | None = None
        if world_size() > 1:
            self.ddp = DistributedDataParallel(self.model)
            self._fix_bucket_order()

    def training_step(self, batches: Sequence[Batch]) -> StepReport:
        """Does one optimizer step on one or more batches (gradient accumulation), together with all other processes.

        Args:
            batches: this process's share; gradients are averaged over all targets of all batches of all processes.

        Returns:
            What happened.

        Raises:
            DivergedError: loss or gradient was not finite three times in a row.
        """
        config, step = self.config, self.progress.step + 1
        self.model.train()
        self.is_updating = False
        counts = [sum(map(self.task.num_targets, batches)), sum(map(_num_tokens, batches))]
        num_targets, num_tokens = (int(count) for count in all_reduce(*counts))
        scale = world_size() / max(1, num_targets)  # DistributedDataParallel averages over the processes

        learning_rate = learning_rate_at(step, self.total_steps, config.learning_rate, config.warmup_ratio)
        set_learning_rate(self.optimizer, learning_rate)
        self.optimizer.zero_grad()
        losses = torch.zeros((), device=self.task.device)
        for number, batch in enumerate(batches, start=1):
            with self._without_sync() if number < len(batches) else nullcontext():
                with autocast(self.task.device, self.task.bf16):
                    loss = self.task.loss(self.ddp or self.model, to_device(batch, self.task.device))
                (loss * scale).backward()  # type: ignore[no-untyped-call]
            losses += loss.detach()
        norm = clip_grad_norm_(self.model.parameters(), config.max_grad_norm)
        total_loss, asked_to_stop = all_reduce(losses.item(), self.signal > 0)
        mean_loss = total_loss / max(1, num_targets)
        if math.isfinite(mean_loss) and norm.isfinite():
            self.is_updating = True
            self.optimizer.step()
            if self.ema is not None:
                self.ema.update_parameters(self.model)
            self.progress.skipped_in_a_row = 0
        else:
            self._skip(step, mean_loss, norm.item())
        self.progress.step = step
        self.progress.step_in_epoch += 1
        self.must_stop = asked_to_stop > 0
        return StepReport(mean_loss, learning_rate, norm.item(), num_tokens, num_targets)

    def run_steps(self) -> Iterator[StepReport]:
        """Does the steps that remain of the current epoch, one each time the iterator is advanced."""
        progress, size = self.progress, self.config.gradient_accumulation_steps
        plan = self.task.train.batches(self.config.batch_size, self.seed, progress.epoch)
        steps = [plan[start : start + size] for start in range(0, len(plan), size)]
        end = progress.step_in_epoch + max(0, self.total_steps - progress.step)
        for step in steps[progress.step_in_epoch : end]:
            started = time.perf_counter()
            batches = [self._own_part(indices) for indices in step]
            report = self._with_retry(batches)
            progress.training_seconds += time.perf_counter() - started
            yield report

    @property
    def ends_epoch(self) -> bool:
        """Whether the step just done was the last one of its epoch, or of the training."""
        progress = self.progress
        last = progress.step_in_epoch == self.steps_per_epoch or progress.step == self.total_steps
        return last and progress.step_in_epoch > 0

    @property
    def epochs_done(self) -> float:
        """Passes over the data so far; a fraction within an epoch."""
        return self.progress.step / self.steps_per_epoch

    @property
    def trained_model(self) -> torch.nn.Module:
        """The model to evaluate and to save: with averaged weights, if there is an average."""
        return self.model if self.ema is None else self.ema.module

    def _own_part(self, indices: Sequence[int]) -> Batch:
        """Makes this process's part of a batch; with fewer examples than processes, some get an empty batch."""
        own = split_between_processes(indices)
        if own:
            return self.task.train.collate(own)
        one = self.task.train.collate(indices[:1])
        tensors = cast(dict[str, Tensor | None], one)
        return cast(Batch, {name: tensor if tensor is None else tensor[:0] for name, tensor in tensors.items()})

    def _with_retry(self, batches: list[Batch]) -> StepReport:
        """Does a step; if a GPU's memory runs out before the update, cuts the batches into more parts and retries."""
        parts = batches
        for _ in range(self.progress.num_parts.bit_length() - 1):
            parts = [half for part in parts for half in halves(part)]
        try:
            return self.training_step(parts)
        except torch.OutOfMemoryError:
            if self.is_updating or world_size() > 1 or max(len(part["input_ids"]) for part in parts) == 1:
                raise
        torch.cuda.empty_cache()
        self.progress.num_parts *= 2
        parts_now = f"batches are cut into {self.progress.num_parts} parts from here on"
        notice(f"out of memory: {parts_now}; only the draws of dropout change")
        return self._with_retry(batches)

    def _without_sync(self) -> AbstractContextManager[None]:
        """Leaves the exchange of gradients to the last batch of a step."""
        return nullcontext() if self.ddp is None else self.ddp.no_sync()

    def _skip(self, step: int, loss: float, norm: float) -> None:
        self.progress.skipped_in_a_row += 1
        notice(f"step {step}: loss {loss}, gradient norm {norm}; the step changes nothing")
        if (skipped := self.progress.skipped_in_a_row) > NON_FINITE_STEPS_ALLOWED:
            raise DivergedError(
                f"loss or gradient was not finite {skipped} times in a row, last in step {step}; lower --learning-rate "
                "or raise --warmup-ratio"
            )

    def _fix_bucket_order(self) -> None:
        """Does a backward pass whose gradients are thrown away.

        After its first one DistributedDataParallel orders the parameters anew, and with more than two processes the
        order decides over the last bits of the sums. So a resumed training would differ from one that was never
        stopped.
        """
        states = torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        indices = self.task.train.batches(1, 0, 0)[0]
        batch = to_device(self.task.train.collate(indices), self.task.device)
        self.task.loss(self.ddp or self.model, batch).backward()  # type: ignore[no-untyped-call]
        self.optimizer.zero_grad()
        torch.set_rng_state(states[0])
        if states[1] is not None:
            torch.cuda.set_rng_state(states[1])


def train(trainer: Trainer, folder: RunFolder, tracker: Tracker, config: RunConfig) -> None:
    """Trains to the end: all remaining epochs, the model saved in the run's folder.

    Args:
        trainer: at its beginning, or with a checkpoint loaded.
        folder: of the run.
        tracker: Weights & Biases, or one that records nothing.
        config: what to keep, and how often to evaluate and save.

    Raises:
        Interrupted: SIGINT or SIGTERM came; a checkpoint was saved.
        DivergedError: loss or gradient was not finite three times in a row.
        StorageError: the disk refused; the checkpoints there are stay.
    """
    progress = trainer.progress
    with _stopped_by_signals(trainer):
        while not _is_finished(trainer, config):
            with _progress_bar(trainer) as bar:
                for report in trainer.run_steps():
                    bar.update()
                    _count(trainer, report)
                    if progress.step % STEPS_PER_LOG == 0 or trainer.ends_epoch:
                        bar.set_postfix_str(f"loss {_log(trainer, report, folder, tracker):.3f}")
                    if _is_due(progress.step, config.evaluate_every) and not trainer.ends_epoch:
                        bar.clear()
                        _evaluate(trainer, folder, tracker)
                    stop = _signal_to_any(trainer)
                    if stop or _is_due(progress.step, config.save_every):
                        folder.save_checkpoint(trainer, config.keep_last)
                    if stop:
                        raise Interrupted(f"stopped in step {progress.step}; resume with --resume {folder.path}", stop)
            progress.epoch += 1
            progress.step_in_epoch = 0
            evaluation = _evaluate(trainer, folder, tracker)
            if is_best := evaluation.accuracy > progress.best_accuracy:
                progress.best_accuracy, progress.best_epoch = evaluation.accuracy, progress.epoch
            if is_best if config.keep == "best" else _is_finished(trainer, config):
                folder.save_model(trainer.task, trainer.trained_model, evaluation.as_dict())
            folder.save_checkpoint(trainer, config.keep_last)
            if (stop := int(maximum(trainer.signal))) and not _is_finished(trainer, config):
                raise Interrupted(f"stopped after step {progress.step}; resume with --resume {folder.path}", stop)
    folder.finish(progress.training_seconds)


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _is_finished(trainer: Trainer, config: RunConfig) -> bool:
    progress = trainer.progress
    if config.patience > 0 and progress.epoch - progress.best_epoch >= config.patience:
        return True
    return progress.step >= trainer.total_steps and progress.step_in_epoch == 0


def _signal_to_any(trainer: Trainer) -> int:
    """Gives the signal on which all processes end after the same step, whichever got it; 0: none."""
    if world_size() == 1:
        return trainer.signal
    return int(maximum(trainer.signal)) if trainer.must_stop else 0


def _count(trainer: Trainer, report: StepReport) -> None:
    progress = trainer.progress
    if math.isfinite(report.loss):  # one skipped step does not hide the losses of fifty
        progress.logged_loss += report.loss * report.num_targets
        progress.logged_targets += report.num_targets
    progress.logged_tokens += report.num_tokens


def _log(trainer: Trainer, last: StepReport, folder: RunFolder, tracker: Tracker) -> float:
    """Records the mean of the steps since the last record; returns their mean loss."""
    progress = trainer.progress
    loss = progress.logged_loss / progress.logged_targets if progress.logged_targets else math.nan
    values = {
        "train/loss": loss,
        "train/learning_rate": last.learning_rate,
        "train/gradient_norm": last.gradient_norm,
        "train/tokens_per_second": progress.logged_tokens / (progress.training_seconds - progress.logged_until),
        "epoch": trainer.epochs_done,
    }
    progress.logged_loss, progress.logged_targets, progress.logged_tokens = 0.0, 0, 0
    progress.logged_until = progress.training_seconds
    folder.log({"step": progress.step} | values)
    tracker.log(progress.step, values)
    return loss


def _evaluate(trainer: Trainer, folder: RunFolder, tracker: Tracker) -> Evaluation | MaskedEvaluation:
    """Evaluates the model as it would be saved, records the numbers and tells the most important ones."""
    progress = trainer.progress
    try:
        evaluation = trainer.task.evaluate(trainer.trained_model)
    except CheckpointError as error:  # the weights are of this training, not of a folder
        raise DivergedError(f"{error}; lower --learning-rate or raise --warmup-ratio") from None
    values = {f"validation/{name}": value for name, value in evaluation.curves().items()}
    values |= {"epoch": trainer.epochs_done}
    folder.log({"step": progress.step} | values | evaluation.tables())
    tracker.log(progress.step, values)
    if isinstance(evaluation, Evaluation):
        tracker.log_confusion(progress.step, evaluation.label_names, evaluation.confusion)
    notice(
        f"epoch {trainer.epochs_done:.3g}, step {progress.step:,}/{trainer.total_steps:,}: "
        f"validation accuracy {100 * evaluation.accuracy:.1f} %, loss {evaluation.loss:.4f}, "
        f"{progress.training_seconds:.0f} s of training so far"
    )
    return evaluation


def _num_tokens(batch: Batch) -> int:
    mask = batch["attention_mask"]
    return batch["input_ids"].numel() if mask is None else int(mask.sum())


def _progress_bar(trainer: Trainer) -> "tqdm[None]":
    return tqdm(
        total=trainer.total_steps,
        initial=trainer.progress.step,
        desc=f"epoch {trainer.progress.epoch + 1}",
        unit="step",
        leave=False,
        dynamic_ncols=True,
        disable=not (is_main_process() and sys.stderr.isatty()),  # a log file gets a line after each epoch instead
    )


@contextmanager
def _stopped_by_signals(trainer: Trainer) -> Iterator[None]:
    """Lets SIGINT and SIGTERM end the training after the step under way; a second one ends it at once."""

    def remember(number: int, frame: FrameType | None) -> None:
        # torchrun passes on the Ctrl-C that each process got from the terminal, too.
        if trainer.signal and world_size() == 1:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        trainer.signal = number
        notice("stopping after this step" + ("; once more stops at once" if world_size() == 1 else ""))

    if threading.current_thread() is not threading.main_thread():  # which alone can handle signals
        yield
        return
    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
