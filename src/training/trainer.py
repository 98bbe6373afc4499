"""The training loop: one optimizer step, and around it epochs, evaluation, checkpoints, logging and signals.

The loss of a step is the mean over its targets: sentences, or masked tokens. A classifier's batches are limited by
tokens (src/data/dataset.py), so a batch of long sentences has fewer of them, and each counts more.
"""

import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from src.data.dataset import Batch, to_device
from src.evaluation.masked_lm import MaskedEvaluation
from src.evaluation.metrics import ClassifierEvaluation, Evaluation
from src.training.checkpoint import EVALUATION, Progress, RunFolder, describe
from src.training.optimizer import build_ema, build_optimizer, learning_rate_at
from src.training.tasks import ClassificationTask, Task
from src.training.wandb_logger import WandbLogger, open_wandb
from src.utils import distributed
from src.utils.config import OptimizationConfig, options_of
from src.utils.errors import CheckpointError, DivergedError, Interrupted, UserError, counted
from src.utils.files import read_json

logger = logging.getLogger(__name__)

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
    """Trains the model of a task."""

    def __init__(self, task: Task):
        self.task, self.model, self.config = task, task.model, task.config.optimization
        self.optimizer = build_optimizer(self.model, self.config)
        self.ema = build_ema(self.model, self.config.ema_decay)
        self.progress = Progress()
        self.steps_per_epoch = len(self._steps_of_epoch(0))
        self.total_steps = self.config.total_steps(self.steps_per_epoch)
        self.step_offset = 0  # steps done beyond those the schedule counts; see `rescale_epoch`
        self.is_updating = False  # whether the step under way has begun to change the model
        self.received_signal = 0  # number of the signal that asked this process to stop
        self._agreed_signal = 0  # the signal that any process had received by the last step
        self.ddp: DistributedDataParallel | None = None
        if distributed.world_size() > 1:
            self.ddp = DistributedDataParallel(self.model)
            self._fix_bucket_order()

    def training_step(self, batches: Sequence[Batch]) -> StepReport:
        """Averages gradients over the targets of all `batches`, on all processes, and updates the weights once."""
        config, step = self.config, self.progress.step + 1
        self.model.train()
        self.is_updating = False
        targets, tokens = sum(map(self.task.num_targets, batches)), sum(map(_num_tokens, batches))
        num_targets, num_tokens = (int(count) for count in distributed.all_reduce(targets, tokens))
        scale = distributed.world_size() / max(1, num_targets)  # DistributedDataParallel averages over the processes

        position, end = step - self.step_offset, self.total_steps - self.step_offset
        learning_rate = learning_rate_at(position, end, config.learning_rate, config.warmup_ratio)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["layer_scale"]
        self.optimizer.zero_grad()
        losses = torch.zeros((), device=self.task.device)
        for number, batch in enumerate(batches, start=1):
            is_last = number == len(batches)  # only its backward pass exchanges the gradients
            with nullcontext() if self.ddp is None or is_last else self.ddp.no_sync():
                with torch.autocast(self.task.device.type, torch.bfloat16, enabled=self.task.bf16):
                    loss = self.task.loss(self.ddp or self.model, to_device(batch, self.task.device))
                (loss * scale).backward()  # type: ignore[no-untyped-call]
            losses += loss.detach()
        norm = clip_grad_norm_(self.model.parameters(), config.max_grad_norm)
        total_loss, interrupts, terminations = distributed.all_reduce(
            losses.item(), self.received_signal == signal.SIGINT, self.received_signal == signal.SIGTERM
        )
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
        self._agreed_signal = signal.SIGINT if interrupts else signal.SIGTERM if terminations else 0
        return StepReport(mean_loss, learning_rate, norm.item(), num_tokens, num_targets)

    def step_with_retry(self, batches: Sequence[Sequence[int]]) -> StepReport:
        """Runs `training_step` on this process's share of the batches; if memory runs out, halves them and retries."""
        started = time.perf_counter()
        own = [self._own_part(indices) for indices in batches]
        while True:
            try:
                report = self.training_step([part for batch in own for part in _chunk(batch, self.progress.num_parts)])
                self.progress.training_seconds += time.perf_counter() - started
                return report
            except torch.OutOfMemoryError:
                can_cut = self.progress.num_parts < max(len(batch["input_ids"]) for batch in own)
                if self.is_updating or distributed.world_size() > 1 or not can_cut:
                    raise
            torch.cuda.empty_cache()
            self.progress.num_parts *= 2
            logger.warning(f"out of memory: batches are cut into {self.progress.num_parts} parts from here on")

    def rescale_epoch(self, steps_before: int) -> None:
        """Rescales the position in the epoch, which had `steps_before` steps under an earlier batch size."""
        progress = self.progress
        progress.step_in_epoch = round(progress.step_in_epoch * self.steps_per_epoch / steps_before)
        if isinstance(self.config, OptimizationConfig):  # pre-training counts steps, whatever their size
            self.step_offset = progress.step - progress.epoch * self.steps_per_epoch - progress.step_in_epoch
            self.total_steps += self.step_offset

    def remaining_steps(self) -> list[list[list[int]]]:
        """Returns the remaining steps of the epoch: a step is a list of batches, a batch a list of example indices."""
        progress = self.progress
        end = progress.step_in_epoch + max(0, self.total_steps - progress.step)
        return self._steps_of_epoch(progress.epoch)[progress.step_in_epoch : end]

    @property
    def stop_signal(self) -> int:
        """The signal that stops all processes after the same step; 0 if there is none."""
        return self.received_signal if distributed.world_size() == 1 else self._agreed_signal

    @property
    def ends_epoch(self) -> bool:
        """Whether the step just done was the last one of its epoch, or of the training."""
        progress = self.progress
        last = progress.step_in_epoch == self.steps_per_epoch or progress.step == self.total_steps
        return last and progress.step_in_epoch > 0

    @property
    def is_finished(self) -> bool:
        """Whether all steps are done, or --patience ran out."""
        progress, patience = self.progress, self.task.config.run.patience
        is_out_of_patience = bool(progress.best) and 0 < patience <= progress.epoch - progress.best_epoch
        return is_out_of_patience or (progress.step >= self.total_steps and progress.step_in_epoch == 0)

    @property
    def epochs_done(self) -> float:
        """Passes over the data so far; a fraction within an epoch."""
        return self.progress.epoch + self.progress.step_in_epoch / self.steps_per_epoch

    @property
    def trained_model(self) -> torch.nn.Module:
        """The model to evaluate and save: the one with averaged weights, if there is one."""
        return self.model if self.ema is None else self.ema.module

    def _steps_of_epoch(self, epoch: int) -> list[list[list[int]]]:
        batches = self.task.train.batches(self.config.batch_size, self.task.config.run.seed, epoch)
        size = self.config.gradient_accumulation_steps
        return [batches[start : start + size] for start in range(0, len(batches), size)]

    def _own_part(self, indices: Sequence[int]) -> Batch:
        """Makes this process's part of a batch; with fewer examples than processes, some get an empty batch."""
        own = distributed.split_between_processes(indices)
        return self.task.train.collate(own) if own else _slice(self.task.train.collate(indices[:1]), 0, 0)

    def _skip(self, step: int, loss: float, norm: float) -> None:
        self.progress.skipped_in_a_row += 1
        logger.warning(f"step {step}: loss {loss}, gradient norm {norm}; the step changes nothing")
        if (skipped := self.progress.skipped_in_a_row) > NON_FINITE_STEPS_ALLOWED:
            what = f"loss or gradient was not finite {skipped} times in a row, last in step {step}"
            raise DivergedError(f"{what}; lower --learning-rate or raise --warmup-ratio")

    def _fix_bucket_order(self) -> None:
        # DDP regroups gradients after its first backward pass, which changes rounding; done now, resuming stays exact.
        batch = to_device(self.task.train.collate(self._steps_of_epoch(0)[0][0][:1]), self.task.device)
        with torch.random.fork_rng():
            self.task.loss(self.ddp or self.model, batch).backward()  # type: ignore[no-untyped-call]
        self.optimizer.zero_grad()


def train(task: Task, folder: RunFolder, show: bool = True) -> None:
    """Trains a task in the folder of its run, new or resumed; with `show`, prints the evaluation and the folder."""
    config = task.config.run
    # The number of threads must agree, too: it changes how sums are rounded.
    distributed.refuse_differences((options_of(task.config), task.data, folder.checkpoint, torch.get_num_threads()))
    trainer = Trainer(task)
    progress = trainer.progress
    progress.training_seconds = progress.logged_until = task.setup_seconds  # counts as training time
    task.log_start(trainer.total_steps, trainer.steps_per_epoch)
    distributed.seed_per_rank(config.seed)
    if folder.checkpoint is None:
        folder.begin(task)
    else:
        folder.resume(trainer)
    wandb = open_wandb(config, _tracked_settings(task), folder.path, progress.wandb_run_id)
    progress.wandb_run_id = wandb.run_id or progress.wandb_run_id
    try:
        with stop_on_signals(trainer):
            run_epochs(trainer, folder, wandb)
    except UserError as error:
        wandb.finish(error.exit_code)
        raise
    folder.finish(progress.training_seconds)
    wandb.finish()
    if distributed.is_main_process():
        evaluation = task.evaluation_class.from_dict(read_json(folder.path / EVALUATION))
        if isinstance(evaluation, Evaluation) and (label := evaluation.only_prediction) is not None:
            what = f"the model predicts {label} for all {evaluation.n:,} validation examples"
            logger.warning(f"{what}; try more --epochs, another --learning-rate, or --class-weights balanced")
        if show:
            print(f"{evaluation.as_text()}\n\n{folder.path}")


def run_epochs(trainer: Trainer, folder: RunFolder, wandb: WandbLogger) -> None:
    """Runs the remaining steps, and logs, evaluates and saves when due."""
    progress, config = trainer.progress, trainer.task.config.run
    best_by = config.best_by or trainer.task.evaluation_class.score_name

    def is_due(every: int) -> bool:
        return every > 0 and progress.step % every == 0

    while not trainer.is_finished:
        is_shown = logger.isEnabledFor(logging.INFO) and sys.stderr and sys.stderr.isatty()  # else one line per epoch
        with tqdm(
            desc=f"epoch {progress.epoch + 1}",
            total=trainer.total_steps,
            initial=progress.step,
            unit="step",
            leave=False,
            disable=not is_shown,
        ) as bar:
            for batches in trainer.remaining_steps():
                report = trainer.step_with_retry(batches)
                bar.update()
                if math.isfinite(report.loss):  # a single NaN would make the logged mean NaN
                    progress.logged_loss += report.loss * report.num_targets
                    progress.logged_targets += report.num_targets
                progress.logged_tokens += report.num_tokens
                if progress.step % STEPS_PER_LOG == 0 or trainer.ends_epoch:
                    loss = _log(trainer, report, folder, wandb)
                    bar.set_postfix_str(f"loss {loss:.3f}")
                if is_due(config.evaluate_every) and not trainer.ends_epoch:
                    bar.clear()
                    _evaluate(trainer, folder, wandb)
                stop = trainer.stop_signal
                if stop or (is_due(config.save_every) and not trainer.ends_epoch):
                    folder.save_checkpoint(trainer, config.keep_last)
                if stop:
                    raise Interrupted(f"stopped in step {progress.step}; resume with --resume {folder.path}", stop)
        evaluation = _evaluate(trainer, folder, wandb)
        progress.epoch += 1
        progress.step_in_epoch = 0
        values, sign = evaluation.curves(), -1 if best_by == "loss" else 1
        is_better = best_by not in progress.best or sign * values[best_by] > sign * progress.best[best_by]
        if config.keeps_best and is_better:
            progress.best, progress.best_epoch = values, progress.epoch
        should_save = is_better if config.keeps_best else trainer.is_finished
        if should_save:
            model, numbers = trainer.trained_model, evaluation.as_dict()
            if isinstance(trainer.task, ClassificationTask):
                model, numbers = trainer.task.calibrated(model, evaluation)
            folder.save_model(trainer.task, model, numbers)
        folder.save_checkpoint(trainer, config.keep_last)
    if progress.step < trainer.total_steps:
        logger.info(f"stopped     {counted(config.patience, 'epoch')} without a better {best_by} (--patience)")
    if config.keeps_best:
        logger.info(f"best        epoch {progress.best_epoch} of {progress.epoch}, by validation {best_by}")


def _tracked_settings(task: Task) -> dict[str, Any]:
    """Returns flat settings for W&B; the shape and tokenizer of a checkpoint replace the options for them."""
    facts, replaced = describe(task), ("preset", "tokenizer", "min_frequency", "lowercase")
    unused = dict.fromkeys(replaced if task.config.model_name_or_path is not None else ())
    return options_of(task.config) | facts["model"] | facts | unused


def _log(trainer: Trainer, last: StepReport, folder: RunFolder, wandb: WandbLogger) -> float:
    """Logs the mean of the steps since the last call; returns their mean loss."""
    progress = trainer.progress
    loss = progress.logged_loss / progress.logged_targets if progress.logged_targets else math.nan
    values = {
        "train/loss": loss,
        "train/learning_rate": last.learning_rate,
        "train/gradient_norm": last.gradient_norm,
        "train/tokens_per_second": progress.logged_tokens
        / max(progress.training_seconds - progress.logged_until, 1e-9),
        "epoch": trainer.epochs_done,
    }
    progress.logged_loss, progress.logged_targets, progress.logged_tokens = 0.0, 0, 0
    progress.logged_until = progress.training_seconds
    folder.log({"step": progress.step} | values)
    wandb.log(progress.step, values)
    return loss


def _evaluate(trainer: Trainer, folder: RunFolder, wandb: WandbLogger) -> ClassifierEvaluation | MaskedEvaluation:
    """Evaluates the model as it would be saved, and logs the numbers."""
    progress = trainer.progress
    try:
        evaluation = trainer.task.evaluate(trainer.trained_model)
    except CheckpointError as error:  # the logits are not finite; here it means that training diverged
        raise DivergedError(f"{error}; lower --learning-rate or raise --warmup-ratio") from None
    values = {f"validation/{name}": value for name, value in evaluation.curves().items()}
    values["epoch"] = trainer.epochs_done
    folder.log({"step": progress.step} | values | evaluation.tables())
    if isinstance(evaluation, Evaluation):
        for true, counts in zip(evaluation.label_names, evaluation.confusion, strict=True):
            row = zip(evaluation.label_names, counts, strict=True)
            values |= {f"confusion/{true}/{predicted}": count for predicted, count in row}
    wandb.log(progress.step, values)
    logger.info(
        f"epoch {trainer.epochs_done:.3g}, step {progress.step:,}/{trainer.total_steps:,}: "
        f"validation {evaluation.score_name} {100 * evaluation.score:.1f} %, loss {evaluation.loss:.4f}, "
        f"{progress.training_seconds:.0f} s of training so far"
    )
    return evaluation


def _num_tokens(batch: Batch) -> int:
    mask = batch["attention_mask"]
    return batch["input_ids"].numel() if mask is None else int(mask.sum())


def _chunk(batch: Batch, num_parts: int) -> list[Batch]:
    B = len(batch["input_ids"])  # 0 where there are fewer examples than processes
    size = max(1, math.ceil(B / num_parts))
    return [_slice(batch, start, start + size) for start in range(0, max(1, B), size)]


def _slice(batch: Batch, start: int, end: int) -> Batch:
    part = {name: value[start:end] if isinstance(value, Tensor) else value for name, value in batch.items()}
    return cast(Batch, part)


@contextmanager
def stop_on_signals(trainer: Trainer) -> Iterator[None]:
    """Stops training after the current step on SIGINT or SIGTERM, and at once on a second one."""

    def handler(number: int, frame: FrameType | None) -> None:
        # Under torchrun one Ctrl-C arrives twice: from the terminal and from torchrun.
        if trainer.received_signal and distributed.world_size() == 1:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        trainer.received_signal = number
        logger.info("stops after this step" + ("; on a second signal at once" if distributed.world_size() == 1 else ""))

    if threading.current_thread() is not threading.main_thread():  # only it can handle signals
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
