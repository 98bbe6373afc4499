from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from src.evaluation.answer_charts import answer_charts
from src.evaluation.answers import Answers
from src.evaluation.calibration import expected_calibration_error, reliability
from src.evaluation.charts import DARK, LIGHT, Chart, Theme, chart_png
from src.evaluation.groups import by_length, by_negation, by_unknown_words
from tests.evaluation.some_answers import FEW, drawn, hostile, unlabelled


def chart_of(answers: Answers, name: str) -> tuple[Chart, Any]:
    chart = next(chart for chart in answer_charts(answers) if chart.name == name)
    axes = Figure().add_subplot()
    chart.draw(axes, LIGHT)
    return chart, axes


def points(axes: Any) -> list[tuple[float, float]]:
    """The marks of the error bars, which are drawn after the dashed line."""
    return [(x, y) for x, y in np.asarray(axes.containers[0].lines[0].get_xydata())]


def whiskers(axes: Any) -> "np.ndarray[Any, Any]":
    return np.array([segment[:, 1] for segment in axes.containers[0].lines[2][0].get_segments()])


@pytest.mark.parametrize(("classes", "theme"), [(2, LIGHT), (13, DARK), (77, LIGHT)])
def test_any_number_of_classes_is_drawn(classes: int, theme: Theme) -> None:
    charts = answer_charts(drawn(classes=classes, n=200))
    assert [chart.name for chart in charts] == ["confusion", "reliability", "scores", "length", "words"]
    assert chart_png(charts[0], theme).startswith(b"\x89PNG\r\n\x1a\n")


def test_no_answers_warn_or_fail_and_without_labels_confidence_alone_is_drawn() -> None:
    for answers in (hostile(), replace(FEW, true=FEW.predicted), replace(FEW, scores=[0.0, 1.0, 0.5, 0.95, 1.0])):
        for chart in answer_charts(answers):
            chart.draw(Figure().add_subplot(), LIGHT)
    assert [chart.name for chart in answer_charts(unlabelled())] == ["scores"]


def test_the_matrix_shows_the_counts_of_scikit_learn() -> None:
    answers = drawn()
    _, axes = chart_of(answers, "confusion")
    counts = confusion_matrix(answers.true, answers.predicted)
    shown = [int(text.get_text().split("\n")[0]) for text in axes.texts]
    assert shown == counts.flatten().tolist()
    np.testing.assert_allclose(axes.images[0].get_array(), counts / counts.sum(axis=1, keepdims=True))
    assert [text.get_text() for text in axes.get_yticklabels()] == list(answers.label_names)


def test_the_reliability_diagram_shows_bins_and_error() -> None:
    answers = drawn()
    bins = reliability(answers.scores, answers.right)
    chart, axes = chart_of(answers, "reliability")
    assert points(axes) == [(100 * one.confidence, 100 * one.accuracy) for one in bins]
    np.testing.assert_allclose(whiskers(axes), [[100 * end for end in one.interval] for one in bins], atol=1e-9)
    error = f"{100 * expected_calibration_error(bins):.1f} points"
    assert error in chart.caption and error in chart.title
    assert axes.get_xlim()[0] == pytest.approx(100 * bins[0].low)


def test_the_histogram_counts_every_answer_once() -> None:
    for answers in (drawn(), replace(FEW, scores=[0.0, 1.0, 0.5, 0.93, 0.3])):
        _, axes = chart_of(answers, "scores")
        right, wrong = ([bar.get_height() for bar in container] for container in axes.containers)
        inside = np.histogram(np.array(answers.scores)[answers.right], np.linspace(0, 1, 21))[0]
        assert right == inside[-len(right) :].tolist()
        assert (sum(right), sum(wrong)) == (answers.right.count(True), answers.right.count(False))


def test_groups_are_drawn_with_their_intervals() -> None:
    answers = drawn()
    of_words = [*by_negation(answers), *by_unknown_words(answers)]
    for name, groups in (("length", by_length(answers)), ("words", of_words)):
        _, axes = chart_of(answers, name)
        assert [y for _, y in points(axes)] == [100 * group.accuracy for group in groups]
        ends = [[100 * end for end in group.interval] for group in groups]
        np.testing.assert_allclose(whiskers(axes), ends, atol=1e-9)
        labels = [text.get_text() for text in axes.get_xticklabels()]
        assert labels == [f"{group.name}\nn = {group.n:,}" for group in groups]
        assert axes.lines[0].get_ydata()[0] == pytest.approx(100 * np.mean(answers.right))
