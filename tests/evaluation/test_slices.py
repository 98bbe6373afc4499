from dataclasses import replace

import numpy as np
import pandas as pd  # type: ignore[import-untyped, unused-ignore]
import pytest
from sklearn.calibration import calibration_curve

from src.evaluation.metrics import wilson_interval
from src.evaluation.slices import NEGATION, Slice, by_confidence, by_length, by_words
from tests.evaluation.some_predictions import FEW, IN_PAIRS, drawn


def counts(slices: list[Slice]) -> dict[str, tuple[int, int]]:
    """Names to the number of texts, and of those predicted right."""
    return {one.name: (one.n, round(one.n * one.accuracy)) for one in slices}


@pytest.mark.parametrize(("classes", "bins"), [(2, 10), (7, 20)])
def test_bins_of_confidence_are_those_of_scikit_learn(classes: int, bins: int) -> None:
    predictions = drawn(classes=classes)
    accuracy, confidence = calibration_curve(predictions.right, predictions.score, n_bins=bins)
    found = by_confidence(predictions, bins)
    np.testing.assert_allclose([one.accuracy for one in found], accuracy, rtol=1e-12)
    np.testing.assert_allclose([one.confidence for one in found], confidence, rtol=1e-12)
    assert all(one.interval == wilson_interval(round(one.accuracy * one.n), one.n) for one in found)
    edges = replace(FEW, score=[0.25, 0.5, 1.0, 0.0, 0.75])
    _, confidence = calibration_curve(edges.right, edges.score, n_bins=4)
    np.testing.assert_allclose([one.confidence for one in by_confidence(edges, 4)], confidence)


def test_slices_of_length_are_those_of_pandas() -> None:
    predictions = drawn(n=997)
    frame = pd.DataFrame({"length": [text.count(" ") + 1 for text in predictions.text], "right": predictions.right})
    ends = frame["length"].quantile(np.linspace(0, 1, 7), interpolation="lower").unique()
    expected = frame.groupby(pd.cut(frame["length"], ends, include_lowest=True), observed=True)
    names = [f"{low}-{high}" for low, high in expected["length"].agg(["min", "max"]).to_numpy()]
    found = by_length(predictions)
    assert [one.name for one in found] == names and [one.n for one in found] == expected.size().tolist()
    np.testing.assert_allclose([one.accuracy for one in found], expected["right"].mean())
    assert counts(by_length(replace(FEW, text=["one"] * 4 + ["one two three"]))) == {"1": (4, 3), "3": (1, 0)}


def test_negation_and_unknown_words_are_found_by_hand() -> None:
    unknown = {"unknown word": (2, 1), "no unknown word": (3, 2)}
    assert counts(by_words(FEW)) == {"negation": (3, 2), "no negation": (2, 1)} | unknown
    assert counts(by_words(IN_PAIRS)) == {"negation": (4, 3), "no negation": (1, 0)} | unknown
    assert counts(by_words(replace(FEW, text=["fine"] * 5, unknown=None))) == {"no negation": (5, 3)}
    for text in ("ca n't", "Don't!", "don\u2019t", "NEVER mind", "cannot", "neither", "not-so-good"):
        assert NEGATION.search(text), text
    for text in ("a notable film", "knot", "know", "nothingness", "an anticlimax", "cant", "nob"):
        assert not NEGATION.search(text), text
