"""How good a classifier is: the numbers of an evaluation, and how sure one may be of them.

All of them come from scikit-learn, SciPy and PyTorch; nothing is computed by hand here. The interval is that of Wilson
(1927), which stays inside [0, 1] and holds its 95 % for few examples and for accuracies near 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from src.evaluation.examples import cell_width, fit_cells, pad_cells
from src.utils.errors import CheckpointError, DataError

CONSOLE_WIDTH = 80
LONGEST_LABEL = 24


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one model on one set of labelled examples; rates are fractions in [0, 1].

    A class that never occurs, or is never predicted, has 0 for the rates it leaves undefined, and counts in the macro
    averages.
    """

    n: int
    accuracy: float
    interval: tuple[float, float]  # 95 % Wilson interval of the accuracy: lower end, upper end
    loss: float  # mean cross-entropy in nats
    precision: float  # macro average, like the next two
    recall: float
    f1: float
    mcc: float  # Matthews correlation in [-1, 1]; 0 where it is undefined
    per_class: dict[str, dict[str, float]]  # label name -> precision, recall, f1, support
    confusion: list[list[int]]  # rows true, columns predicted, in the order of label_names
    label_names: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Gives the numbers in types that JSON knows.

        Returns:
            Field name to value, tuples turned into lists; it survives a round trip through JSON unchanged.
        """
        return asdict(self) | {"interval": list(self.interval), "label_names": list(self.label_names)}

    def curves(self) -> dict[str, float]:
        """Gives the numbers worth a curve."""
        return {"accuracy": self.accuracy, "loss": self.loss, "f1": self.f1, "mcc": self.mcc}

    def tables(self) -> dict[str, Any]:
        """Gives the confusion matrix and the rates of each class."""
        return {"confusion": self.confusion, "per_class": self.per_class}

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> "Evaluation":
        """Rebuilds an evaluation from what `as_dict` gave; other keys are ignored."""
        known = {field.name: numbers[field.name] for field in fields(cls)}
        return cls(**known | {name: tuple(known[name]) for name in ("interval", "label_names")})

    def as_text(self) -> str:
        """Formats the numbers for a console.

        Returns:
            Lines of at most 80 columns: accuracy, loss, a table of the classes in per cent, the confusion matrix.
        """
        low, high = (100 * end for end in self.interval)
        lines = [
            f"accuracy {100 * self.accuracy:.1f} % (95 % interval {low:.1f}-{high:.1f}, n = {self.n})",
            f"loss {self.loss:.4f} nats, MCC {self.mcc:.3f}",
        ]
        return "\n".join([*lines, "", *self._class_table(), "", *self._confusion_table()])

    def _class_table(self) -> list[str]:
        macro = {"precision": self.precision, "recall": self.recall, "f1": self.f1, "support": self.n}
        rows = [["in %", "precision", "recall", "F1", "examples"]]
        for name, rates in (*self.per_class.items(), ("macro average", macro)):
            percentages = [f"{100 * rates[rate]:.1f}" for rate in ("precision", "recall", "f1")]
            rows.append([name, *percentages, f"{rates['support']:.0f}"])
        return _aligned(rows)

    def _confusion_table(self) -> list[str]:
        rows = [["true \\ predicted", *self.label_names]]
        rows += [[name, *map(str, counts)] for name, counts in zip(self.label_names, self.confusion, strict=True)]
        return _aligned(rows) or [f"confusion matrix of {len(self.label_names)} classes: too wide to print"]


def evaluate(logits: Tensor, labels: Sequence[int] | Tensor, label_names: Sequence[str]) -> Evaluation:
    """Compares a model's logits with the true labels.

    Args:
        logits: of shape (N, C), any floating dtype, on any device.
        labels: N true classes in 0..C-1.
        label_names: C different names, in the order of the logits.

    Returns:
        The numbers of this model on these N examples.

    Raises:
        DataError: there are no examples, an example has no valid label, or two labels share a name.
        CheckpointError: the number of classes differs from that of the names, or a logit is not finite.
    """
    from sklearn.metrics import confusion_matrix

    # Double precision, so that the mean over a large split does not depend on how it was batched.
    logits, truth = logits.detach().cpu().double(), torch.as_tensor(labels).cpu().long()
    _check(logits, truth, label_names)
    true, predicted = truth.numpy(), logits.argmax(dim=-1).numpy()
    correct = int((true == predicted).sum())
    report = _report(true, predicted, len(label_names))
    return Evaluation(
        n=len(true),
        accuracy=correct / len(true),
        interval=wilson_interval(correct, len(true)),
        loss=F.cross_entropy(logits, truth).item(),
        precision=report["macro avg"]["precision"],
        recall=report["macro avg"]["recall"],
        f1=report["macro avg"]["f1"],
        mcc=_matthews(true, predicted),
        per_class={name: report[str(index)] for index, name in enumerate(label_names)},
        confusion=confusion_matrix(true, predicted, labels=range(len(label_names))).tolist(),
        label_names=tuple(label_names),
    )


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Gives the 95 % interval of Wilson (1927) of an accuracy: lower end, upper end."""
    from scipy.stats import binomtest  # type: ignore[import-untyped, unused-ignore]

    low, high = binomtest(correct, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(low), float(high)


def _check(logits: Tensor, labels: Tensor, label_names: Sequence[str]) -> None:
    if labels.numel() == 0:
        raise DataError("there is nothing to evaluate: the data holds no examples; choose another split or file")
    classes = len(label_names)
    if logits.shape != (len(labels), classes):
        raise CheckpointError(
            f"logits of shape {tuple(logits.shape)} do not fit {len(labels)} examples of {classes} classes; "
            "evaluate on data with the labels the model was trained on"
        )
    if len(set(label_names)) < classes:
        raise DataError(f"label names are not all different: {', '.join(label_names)}; rename them")
    invalid = ((labels < 0) | (labels >= classes)).nonzero().flatten().tolist()
    if invalid:
        raise DataError(
            f"example {invalid[0]} has label {int(labels[invalid[0]])}, which is not in 0..{classes - 1}; "
            "choose a labelled split (GLUE's test splits have none)"
        )
    if not logits.isfinite().all():
        raise CheckpointError("the model's logits are not all finite; its weights are damaged or training diverged")


def _report(true: Any, predicted: Any, classes: int) -> dict[str, dict[str, float]]:
    from sklearn.metrics import classification_report

    # Without target_names the keys are numbers, so a label called "macro avg" cannot take the averages' place.
    report = classification_report(true, predicted, labels=range(classes), output_dict=True, zero_division=0)
    rows = {key: row for key, row in report.items() if isinstance(row, dict)}
    return {key: {name.removesuffix("-score"): float(row[name]) for name in row} for key, row in rows.items()}


def _matthews(true: Any, predicted: Any) -> float:
    from sklearn.metrics import matthews_corrcoef

    # scikit-learn warns about a single class; the coefficient is 0 / 0 there and 0 by its convention.
    single_class = bool((true == true[0]).all() and (predicted == true[0]).all())
    return 0.0 if single_class else float(matthews_corrcoef(true, predicted))


def _aligned(rows: list[list[str]]) -> list[str]:
    """Aligns cells in columns, the first to the left, the others to the right; no line where they are too wide."""
    first = max(cell_width(fit_cells(row[0], LONGEST_LABEL)) for row in rows)
    widest = (CONSOLE_WIDTH - first) // (len(rows[0]) - 1) - len("  ")
    # Only names may be cut, never numbers; below six columns too little of a name is left.
    if widest < 6 or any(len(number) > widest for row in rows[1:] for number in row[1:]):
        return []
    widths = [
        max(cell_width(fit_cells(cell, widest)) for cell in column) for column in list(zip(*rows, strict=True))[1:]
    ]
    lines = []
    for row in rows:
        cells = [pad_cells(cell, width, right=True) for cell, width in zip(row[1:], widths, strict=True)]
        lines.append("  ".join([pad_cells(row[0], first), *cells]))
    return lines
