"""One training from its first step to the delivered model: epochs, evaluation, checkpoints, logging, signals."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tqdm import tqdm

from src.data.dataset import DSCreator
from src.evaluation.metrics import Evaluation, evaluate
from src.evaluation.predictor import classify
from src.interop.huggingface import Classifier
from src.training.loop import StepReport, Trainer
from src.training.run_folder import RunFolder
from src.training.tracking import Tracker
from src.utils.config import RunConfig
from src.utils.errors import Interrupted, notice

STEPS_PER_LOG = 50


class Session:
    """Drives a trainer and records what it does.

    Args:
        trainer: does the steps.
        classifier: the model in training with its tokenizer and label names.
        validation: examples to evaluate on after every epoch.
        folder: of the run.
        tracker: Weights & Biases or nothing.
        config: what to keep and how often to save.
    """

    def __init__(
        self,
        trainer: Trainer,
        classifier: Classifier,
        validation: DSCreator,
        folder: RunFolder,
        tracker: Tracker,
        config: RunConfig,
    ):
        self.trainer, self.classifier, self.validation = trainer, classifier, validation
        self.folder, self.tracker, self.config = folder, tracker, config
        self.progress = trainer.state.progress
        self.signal: int | None = None
        self.window: list[StepReport] = []
        self.window_seconds = self.progress.training_seconds  # where the window begins, also after a resume

    def run(self) -> None:
        """Trains all remaining epochs and leaves the delivered model in the run's folder.

        Raises:
            Interrupted: SIGINT or SIGTERM came; a checkpoint was saved.
            DivergedError: loss or gradient was not finite three times in a row.
        """
        epochs = self.trainer.config.epochs
        with self._listening_to_signals():
            while self.progress.epoch < epochs and not self._ran_out_of_patience():
                with self._progress_bar() as bar:
                    self.trainer.train_epoch(lambda report: self._after_step(report, bar))
                self._after_epoch()

    def _after_step(self, report: StepReport, bar: "tqdm[None]") -> None:
        bar.update()
        self.window.append(report)
        step = self.progress.step
        if step % STEPS_PER_LOG == 0 or self.progress.step_in_epoch == self.trainer.steps_per_epoch:
            bar.set_postfix_str(f"loss {self._log_window():.3f}")
        if self.signal is not None:
            self._save()
            raise Interrupted(
                f"stopped in step {step}; go on with --resume {self.folder.path}", signal_number=self.signal
            )
        if self.config.save_every and step % self.config.save_every == 0:
            self._save()

    def _log_window(self) -> float:
        """Records the mean of the steps since the last record; returns their mean loss."""
        sentences = sum(report.sentences for report in self.window)
        loss = sum(report.loss * report.sentences for report in self.window) / sentences
        seconds = self.progress.training_seconds - self.window_seconds
        values = {
            "train/loss": loss,
            "train/learning_rate": self.window[-1].learning_rate,
            "train/gradient_norm": self.window[-1].gradient_norm,
            "train/tokens_per_second": sum(report.tokens for report in self.window) / seconds,
            "epoch": self.progress.epoch + self.progress.step_in_epoch / self.trainer.steps_per_epoch,
        }
        self._record(values)
        self.window, self.window_seconds = [], self.progress.training_seconds
        return loss

    def _after_epoch(self) -> None:
        evaluation = self._evaluate()
        values = {f"validation/{name}": getattr(evaluation, name) for name in ("accuracy", "loss", "f1", "mcc")}
        self._record(
            values | {"epoch": float(self.progress.epoch)},
            confusion=evaluation.confusion,
            per_class=evaluation.per_class,
        )
        self.tracker.log_confusion(self.progress.step, evaluation.label_names, evaluation.confusion)
        best = evaluation.accuracy > self.progress.best_accuracy
        if best:
            self.progress.best_accuracy, self.progress.best_epoch = evaluation.accuracy, self.progress.epoch
        last = self.progress.epoch == self.trainer.config.epochs or self._ran_out_of_patience()
        if best if self.config.keep == "best" else last:
            self.folder.deliver(self.classifier, self.trainer.state, evaluation)
        self._save()
        notice(
            f"epoch {self.progress.epoch}/{self.trainer.config.epochs}: validation accuracy "
            f"{100 * evaluation.accuracy:.1f} %, loss {evaluation.loss:.4f}, "
            f"{self.progress.training_seconds:.0f} s of training so far"
        )

    def _ran_out_of_patience(self) -> bool:
        patience = self.config.patience
        return patience > 0 and self.progress.epoch - self.progress.best_epoch >= patience

    def _evaluate(self) -> Evaluation:
        with self.trainer.state.as_delivered():
            logits = classify(self.trainer.model, self.validation, self.trainer.device)
        return evaluate(logits, self.validation.text_labels, self.classifier.label_names)

    def _record(self, values: dict[str, float], **more: object) -> None:
        self.folder.log({"step": self.progress.step} | values | more)
        self.tracker.log(self.progress.step, values)

    def _save(self) -> None:
        self.folder.save_checkpoint(self.classifier, self.trainer.state)

    def _progress_bar(self) -> "tqdm[None]":
        return tqdm(
            total=self.trainer.steps_per_epoch,
            initial=self.progress.step_in_epoch,
            desc=f"epoch {self.progress.epoch + 1}/{self.trainer.config.epochs}",
            unit="step",
            leave=False,
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),  # a log file gets the plain line after each epoch instead
        )

    @contextmanager
    def _listening_to_signals(self) -> Iterator[None]:
        def remember(number: int, frame: FrameType | None) -> None:
            if self.signal is not None:  # asked twice: at once
                raise KeyboardInterrupt
            self.signal = number
            notice("stopping after this step; once more stops at once")

        before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
