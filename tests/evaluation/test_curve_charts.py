from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from src.evaluation.charts import LIGHT, Chart
from src.evaluation.curve_charts import history_charts
from src.evaluation.curves import History, read_history
from src.utils.config import REPOSITORY

STEPS = [{"step": step, "train/loss": 1 / step} for step in (50, 100)]
EVALUATED = {"step": 100, "validation/loss": 0.25, "validation/accuracy": 0.75}
LATER = {"step": 150, "validation/loss": 0.5, "validation/accuracy": 0.5}


def charts(*rows: dict[str, Any]) -> list[Chart]:
    return history_charts(History(list(rows), 0))


def lines(chart: Chart) -> dict[str, list[tuple[float, float]]]:
    axes = Figure().add_subplot()
    chart.draw(axes, LIGHT)
    assert axes.get_xlabel() and axes.get_ylabel()
    return {str(line.get_label()): [(x, y) for x, y in np.asarray(line.get_xydata())] for line in axes.lines}


def test_loss_and_accuracy_of_a_classifier_are_drawn() -> None:
    loss, accuracy = charts(*STEPS, EVALUATED, LATER)
    assert (loss.name, accuracy.name) == ("loss", "accuracy")
    assert lines(loss) == {"training": [(50, 0.02), (100, 0.01)], "validation": [(100, 0.25), (150, 0.5)]}
    assert lines(accuracy) == {"validation": [(100, 75.0), (150, 50.0)]}
    assert "0.010" in loss.caption and "0.500" in loss.caption
    assert all(fact in accuracy.caption for fact in ("50.0 %", "75.0 %", "100"))
    assert [chart.name for chart in charts(*STEPS)] == ["loss"] and not charts()  # what is not recorded is not drawn
    diverged, accuracy = charts(*STEPS, {"step": 150, "train/loss": None, "validation/accuracy": None})
    assert np.isnan(lines(diverged)["training"][-1][1]) and "nan %" in accuracy.caption


def test_a_pre_training_has_its_baselines() -> None:
    history = read_history(REPOSITORY / "media" / "bert-imdb.jsonl")
    loss, accuracy = history_charts(history)
    assert {"training", "validation"} < lines(loss).keys() and len(lines(loss)) == 3
    found = lines(accuracy)
    last = history.rows[-1]
    assert found.pop("validation")[-1][1] == pytest.approx(100 * last["validation/accuracy"])
    ((_, baseline),) = found.items()
    assert [y for _, y in baseline] == pytest.approx([100 * last["unigram_accuracy"]] * len(baseline))
