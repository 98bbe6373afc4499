"""The curves of a training as charts: loss and accuracy over the steps."""

from functools import partial
from typing import Any

import numpy as np

from src.evaluation.charts import Chart, Theme
from src.evaluation.curves import Curve, History

TRAINING, VALIDATION = "training", "validation"


def history_charts(history: History) -> list[Chart]:
    """Charts what was recorded of loss and accuracy.

    Args:
        history: of a classifier or of a pre-training.

    Returns:
        One or two charts, or none.
    """
    loss = {
        TRAINING: history.curve("train/loss"),
        VALIDATION: history.curve("validation/loss"),
        "token frequencies alone": history.curve("validation/unigram_loss"),
    }
    accuracy = {
        VALIDATION: history.curve("validation/accuracy"),
        "always the most frequent token": history.curve("unigram_accuracy"),
    }
    return [*_loss_chart(_recorded(loss)), *_accuracy_chart(_recorded(accuracy))]


def _recorded(curves: dict[str, Curve]) -> dict[str, Curve]:
    return {name: curve for name, curve in curves.items() if curve.steps}


def _loss_chart(curves: dict[str, Curve]) -> list[Chart]:
    if not curves:
        return []
    last = ", ".join(f"{name} {curve.values[-1]:.3f}" for name, curve in curves.items())
    caption = f"At last: {last}. Training loss includes dropout and, where they are set, label smoothing and the like."
    return [Chart("loss", "Loss", caption, partial(_draw_curves, curves=curves, unit="cross-entropy in nats"))]


def _accuracy_chart(curves: dict[str, Curve]) -> list[Chart]:
    if VALIDATION not in curves:
        return []
    curves = {name: Curve(curve.steps, [100 * value for value in curve.values]) for name, curve in curves.items()}
    found = curves[VALIDATION]
    caption = f"On validation data, at last {found.values[-1]:.1f} %"
    if np.isfinite(found.values).any():
        best = int(np.nanargmax(found.values))
        caption += f"; best {found.values[best]:.1f} % after {found.steps[best]:,} steps"
    title = "Accuracy on masked tokens" if len(curves) > 1 else "Accuracy"
    return [Chart("accuracy", title, f"{caption}.", partial(_draw_curves, curves=curves, unit="accuracy in %"))]


def _draw_curves(axes: Any, theme: Theme, curves: dict[str, Curve], unit: str) -> None:
    looks: dict[str, dict[str, Any]] = {
        TRAINING: {"color": theme.right},
        VALIDATION: {"color": theme.wrong, "marker": "o", "markersize": 5},
    }
    for name, curve in curves.items():
        look = looks.get(name, {"color": theme.grey, "linestyle": "--"})
        axes.plot(curve.steps, curve.values, label=name, linewidth=1.5, **look)
    axes.set_xlabel("optimiser steps")
    axes.set_ylabel(unit)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.margins(x=0.03, y=0.1)
    axes.set_xlim(left=0)
    axes.grid()
    axes.legend()
