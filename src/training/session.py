"""One training from its first step to the delivered model: epochs, evaluation, checkpoints, logging, signals."""

import math
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tqdm import tqdm

from src.evaluation.metrics import Evaluation
from src.training.loop import StepReport, Trainer
from src.training.perseverance import Perseverance
from src.training.run_folder import RunFolder
from src.training.subjects import Report, Subject
from src.training.tracking import Tracker
from src.utils.config import RunConfig
from src.utils.distributed import is_first, largest, wait_for_all, world_size
from src.utils.errors import CheckpointError, DivergedError, Interrupted, notice

STEPS_PER_LOG = 50


class Session:
    """Drives a trainer and records what it does.

    Args:
        trainer: does the steps.
        subject: the model in training, which can be evaluated and written.
        folder: of the run.
        tracker: Weights & Biases or nothing.
        config: what to keep and how often to save.
    """

    def __init__(
        self, trainer: Trainer[Any, Any], subject: Subject, folder: RunFolder, tracker: Tracker, config: RunConfig
    ):
        self.trainer, self.subject, self.folder, self.tracker, self.config = trainer, subject, folder, tracker, config
        self.progress = trainer.state.progress
        self.storage = Perseverance()
        if self.progress.step == 0:
            self.progress.window_begin = self.progress.training_seconds

    def run(self) -> None:
        """Trains all remaining epochs and leaves the delivered model in the run's folder.

        Raises:
            Interrupted: SIGINT or SIGTERM came; a checkpoint was saved.
            DivergedError: loss or gradient was not finite three times in a row.
            StorageError: the state could not be saved when a signal came; at other times training goes on.
        """
        with self._listening_to_signals():
            while not self._is_over():
                with self._progress_bar() as bar:
                    self.trainer.train_epoch(lambda report: self._after_step(report, bar))
                self._after_epoch()

    def _after_step(self, report: StepReport, bar: "tqdm[None]") -> None:
        bar.update()
        self._add_to_window(report)
        step = self.progress.step
        if step % STEPS_PER_LOG == 0 or self.trainer.ends_epoch:
            bar.set_postfix_str(f"loss {self._log_window(report):.3f}")
        if self.config.evaluate_every and step % self.config.evaluate_every == 0 and not self.trainer.ends_epoch:
            bar.clear()
            self._evaluate()
        if signal_number := self._signal_to_all(report):
            self._leave(signal_number)
        if self.config.save_every and step % self.config.save_every == 0:
            self._save()

    def _signal_to_all(self, report: StepReport) -> int:
        """Gives the signal on which all processes end after this same step, whichever got it; 0: none."""
        if world_size() == 1:
            return self.trainer.signal or 0
        return int(largest(self.trainer.signal or 0)) if report.asked_to_stop else 0

    def _leave(self, signal_number: int) -> None:
        saved, step = self._save(), self.progress.step
        wait_for_all()  # the first one that ends makes torchrun end the others
        if not saved:
            self.storage.admit_unsaved(step, self.folder.path)
        raise Interrupted(
            f"stopped in step {step}; go on with --resume {self.folder.path}", signal_number=signal_number
        )

    def _add_to_window(self, report: StepReport) -> None:
        if math.isfinite(report.loss):  # one skipped step does not hide the losses of fifty
            self.progress.window_loss += report.loss * report.predictions
            self.progress.window_predictions += report.predictions
        self.progress.window_tokens += report.tokens

    def _log_window(self, last: StepReport) -> float:
        """Records the mean of the steps since the last record; returns their mean loss."""
        progress = self.progress
        loss = progress.window_loss / progress.window_predictions if progress.window_predictions else math.nan
        values = {
            "train/loss": loss,
            "train/learning_rate": last.learning_rate,
            "train/gradient_norm": last.gradient_norm,
            "train/tokens_per_second": progress.window_tokens / (progress.training_seconds - progress.window_begin),
            "epoch": self.trainer.epochs_done,
        }
        progress.window_loss, progress.window_predictions, progress.window_tokens = 0.0, 0, 0
        progress.window_begin = progress.training_seconds
        self._record(values)
        return loss

    def _after_epoch(self) -> None:
        report = self._evaluate()
        best = report.accuracy > self.progress.best_accuracy
        if best:
            self.progress.best_accuracy, self.progress.best_epoch = report.accuracy, self.progress.epoch
        if best if self.config.keep == "best" else self._is_over():
            numbers = report.as_dict()
            self.storage.attempt_delivery(lambda: self.folder.deliver(self.subject, self.trainer.state, numbers))
        self._save()

    def _is_over(self) -> bool:
        patience, progress = self.config.patience, self.progress
        if patience > 0 and progress.epoch - progress.best_epoch >= patience:
            return True
        return progress.step >= self.trainer.total_steps and progress.step_in_epoch == 0

    def _evaluate(self) -> Report:
        """Evaluates the model as it would be delivered, records the numbers and tells the most important ones."""
        try:
            with self.trainer.state.as_delivered():
                report = self.subject.evaluate()
        except CheckpointError as error:  # the weights are of this training, not of a folder
            raise DivergedError(f"{error}; lower --learning-rate or raise --warmup-ratio") from None
        values = {f"validation/{name}": value for name, value in report.curves().items()}
        self._record(values | {"epoch": self.trainer.epochs_done}, **report.tables())
        if isinstance(report, Evaluation):
            self.tracker.log_confusion(self.progress.step, report.label_names, report.confusion)
        notice(
            f"epoch {self.trainer.epochs_done:.3g}, step {self.progress.step:,}/{self.trainer.total_steps:,}: "
            f"validation accuracy {100 * report.accuracy:.1f} %, loss {report.loss:.4f}, "
            f"{self.progress.training_seconds:.0f} s of training so far"
        )
        return report

    def _record(self, values: dict[str, float], **more: object) -> None:
        self.storage.attempt(lambda: self.folder.log({"step": self.progress.step} | values | more))
        self.tracker.log(self.progress.step, values)

    def _save(self) -> bool:
        state, keep_last = self.trainer.state, self.config.keep_last
        return self.storage.attempt_checkpoint(lambda: self.folder.save_checkpoint(self.subject, state, keep_last))

    def _progress_bar(self) -> "tqdm[None]":
        return tqdm(
            total=self.trainer.total_steps,
            initial=self.progress.step,
            desc=f"epoch {self.progress.epoch + 1}",
            unit="step",
            leave=False,
            dynamic_ncols=True,
            disable=not (is_first() and sys.stderr.isatty()),  # a log file gets the plain line after each epoch instead
        )

    @contextmanager
    def _listening_to_signals(self) -> Iterator[None]:
        def remember(number: int, frame: FrameType | None) -> None:
            # Asked twice: at once. But torchrun passes on the Ctrl-C that each process got from the terminal, too.
            if self.trainer.signal is not None and world_size() == 1:
                raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
            self.trainer.signal = number
            notice("stopping after this step" + ("; once more stops at once" if world_size() == 1 else ""))

        if threading.current_thread() is not threading.main_thread():  # which alone can listen
            yield
            return
        before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
