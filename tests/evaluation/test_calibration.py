import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from src.evaluation.calibration import expected_calibration_error, reliability
from src.evaluation.metrics import wilson_interval
from tests.evaluation.some_answers import drawn


@pytest.mark.parametrize(("classes", "bins"), [(2, 10), (7, 20)])
def test_the_bins_are_those_of_scikit_learn(classes: int, bins: int) -> None:
    answers = drawn(classes=classes)
    accuracy, confidence = calibration_curve(answers.right, answers.scores, n_bins=bins)
    found = reliability(answers.scores, answers.right, bins)
    np.testing.assert_allclose([one.accuracy for one in found], accuracy, rtol=1e-12)
    np.testing.assert_allclose([one.confidence for one in found], confidence, rtol=1e-12)
    assert sum(one.n for one in found) == 500
    assert all(one.low < one.confidence <= one.high for one in found)
    assert all(one.interval == wilson_interval(round(one.accuracy * one.n), one.n) for one in found)


def test_the_calibration_error_is_the_one_computed_by_hand() -> None:
    # (0.5, 0.6]: mean 0.56, 1 of 2 right. (0.9, 1]: mean 0.95, 3 of 4 right. (0.6, 0.7]: mean 0.65, right.
    scores, right = [0.55, 0.57, 0.91, 0.93, 0.97, 0.99, 0.65], [True, False, True, True, False, True, True]
    error = (2 * abs(0.5 - 0.56) + 4 * abs(0.75 - 0.95) + 1 * abs(1 - 0.65)) / 7
    assert expected_calibration_error(reliability(scores, right, bins=10)) == pytest.approx(error)


def test_scores_between_two_bins_belong_where_scikit_learn_puts_them() -> None:
    scores, right = [0.25, 0.5, 0.5, 0.75, 0.6, 1.0], [True, False, True, True, False, True]
    accuracy, confidence = calibration_curve(right, scores, n_bins=4)
    found = reliability(scores, right, bins=4)
    np.testing.assert_allclose([(one.accuracy, one.confidence) for one in found], np.stack([accuracy, confidence], 1))
    ends = reliability([0.0, 1.0], [False, True], bins=4)
    assert [(one.low, one.high, one.n) for one in ends] == [(0, 0.25, 1), (0.75, 1, 1)]
