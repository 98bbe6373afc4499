"""Accuracy by kind of text, with 95 % intervals: by length, negation and unknown words, and by confidence."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.evaluation.metrics import BINS, confidence_bins, wilson_interval
from src.evaluation.predictions import Predictions

MOST_LENGTHS = 6

# Words that negate an English sentence, SST-2's spelling "do n't" included.
NEGATION = re.compile(
    r"\b(not|no|nor|none|never|neither|nobody|nothing|nowhere|cannot|without|hardly|barely|scarcely)\b|n['\u2019]t\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Slice:
    """Some of the texts; rates are fractions in [0, 1]."""

    name: str
    n: int
    accuracy: float
    interval: tuple[float, float]  # 95 % Wilson interval of the accuracy
    confidence: float  # mean probability of the predicted label


def by_confidence(predictions: Predictions, bins: int = BINS) -> list[Slice]:
    """Slices texts into bins (low, high] of equal width; empty bins are left out."""
    owners = confidence_bins(predictions.score, bins)  # (N,)
    names = [f"{bin / bins:.2f}-{(bin + 1) / bins:.2f}" for bin in range(bins)]
    return [_slice(predictions, names[bin], owners == bin) for bin in np.unique(owners)]


def by_length(predictions: Predictions, most: int = MOST_LENGTHS) -> list[Slice]:
    """Slices texts by their number of words into at most `most` slices of about equal size, the shortest first."""
    lengths = np.array([len(text.split()) for text in _texts(predictions)])
    # Quantiles that occur, so that texts of one length stay together.
    ends = np.unique(np.quantile(lengths, np.linspace(0, 1, most + 1)[1:], method="inverted_cdf"))
    owners = np.searchsorted(ends, lengths)
    slices = []
    for owner in np.unique(owners):
        low, high = lengths[owners == owner].min(), lengths[owners == owner].max()
        slices.append(_slice(predictions, f"{low}-{high}" if low < high else str(low), owners == owner))
    return slices


def by_words(predictions: Predictions) -> list[Slice]:
    """Slices texts by whether they negate, and whether they hold unknown tokens; empty slices are left out."""
    negates = np.array([NEGATION.search(text) is not None for text in _texts(predictions)])
    kinds = {"negation": negates, "no negation": ~negates}
    if predictions.unknown is not None:
        unknown = np.array(predictions.unknown) > 0
        kinds |= {"unknown word": unknown, "no unknown word": ~unknown}
    return [_slice(predictions, name, inside) for name, inside in kinds.items() if inside.any()]


def _texts(predictions: Predictions) -> list[str]:
    """Joins the two texts of a pair."""
    pairs = [] if predictions.text_pair is None else [predictions.text_pair]
    return [" ".join(both) for both in zip(predictions.text, *pairs, strict=True)]


def _slice(predictions: Predictions, name: str, inside: Any) -> Slice:
    right, n = int(np.array(predictions.right)[inside].sum()), int(inside.sum())
    return Slice(name, n, right / n, wilson_interval(right, n), float(np.array(predictions.score)[inside].mean()))
