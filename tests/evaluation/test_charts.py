from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from sklearn.metrics import confusion_matrix

from src.evaluation.charts import Chart, draw_charts, history_charts, prediction_charts
from src.evaluation.predictions import Predictions
from src.evaluation.slices import by_confidence, by_length, by_words
from tests.evaluation.some_predictions import FEW, MALICIOUS, UNLABELLED, drawn

STEPS = [{"step": step, "train/loss": 1 / step} for step in (50, 100)]
EVALUATED = {"step": 100, "validation/loss": 0.25, "validation/accuracy": 0.75}


def axes_of(chart: Chart) -> Any:
    axes = Figure().add_subplot()
    chart.draw(axes)
    return axes


def chart_of(predictions: Predictions, name: str) -> Any:
    return axes_of(next(chart for chart in prediction_charts(predictions) if chart.name == name))


def lines(chart: Chart) -> dict[str, list[list[float]]]:
    axes = axes_of(chart)
    assert axes.get_xlabel() and axes.get_ylabel()
    return {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in axes.lines}


def test_the_curves_of_a_training_are_what_it_recorded() -> None:
    loss, accuracy = history_charts([*STEPS, EVALUATED])
    assert lines(loss) == {"train/loss": [[50, 0.02], [100, 0.01]], "validation/loss": [[100, 0.25]]}
    assert lines(accuracy) == {"validation/accuracy": [[100, 0.75]]}
    assert [chart.name for chart in history_charts(STEPS)] == ["loss"] and history_charts([]) == []
    loss, accuracy = history_charts([EVALUATED | {"validation/unigram_loss": 6.5, "unigram_accuracy": 0.25}])
    assert (lines(loss)["validation/unigram_loss"], lines(accuracy)["unigram_accuracy"]) == (
        [[100, 6.5]],
        [[100, 0.25]],
    )
    diverged = history_charts([*STEPS, {"step": 150, "train/loss": None}, {"step": 160, "train/loss": "<script>"}])
    assert np.isnan(lines(diverged[0])["train/loss"][2:]).tolist() == [[False, True]] * 2


@pytest.mark.parametrize("classes", [2, 13, 77])
def test_any_number_of_classes_is_drawn(classes: int, tmp_path: Path) -> None:
    charts = prediction_charts(drawn(classes=classes, n=200))
    draw_charts(tmp_path / "sheet.png", charts, "title $x_1$ \u4e2d", dark=classes == 77)
    assert imread(tmp_path / "sheet.png").shape == (1140, 2430, 4)


def test_no_predictions_warn_or_fail_and_without_labels_confidence_alone_is_drawn(tmp_path: Path) -> None:
    odd = (replace(FEW, true=FEW.label), replace(FEW, score=[0.0, 1.0, 0.5, 0.95, 1.0]))
    for number, predictions in enumerate((MALICIOUS, *odd)):
        draw_charts(tmp_path / f"{number}.png", prediction_charts(predictions))
    assert [chart.name for chart in prediction_charts(UNLABELLED)] == ["confidence"]
    (bars,) = chart_of(UNLABELLED, "confidence").containers
    assert sum(bar.get_height() for bar in bars) == 5


def test_the_matrix_shows_the_counts_of_scikit_learn() -> None:
    predictions = drawn()
    axes = chart_of(predictions, "confusion")
    counts = confusion_matrix(predictions.true, predictions.label)
    assert [int(text.get_text().split("\n")[0]) for text in axes.texts] == counts.flatten().tolist()
    np.testing.assert_allclose(axes.images[0].get_array(), counts / counts.sum(axis=1, keepdims=True))
    assert [text.get_text() for text in axes.get_yticklabels()] == list(predictions.label_names)


def test_slices_are_drawn_with_their_intervals() -> None:
    predictions = drawn()
    slices = {"reliability": by_confidence, "length": by_length, "words": by_words}
    for name, function in slices.items():
        found, axes = function(predictions), chart_of(predictions, name)
        points, _, whiskers = axes.containers[0].lines
        np.testing.assert_allclose(points.get_ydata().astype(float), [one.accuracy for one in found])
        ends = [segment[:, 1] for segment in whiskers[0].get_segments()]
        np.testing.assert_allclose(ends, [one.interval for one in found], atol=1e-12)
        if name == "reliability":
            np.testing.assert_allclose(points.get_xdata().astype(float), [one.confidence for one in found])
        else:
            assert [text.get_text() for text in axes.get_xticklabels()] == [f"{s.name}\nn = {s.n}" for s in found]


def test_the_histogram_counts_every_prediction_once_and_its_legend_covers_no_bar() -> None:
    for predictions in (drawn(), replace(FEW, score=[0.3, 0.3, 0.3, 0.3, 0.9])):
        axes = chart_of(predictions, "confidence")
        right, wrong = ([bar.get_height() for bar in container] for container in axes.containers)
        assert right == np.histogram(np.array(predictions.score)[predictions.right], np.linspace(0, 1, 21))[0].tolist()
        assert sum(wrong) == predictions.right.count(False)
        axes.figure.draw_without_rendering()
        assert axes.get_legend().get_window_extent().y0 > axes.get_window_extent().y1


@pytest.mark.parametrize("dark", [False, True])
def test_equal_charts_are_equal_files_whatever_the_users_settings(dark: bool, tmp_path: Path) -> None:
    charts = history_charts(STEPS)
    draw_charts(tmp_path / "one.png", charts, dark=dark)
    with matplotlib.rc_context({"figure.dpi": 50, "savefig.bbox": "tight", "font.family": "serif", "axes.grid": False}):
        draw_charts(tmp_path / "two.png", charts, dark=dark)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    corner = imread(tmp_path / "one.png")[0, 0]
    assert corner[3] == 1 and (corner[0] < 0.2 if dark else corner[0] == 1)  # opaque, and as dark as its page
