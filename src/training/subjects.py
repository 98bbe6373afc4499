"""What is in training, beside the loop: a model that can be evaluated, written and described."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from src.data.dataset import DSCreator
from src.data.packing import PackedRows
from src.evaluation.masked_lm import MaskedEvaluation, evaluate_masked_lm
from src.evaluation.metrics import Evaluation, evaluate
from src.evaluation.predictor import classify
from src.interop.huggingface import Classifier, MaskedLanguageModel, save_classifier, save_masked_lm
from src.interop.model_card import classifier_card, masked_lm_card


class Report(Protocol):
    """The numbers of an evaluation."""

    @property
    def accuracy(self) -> float:
        """Decides which model is the best, a fraction in [0, 1]."""

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""

    def curves(self) -> dict[str, float]:
        """Gives the numbers worth a curve."""

    def tables(self) -> dict[str, Any]:
        """Gives what else is recorded with them."""

    def as_dict(self) -> dict[str, Any]:
        """Gives all numbers in types that JSON knows."""


class Subject(Protocol):
    """The model in training with all that belongs to it."""

    def evaluate(self) -> Report:
        """Evaluates the model as it is."""

    def save(self, folder: Path) -> None:
        """Writes the model as it is into an existing folder."""

    def card(self, run: Mapping[str, Any], numbers: Mapping[str, Any]) -> str:
        """Writes the model card, given run.json and the numbers of the evaluation."""


@dataclass(frozen=True)
class ClassifierInTraining:
    """A sentence classifier and the examples it is evaluated on."""

    classifier: Classifier
    validation: DSCreator
    device: torch.device

    def evaluate(self) -> Evaluation:
        """Classifies the validation examples."""
        logits = classify(self.classifier.model, self.validation, self.device, together=True)
        return evaluate(logits, self.validation.text_labels, self.classifier.label_names)

    def save(self, folder: Path) -> None:
        """Writes the classifier as `transformers` reads it."""
        save_classifier(folder, self.classifier)

    def card(self, run: Mapping[str, Any], numbers: Mapping[str, Any]) -> str:
        """Writes the model card of a classifier."""
        return classifier_card(run, numbers)


@dataclass(frozen=True)
class MaskedLMInTraining:
    """A masked language model and the rows it is evaluated on."""

    masked_lm: MaskedLanguageModel
    train: PackedRows
    validation: PackedRows
    device: torch.device

    def evaluate(self) -> MaskedEvaluation:
        """Predicts the masked tokens of the validation rows."""
        return evaluate_masked_lm(self.masked_lm.model, self.validation, self.train.counts, self.device)

    def save(self, folder: Path) -> None:
        """Writes the masked language model as `transformers` reads it."""
        save_masked_lm(folder, self.masked_lm)

    def card(self, run: Mapping[str, Any], numbers: Mapping[str, Any]) -> str:
        """Writes the model card of a masked language model."""
        return masked_lm_card(run, numbers)
