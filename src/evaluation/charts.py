"""The charts of a report. Colour-blind readers can tell their colours apart (Okabe & Ito 2008)."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from src.evaluation.metrics import BINS, expected_calibration_error
from src.evaluation.predictions import Predictions
from src.evaluation.slices import Slice, by_confidence, by_length, by_words
from src.utils.errors import printable

WIDTH, HEIGHT, DPI = 5.4, 3.8, 150  # of a chart, inches; dots an inch
MOST_NAMED, MOST_SHARES = 12, 6  # classes up to which a confusion matrix has room for names and counts, and for shares

STYLE: dict[str, Any] = {"text.parse_math": False}  # labels are data: a "$" in them must not start a formula
STYLE |= {"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "legend.frameon": False}
STYLE |= {"figure.constrained_layout.w_pad": 0.12, "figure.constrained_layout.h_pad": 0.12}
STYLE |= {"grid.color": "#888888", "grid.alpha": 0.3}
STYLE |= {"axes.prop_cycle": "cycler(color=['#0072B2', '#D55E00', '#5A5A5A'])"}
DARK: dict[str, Any] = {"axes.prop_cycle": "cycler(color=['#56B4E9', '#E69F00', '#A8A8A8'])"}
DARK |= {"figure.facecolor": "#1B1D21", "axes.facecolor": "#1B1D21", "savefig.facecolor": "#1B1D21"}


@dataclass(frozen=True)
class Chart:
    """A chart: the stem of its file, its title, and how it is drawn on matplotlib's axes."""

    name: str
    title: str
    draw: Callable[[Any], None]


@contextmanager
def plot_style(dark: bool = False) -> Iterator[None]:
    """Draws with this project's settings, whatever the user's matplotlibrc says."""
    styles = ["default", "dark_background", STYLE, DARK] if dark else ["default", STYLE]
    with warnings.catch_warnings(), style.context(styles):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box stands for it
        yield


def draw_charts(path: Path, charts: Sequence[Chart], title: str = "", dark: bool = False) -> None:
    """Draws charts into a PNG, three in a row."""
    rows = [charts[first : first + 3] for first in range(0, len(charts), 3)]
    with plot_style(dark):
        figure = Figure((WIDTH * len(rows[0]), HEIGHT * len(rows)), DPI, layout="constrained")
        figure.suptitle(printable(title), x=0.01, ha="left", weight="bold", size=15)
        # Six columns, so that a row of two is as wide as a row of three.
        mosaic = [[chart.name for chart in row for _ in range(6 // len(row))] for row in rows]
        axes: dict[str, Any] = figure.subplot_mosaic(mosaic)
        for chart in charts:
            axes[chart.name].set_title(chart.title, loc="left", weight="bold")
            chart.draw(axes[chart.name])
        # The version that matplotlib would add makes equal pictures differ.
        figure.savefig(path, metadata={"Software": None})


def history_charts(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Charts loss and accuracy over the steps as metrics.jsonl has them; what is not recorded is left out."""
    charts = []
    for name in ("loss", "accuracy"):
        curves = {}
        for key in (f"train/{name}", f"validation/{name}", f"validation/unigram_{name}", f"unigram_{name}"):
            if found := [(row["step"], row[key]) for row in rows if key in row]:
                # metrics.jsonl has null for what is not finite.
                curves[key] = [(step, value if isinstance(value, int | float) else np.nan) for step, value in found]
        if curves:
            charts.append(Chart(name, name.capitalize(), partial(_draw_curves, curves=curves, unit=name)))
    return charts


def prediction_charts(predictions: Predictions) -> list[Chart]:
    """Charts how right and how sure a model is, and which texts it finds hard; without labels, how sure alone."""
    confidence = Chart("confidence", "Confidence", partial(_draw_confidence, predictions=predictions))
    if predictions.true is None:
        return [confidence]
    bins, lengths, words = by_confidence(predictions), by_length(predictions), by_words(predictions)
    error = f"Expected calibration error {expected_calibration_error(predictions.score, predictions.right):.1%}"
    return [
        Chart("confusion", "Confusion matrix", partial(_draw_confusion, predictions=predictions)),
        Chart("reliability", error, partial(_draw_reliability, bins=bins)),
        confidence,
        Chart("length", "Accuracy by number of words", partial(_draw_slices, slices=lengths)),
        Chart("words", "Accuracy by kind of words", partial(_draw_slices, slices=words)),
    ]


def _draw_curves(axes: Any, curves: Mapping[str, Sequence[tuple[int, float]]], unit: str) -> None:
    for key, curve in curves.items():
        color = "C2" if "unigram" in key else "C0" if key.startswith("train") else "C1"
        axes.plot(*zip(*curve, strict=True), ".-", color=color, label=key)
    axes.set(xlabel="optimizer steps", ylabel=unit)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    if unit == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid()
    axes.legend()


def _draw_confusion(axes: Any, predictions: Predictions) -> None:
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    names = [printable(name)[:16] for name in predictions.label_names]
    is_named = len(names) <= MOST_NAMED
    counts = confusion_matrix(predictions.true, predictions.label, labels=predictions.label_names)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    display = ConfusionMatrixDisplay(shares, display_labels=names if is_named else None)
    look = {"cmap": "Blues", "colorbar": False, "im_kw": {"aspect": "auto"}, "text_kw": {"size": 9}}
    rotation = 45 if len(names) > 4 else 0
    display.plot(include_values=is_named, values_format=".1%", xticks_rotation=rotation, ax=axes, **look)
    axes.set(xlabel="predicted", ylabel="true")
    axes.locator_params(nbins=MOST_NAMED)
    for text, count in zip(display.text_.flat, counts.flat, strict=True) if is_named else ():
        text.set_text(f"{count:,}\n{text.get_text()}" if len(names) <= MOST_SHARES else f"{count:,}")


def _draw_reliability(axes: Any, bins: Sequence[Slice]) -> None:
    axes.axline((1, 1), slope=1, color="C2", linestyle="--")  # as sure as right
    _draw_accuracies(axes, [one.confidence for one in bins], bins, "o-")
    axes.set(xlabel="confidence", xlim=(bins[0].confidence - 0.02, 1.02), ylim=(-0.02, 1.02))
    axes.xaxis.set_major_formatter(PercentFormatter(1))


def _draw_confidence(axes: Any, predictions: Predictions) -> None:
    scores, right = np.array(predictions.score), np.array(predictions.right, dtype=bool)
    parts = {"right": scores[right], "wrong": scores[~right]} if predictions.true else {"texts": scores}
    labels = [f"{name} ({len(values):,})" for name, values in parts.items()]
    look = {"hatch": ["", "///"][: len(parts)], "edgecolor": axes.get_facecolor()}
    axes.hist(list(parts.values()), np.linspace(0, 1, BINS + 1), stacked=True, label=labels, **look)
    axes.set(xlabel="confidence", ylabel="texts", xlim=(scores.min() - 1 / BINS, 1.01))
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)  # above the bars
    axes.xaxis.set_major_formatter(PercentFormatter(1))


def _draw_slices(axes: Any, slices: Sequence[Slice]) -> None:
    overall = np.average([one.accuracy for one in slices], weights=[one.n for one in slices])
    axes.axhline(overall, color="C2", linestyle="--")
    _draw_accuracies(axes, range(len(slices)), slices, "o")
    axes.set_xticks(range(len(slices)), [f"{one.name}\nn = {one.n:,}" for one in slices], size=8)
    axes.set_xlim(-0.6, len(slices) - 0.4)


def _draw_accuracies(axes: Any, x: Sequence[float], slices: Sequence[Slice], form: str) -> None:
    accuracies, ends = np.array([one.accuracy for one in slices]), np.array([one.interval for one in slices]).T
    axes.errorbar(x, accuracies, abs(ends - accuracies), fmt=form)  # rounding may put an end beyond the accuracy
    axes.set_ylabel("accuracy, with 95% intervals")
    axes.grid(axis="y")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
