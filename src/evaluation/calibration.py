"""How sure a model is, and how sure it may be: the reliability diagram in numbers (Guo et al. 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from src.evaluation.metrics import wilson_interval

BINS = 20


@dataclass(frozen=True)
class Bin:
    """The answers whose confidence lies in (low, high]; rates are fractions in [0, 1]."""

    low: float
    high: float
    n: int
    confidence: float  # mean probability of the predicted label
    accuracy: float
    interval: tuple[float, float]  # 95 % Wilson interval of the accuracy


def reliability(scores: Sequence[float], right: Sequence[bool], bins: int = BINS) -> list[Bin]:
    """Sorts answers by confidence into bins of equal width.

    Args:
        scores: N probabilities of the predicted labels.
        right: whether each of these labels is the true one.
        bins: number of bins that divide [0, 1].

    Returns:
        The bins that are not empty, the least confident first.
    """
    edges = np.linspace(0, 1, bins + 1)
    confidence, correct = np.asarray(scores, dtype=float), np.asarray(right, dtype=bool)
    owner = np.searchsorted(edges[1:-1], confidence)  # (N,)
    found = []
    for number in np.unique(owner):
        inside = owner == number
        n, hits = int(inside.sum()), int(correct[inside].sum())
        low, high = float(edges[number]), float(edges[number + 1])
        mean = float(confidence[inside].mean())
        found.append(Bin(low, high, n, mean, hits / n, wilson_interval(hits, n)))
    return found


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Averages the gap between confidence and accuracy over the answers (Guo et al. 2017, equation 3)."""
    return sum(one.n * abs(one.accuracy - one.confidence) for one in bins) / sum(one.n for one in bins)
