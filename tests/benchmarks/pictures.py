"""Draws the results: accuracies of all recipes, learning curves of a pre-training, and speed beside peers.

Colours are told apart by colour-blind readers (Okabe & Ito 2008).
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DPI = 100
BLUE, SKY, VERMILLION, GREEN = "#0072B2", "#56B4E9", "#D55E00", "#009E73"
GREY, LINE, INK = "#5A5A5A", "#D0D0D0", "#1A1A1A"
LONGEST_NAME = 52


def accuracy_picture(path: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Draws one row a recipe: every run a dot, the mean a bar, the standard deviation a line.

    Args:
        path: the PNG to write.
        tables: title to the runs in it, each with `name` and `accuracy`, a fraction.
    """
    figure, axes = _figure(9.6, 1.1 + 0.34 * sum(1 + len(_names(runs)) for runs in tables.values()))
    y, places, labels = 0.0, [], []
    for title, runs in tables.items():
        axes.text(0.0, y, title.replace(" | ", ": "), transform=axes.get_yaxis_transform(), weight="bold", va="center")
        for name in _names(runs):
            y += 1
            found = [100 * run["accuracy"] for run in runs if run["name"] == name]
            mean = statistics.mean(found)
            axes.plot(found, [y] * len(found), "o", color=BLUE, alpha=0.45, markersize=5, markeredgewidth=0)
            if len(found) > 1:
                spread = statistics.stdev(found)
                axes.plot([mean - spread, mean + spread], [y, y], color=BLUE, linewidth=1.5)
            axes.plot([mean], [y], "|", color=INK, markersize=13, markeredgewidth=2)
            axes.text(1.01, y, f"{mean:.1f} %", transform=axes.get_yaxis_transform(), va="center", color=INK)
            places.append(y)
            labels.append(name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…")
        y += 1.2
    axes.set_yticks(places, labels)
    axes.set_ylim(y - 0.6, -0.8)
    axes.set_xlabel("accuracy in %: each run a dot, the mean a bar, ± one standard deviation a line")
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    _save(figure, path)


def pretraining_picture(path: Path, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Draws the loss on held-out text over the steps of pre-trainings, beside what frequencies alone would reach.

    Args:
        path: the PNG to write.
        runs: name to the rows of metrics.jsonl, at most three.
    """
    figure, axes = _figure(9.6, 4.6)
    found = {name: [row for row in rows if "validation/loss" in row] for name, rows in runs.items()}
    for (name, rows), color, mark in zip(found.items(), (BLUE, VERMILLION, GREEN), "os^", strict=False):
        steps, losses = [row["step"] for row in rows], [row["validation/loss"] for row in rows]
        axes.plot(steps, losses, f"{mark}-", color=color, markersize=4, label=name)
    unigram = next(iter(found.values()))[0]["validation/unigram_loss"]
    axes.axhline(unigram, color=GREY, linestyle="--", label="frequencies of the tokens alone")
    axes.set_xlabel("optimiser steps")
    axes.set_ylabel("cross-entropy of a masked token\nof held-out text, nats")
    axes.grid(color=LINE, linewidth=0.8)
    axes.legend(frameon=False)
    _save(figure, path)


def speed_picture(
    path: Path, comparisons: Mapping[str, Mapping[str, Mapping[str, tuple[float, float, float]]]]
) -> None:
    """Draws how many times as fast as each peer this project is, a bar for each machine.

    Args:
        path: the PNG to write.
        comparisons: title to machines, at most four, to peers, each with the ratio, and the smallest and largest one of
            a round.
    """
    found = dict.fromkeys(machine for machines in comparisons.values() for machine in machines)
    colors = dict(zip(found, (BLUE, SKY, GREEN, GREY), strict=False))
    height = sum(1 + len(colors) * len(_peers(machines)) for machines in comparisons.values())
    figure, axes = _figure(9.6, 1.1 + 0.33 * height)
    y, places, labels = 0.0, [], []
    for title, machines in comparisons.items():
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        axes.text(0.0, y, title, transform=axes.get_yaxis_transform(), weight="bold", va="center", bbox=behind)
        for name in _peers(machines):
            first = y + 1
            for machine, peers in machines.items():
                y += 1
                if name in peers:
                    ratio, low, high = peers[name]
                    axes.barh(y, ratio, height=0.8, color=colors[machine])
                    axes.plot([low, high], [y, y], color=INK, linewidth=1.5)
                    axes.text(max(ratio, high), y, f"  {ratio:.2f}x", va="center", color=INK)
            places.append((first + y) / 2)
            labels.append(name)
            y += 0.4
        y += 1.2
    axes.axvline(1, color=VERMILLION, linestyle="--")
    axes.set_yticks(places, labels)
    axes.set_ylim(y - 0.6, -0.8)
    axes.set_xlabel("times as many real tokens a second as the peer; lines: range over rounds")
    axes.margins(x=0.1)
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    for machine, color in colors.items():
        axes.barh(0, 0, color=color, label=machine)
    figure.legend(frameon=False, loc="outside upper right")
    _save(figure, path)


def _peers(machines: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for peers in machines.values() for name in peers))


def _names(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(run["name"] for run in runs))


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    # The version that matplotlib would add makes equal pictures differ.
    figure.savefig(path, metadata={"Software": None})
