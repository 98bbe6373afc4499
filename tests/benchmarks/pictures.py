"""Draws the results: accuracies of all recipes, and learning curves of a pre-training.

Colours are told apart by colour-blind readers (Okabe & Ito 2008).
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
GREY, LINE, INK = "#5A5A5A", "#D0D0D0", "#1A1A1A"


def accuracy_picture(path: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Draws a row for each recipe of each table: every run a dot, the mean a bar, the standard deviation a line."""
    found = {title: list(dict.fromkeys(run["name"] for run in runs)) for title, runs in tables.items()}
    figure, parts = _parts({title.replace(" | ", ": "): len(names) for title, names in found.items()}, height=0.36)
    for axes, (title, names) in zip(parts, found.items(), strict=True):
        for y, name in enumerate(names):
            accuracies = [100 * run["accuracy"] for run in tables[title] if run["name"] == name]
            mean, spread = statistics.mean(accuracies), statistics.stdev(accuracies) if len(accuracies) > 1 else 0
            axes.plot(accuracies, [y] * len(accuracies), "o", color=BLUE, alpha=0.45, markersize=5)
            axes.errorbar(mean, y, xerr=spread, color=BLUE, fmt="|", markersize=13, markeredgewidth=2)
            axes.text(1.01, y, f"{mean:.1f} %", transform=axes.get_yaxis_transform(), va="center")
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
    parts[-1].set_xlabel("accuracy in %: each run a dot, the mean a bar, ± one standard deviation a line")
    figure.savefig(path, metadata={"Software": None})


def pretraining_picture(path: Path, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Draws the loss on held-out text over the steps, given metrics.jsonl of at most three pre-trainings."""
    figure, (axes,) = _parts({"": 1}, height=4.0)
    for (name, rows), color, mark in zip(runs.items(), (BLUE, VERMILLION, GREEN), "os^", strict=False):
        found = [row for row in rows if "validation/loss" in row]
        losses = [row["validation/loss"] for row in found]
        axes.plot([row["step"] for row in found], losses, f"{mark}-", color=color, markersize=4, label=name)
    axes.axhline(found[0]["validation/unigram_loss"], color=GREY, linestyle="--", label="token frequencies alone")
    axes.set(xlabel="optimizer steps", ylabel="cross-entropy of a masked token\nof held-out text, nats")
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Software": None})


def _parts(rows: Mapping[str, int], height: float) -> tuple[Figure, list[Any]]:
    """Makes a figure with a part for each title, whose height follows from its number of rows."""
    figure = Figure((9.6, 1.0 + sum(0.3 + height * count for count in rows.values())), layout="constrained")
    parts = figure.subplots(len(rows), sharex=True, squeeze=False, height_ratios=list(rows.values()))[:, 0]
    for axes, title in zip(parts, rows, strict=True):
        axes.set_title(title, loc="left", weight="bold", size=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=LINE, axis="x")
        axes.set_axisbelow(True)
    return figure, list(parts)
