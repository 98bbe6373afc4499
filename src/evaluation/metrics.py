"""How good a classifier is: the metrics of an evaluation, the interval of its accuracy, and tables to print.

scikit-learn, SciPy and PyTorch compute them. The interval is that of Wilson (1927): it stays inside [0, 1] and keeps
its coverage of 95 % for few examples and for accuracies near 1.
"""

import math
import random
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from src.utils.config import SINGLE_LABEL, ProblemType
from src.utils.errors import DataError, printable

RATES = ("precision", "recall", "f1", "support")
CURVES = ("accuracy", "loss", "f1", "micro_f1", "mcc", "pearson", "spearman", "unigram_loss", "calibration_error")
TABLES = ("confusion", "per_class", "unigram_accuracy")
BINS = 20  # of confidence
CONSOLE_WIDTH, LONGEST_LABEL, NARROWEST = 80, 16, 6  # columns: console, row label at most, number at least


@dataclass(frozen=True)
class Numbers:
    """The numbers of an evaluation, all of JSON types."""

    score_name: ClassVar[str] = "accuracy"

    @property
    def score(self) -> float:
        """The one number by which models are compared; more is better."""
        return float(getattr(self, self.score_name))

    def as_dict(self) -> dict[str, Any]:
        """Maps field names to values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> Self:
        """Builds the evaluation again from what `as_dict` gave; other keys are ignored."""
        return cls(**{field.name: numbers[field.name] for field in fields(cls)})

    def curves(self) -> dict[str, float]:
        """Returns the numbers to plot as curves."""
        return {name: value for name, value in asdict(self).items() if name in CURVES}

    def tables(self) -> dict[str, Any]:
        """Returns what else metrics.jsonl keeps: tables of the classes, and the accuracy of the baseline."""
        return {name: value for name, value in asdict(self).items() if name in TABLES}


@dataclass(frozen=True)
class Evaluation(Numbers):
    """The numbers of one model on one set of labelled examples; rates are fractions in [0, 1].

    If a class never occurs or is never predicted, its undefined rates are 0,
    and they count in the macro averages.
    """

    n: int
    accuracy: float
    interval: list[float]  # 95 % Wilson interval of the accuracy: lower end, upper end
    loss: float  # mean cross-entropy in nats
    precision: float  # macro average, like the next two
    recall: float
    f1: float
    mcc: float  # Matthews correlation in [-1, 1]; 0 where it is undefined
    calibration_error: float  # mean gap between confidence and accuracy; see expected_calibration_error
    per_class: dict[str, dict[str, float]]  # label name -> precision, recall, f1, support
    confusion: list[list[int]]  # rows true, columns predicted, in the order of label_names
    label_names: list[str]

    @property
    def only_prediction(self) -> str | None:
        """The class predicted for all examples although some are of another; None if there is no such class."""
        given = np.flatnonzero(np.sum(self.confusion, axis=0))
        return self.label_names[given[0]] if len(given) == 1 and self.accuracy < 1 else None

    def as_text(self) -> str:
        """Formats accuracy, loss, a table of the classes and the confusion matrix, in lines of at most 80 columns."""
        low, high = self.interval
        macro = {"precision": self.precision, "recall": self.recall, "f1": self.f1, "support": self.n}
        classes = [["in %", "precision", "recall", "F1", "examples"]]
        for name, rates in (*self.per_class.items(), ("macro average", macro)):
            classes.append([name, *(f"{100 * rates[rate]:.1f}" for rate in RATES[:3]), f"{rates['support']:.0f}"])
        matrix = [["true \\ predicted", *self.label_names]]
        matrix += [[name, *map(str, counts)] for name, counts in zip(self.label_names, self.confusion, strict=True)]
        C = len(self.label_names)
        room = (CONSOLE_WIDTH - LONGEST_LABEL) // C - len("  ")
        if room < max(NARROWEST, len(str(max(map(max, self.confusion))))):  # numbers are never cut
            confusion = f"confusion matrix of {C} classes: too wide to print"
        else:
            confusion = table(matrix, [LONGEST_LABEL] + [room] * C, "<" + ">" * C)
        return (
            f"accuracy {100 * self.accuracy:.1f} % (95 % interval {100 * low:.1f}-{100 * high:.1f}, n = {self.n})\n"
            f"loss {self.loss:.4f} nats, MCC {self.mcc:.3f}, calibration error {100 * self.calibration_error:.1f} %\n\n"
            f"{table(classes, [LONGEST_LABEL, 10, 10, 10, 10], '<>>>>')}\n\n{confusion}"
        )


@dataclass(frozen=True)
class MultiLabelEvaluation(Numbers):
    """The numbers of multi-label classification; every class with a probability above one half is predicted."""

    score_name: ClassVar[str] = "micro_f1"

    n: int
    accuracy: float  # share of the texts whose classes are all right
    loss: float  # mean binary cross-entropy over texts and classes, in nats
    micro_f1: float  # of the decisions on all classes together
    f1: float  # macro average; 0 for a class that neither occurs nor is predicted

    def as_text(self) -> str:
        """Formats the numbers for a console."""
        f1 = f"micro F1 {100 * self.micro_f1:.1f} %, macro F1 {100 * self.f1:.1f} %"
        return f"{f1}, all classes right {100 * self.accuracy:.1f} % (n = {self.n})\nloss {self.loss:.4f} nats a class"


@dataclass(frozen=True)
class RegressionEvaluation(Numbers):
    """The numbers of regression; an undefined correlation is 0."""

    score_name: ClassVar[str] = "spearman"

    n: int
    loss: float  # mean squared error
    pearson: float
    spearman: float

    def as_text(self) -> str:
        """Formats the numbers for a console."""
        return f"MSE {self.loss:.4f}, Pearson {self.pearson:.3f}, Spearman {self.spearman:.3f} (n = {self.n})"


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
    # With a single class the correlation is 0 / 0, and scikit-learn warns.
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
        calibration_error=expected_calibration_error(logits.softmax(-1).amax(-1), true == predicted),
        per_class={
            name: dict(zip(RATES, row, strict=True)) for name, row in zip(label_names, rates.T.tolist(), strict=True)
        },
        confusion=confusion_matrix(true, predicted, labels=classes).tolist(),
        label_names=list(label_names),
    )


def evaluate_multi_label(logits: Tensor, labels: Sequence[Any], label_names: Sequence[str]) -> MultiLabelEvaluation:
    """Compares logits (N, C) with N rows of C numbers: 1 for each class that is true of a text, else 0."""
    logits, truth = logits.detach().cpu().double(), torch.as_tensor(labels).cpu().double()
    true, predicted = truth > 0, logits > 0  # (N, C) each
    hits, counts = (true & predicted).sum(0), (true.sum(0) + predicted.sum(0)).clamp(min=1)  # (C,) each
    accuracy, loss = (true == predicted).all(1).double().mean(), F.binary_cross_entropy_with_logits(logits, truth)
    micro_f1, f1 = 2 * hits.sum() / counts.sum(), (2 * hits / counts).mean()
    return MultiLabelEvaluation(len(true), *(number.item() for number in (accuracy, loss, micro_f1, f1)))


def evaluate_regression(logits: Tensor, labels: Sequence[float], label_names: Sequence[str]) -> RegressionEvaluation:
    """Compares logits (N, 1) with N numbers."""
    from scipy.stats import pearsonr, spearmanr  # type: ignore[import-untyped, unused-ignore]

    predicted, true = logits.detach().cpu().double().squeeze(-1), torch.as_tensor(labels).cpu().double()
    # With constant values a correlation is 0 / 0, and SciPy warns.
    is_defined = predicted.min() < predicted.max() and true.min() < true.max()
    correlations = [float(r(predicted, true).statistic) if is_defined else 0.0 for r in (pearsonr, spearmanr)]
    return RegressionEvaluation(len(true), F.mse_loss(predicted, true).item(), *correlations)


ClassifierEvaluation = Evaluation | MultiLabelEvaluation | RegressionEvaluation
# The numbers of each problem type, and what computes them.
EVALUATIONS: dict[ProblemType | None, tuple[type[ClassifierEvaluation], Callable[..., ClassifierEvaluation]]] = {
    **dict.fromkeys(SINGLE_LABEL, (Evaluation, evaluate)),
    "multi_label_classification": (MultiLabelEvaluation, evaluate_multi_label),
    "regression": (RegressionEvaluation, evaluate_regression),
}


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Returns the 95 % Wilson (1927) interval of an accuracy: lower end, upper end."""
    from scipy.stats import binomtest  # type: ignore[import-untyped, unused-ignore]

    low, high = binomtest(correct, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(low), float(high)


def expected_calibration_error(scores: Any, right: Any) -> float:
    """Averages over N texts the gap between confidence and accuracy in bins (Guo et al. 2017, equation 3).

    `scores` (N,) are the probabilities of the predicted labels, `right` (N,) says whether they are the true ones.
    """
    scores, right = np.asarray(scores), np.asarray(right)
    gaps = np.bincount(confidence_bins(scores), weights=right - scores)  # bins of (low, high]
    return float(np.abs(gaps).sum() / len(scores))


def confidence_bins(scores: Any, bins: int = BINS) -> Any:
    """Returns the index of the bin (low, high] of each score; all `bins` have equal width."""
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], scores)


def fit_temperature(logits: Tensor, labels: Sequence[int]) -> float:
    """Finds the T that minimises the cross-entropy of softmax(logits / T) (Guo et al. 2017, section 4.2).

    Logits are (N, C). The true class's target is (N + 1) / (N + C), as in Platt (1999); 1 gives T = 0 if all are right.
    """
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped, unused-ignore]

    logits, truth, (N, C) = logits.double(), torch.tensor(labels), logits.shape

    def loss(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        return F.cross_entropy(scaled, truth, label_smoothing=C / (N + C)).item()

    return math.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded").x)


def examples_table(
    texts: Sequence[str], labels: Sequence[int], logits: Tensor, label_names: Sequence[str], count: int, width: int
) -> str:
    """Formats `count` examples drawn at random, one per line; a cross marks a wrong prediction."""
    chosen = random.Random(0).sample(range(len(texts)), min(count, len(texts)))
    scores, predicted = logits[chosen].detach().float().softmax(dim=-1).max(dim=-1)
    rows = [[" ", "true", "predicted", "confidence", "text"]]
    for index, guess, score in zip(chosen, predicted.tolist(), scores.tolist(), strict=True):
        true, mark = labels[index], " " if guess == labels[index] else "x"
        rows.append([mark, label_names[true], label_names[guess], f"{100 * score:.1f} %", texts[index]])
    label = min(LONGEST_LABEL, max(cell_width(printable(name)) for name in (*label_names, "predicted")))
    return table(rows, [1, label, label, 10, max(10, width - 2 * label - 19)], "<<<><")


def table(rows: Sequence[Sequence[str]], limits: Sequence[int], sides: str) -> str:
    """Aligns columns to the left (<) or right (>) and cuts each to its limit of console columns."""
    rows = [[_fit(cell, limit) for cell, limit in zip(row, limits, strict=True)] for row in rows]
    widths = [max(map(cell_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        gaps = [" " * (width - cell_width(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [cell + gap if side == "<" else gap + cell for cell, gap, side in zip(row, gaps, sides, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _fit(text: str, width: int) -> str:
    """Makes text printable and cuts it to `width`, at least three; a cut text ends in "..."."""
    text = printable(text)
    if cell_width(text) <= width:
        return text
    while cell_width(text) > width - len("..."):
        text = text[: min(len(text) - 1, width)]
    return text + "..."


def cell_width(text: str) -> int:
    """Counts the columns that text takes on a console: two for East Asian wide characters, none for combining ones."""
    columns = {"Mn": 0, "Me": 0}
    return sum(columns.get(unicodedata.category(c), 1 + (unicodedata.east_asian_width(c) in "WF")) for c in text)
