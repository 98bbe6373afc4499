"""How good a classifier is: the numbers of an evaluation, and how sure one may be of them.

All of them come from scikit-learn, SciPy and PyTorch. The interval is that of Wilson (1927), which stays inside [0, 1]
and holds its 95 % for few examples and for accuracies near 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from src.evaluation.examples import cell_width, fit_cells, pad_cells
from src.utils.errors import DataError

RATES = ("precision", "recall", "f1", "support")
CONSOLE_WIDTH, LONGEST_LABEL, NARROWEST = 80, 24, 6  # of a console, a label before a row, and one above a column


@dataclass(frozen=True)
class Numbers:
    """Numbers of an evaluation, of types that JSON knows."""

    def as_dict(self) -> dict[str, Any]:
        """Maps field names to values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> Self:
        """Builds the evaluation again from what `as_dict` gave; other keys are ignored."""
        return cls(**{field.name: numbers[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class Evaluation(Numbers):
    """The numbers of one model on one set of labelled examples; rates are fractions in [0, 1].

    A class that never occurs, or is never predicted, has 0 for the rates it leaves undefined, and counts in the macro
    averages.
    """

    n: int
    accuracy: float
    interval: list[float]  # 95 % Wilson interval of the accuracy: lower end, upper end
    loss: float  # mean cross-entropy in nats
    precision: float  # macro average, like the next two
    recall: float
    f1: float
    mcc: float  # Matthews correlation in [-1, 1]; 0 where it is undefined
    per_class: dict[str, dict[str, float]]  # label name -> precision, recall, f1, support
    confusion: list[list[int]]  # rows true, columns predicted, in the order of label_names
    label_names: list[str]

    def curves(self) -> dict[str, float]:
        """Gives the numbers worth a curve."""
        return {"accuracy": self.accuracy, "loss": self.loss, "f1": self.f1, "mcc": self.mcc}

    def tables(self) -> dict[str, Any]:
        """Gives the confusion matrix and the rates of each class."""
        return {"confusion": self.confusion, "per_class": self.per_class}

    def as_text(self) -> str:
        """Formats accuracy, loss, a table of the classes and the confusion matrix, in lines of at most 80 columns."""
        low, high = self.interval
        macro = {"precision": self.precision, "recall": self.recall, "f1": self.f1, "support": self.n}
        classes = [["in %", "precision", "recall", "F1", "examples"]]
        for name, rates in (*self.per_class.items(), ("macro average", macro)):
            percentages = [f"{100 * rates[rate]:.1f}" for rate in RATES[:3]]
            classes.append([name, *percentages, f"{rates['support']:.0f}"])
        confusion = [["true \\ predicted", *self.label_names]]
        confusion += [[name, *map(str, counts)] for name, counts in zip(self.label_names, self.confusion, strict=True)]
        return "\n".join(
            [
                f"accuracy {100 * self.accuracy:.1f} % (95 % interval {100 * low:.1f}-{100 * high:.1f}, n = {self.n})",
                f"loss {self.loss:.4f} nats, MCC {self.mcc:.3f}\n",
                *_table(classes),
                "",
                *(_table(confusion) or [f"confusion matrix of {len(self.label_names)} classes: too wide to print"]),
            ]
        )


def evaluate(logits: Tensor, labels: Sequence[int] | Tensor, label_names: Sequence[str]) -> Evaluation:
    """Compares logits (N, C) with N true classes in 0..C-1, whose names must differ."""
    from sklearn.metrics import confusion_matrix, matthews_corrcoef, precision_recall_fscore_support

    if len(set(label_names)) < len(label_names):
        raise DataError(f"label names are not all different: {', '.join(label_names)}; rename them")
    # Double precision, so that the mean over a large split does not depend on how it was batched.
    logits, truth = logits.detach().cpu().double(), torch.as_tensor(labels).cpu().long()
    true, predicted, classes = truth.numpy(), logits.argmax(dim=-1).numpy(), range(len(label_names))
    correct = int((true == predicted).sum())
    rates = np.stack(precision_recall_fscore_support(true, predicted, labels=classes, zero_division=0))  # (4, C)
    # Of a single class the correlation is 0 / 0, and scikit-learn warns.
    mcc = float(matthews_corrcoef(true, predicted)) if len({*true, *predicted}) > 1 else 0.0
    precision, recall, f1, _ = rates.mean(axis=1).tolist()
    return Evaluation(
        n=len(true),
        accuracy=correct / len(true),
        interval=list(wilson_interval(correct, len(true))),
        loss=F.cross_entropy(logits, truth).item(),
        precision=precision,
        recall=recall,
        f1=f1,
        mcc=mcc,
        per_class={
            name: dict(zip(RATES, row, strict=True)) for name, row in zip(label_names, rates.T.tolist(), strict=True)
        },
        confusion=confusion_matrix(true, predicted, labels=classes).tolist(),
        label_names=list(label_names),
    )


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Gives the 95 % interval of Wilson (1927) of an accuracy: lower end, upper end."""
    from scipy.stats import binomtest  # type: ignore[import-untyped, unused-ignore]

    low, high = binomtest(correct, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(low), float(high)


def _table(rows: list[list[str]]) -> list[str]:
    """Aligns names to the left and numbers to the right; no line where they are too wide for a console."""
    first = max(cell_width(fit_cells(row[0], LONGEST_LABEL)) for row in rows)
    room = (CONSOLE_WIDTH - first) // (len(rows[0]) - 1) - len("  ")
    if room < max(NARROWEST, *(len(number) for row in rows[1:] for number in row[1:])):  # numbers are never cut
        return []
    width = max(cell_width(fit_cells(cell, room)) for row in rows for cell in row[1:])
    return [
        "  ".join([pad_cells(row[0], first), *(pad_cells(cell, width, right=True) for cell in row[1:])]) for row in rows
    ]
