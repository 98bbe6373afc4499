"""A model's answers as charts: what it takes for what, how sure it is, and which texts it finds hard."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from src.evaluation.answers import Answers
from src.evaluation.calibration import BINS, Bin, expected_calibration_error, reliability
from src.evaluation.charts import Chart, Theme
from src.evaluation.examples import fit_cells
from src.evaluation.groups import Group, by_length, by_negation, by_unknown_words
from src.evaluation.page import drawable

MOST_NAMED, MOST_SHARES = 12, 6  # classes up to which a confusion matrix has room for names and counts, and for shares
LONGEST_NAME = 16
DEEPEST = 0.55  # of the full colour: letters stay legible on it


def answer_charts(answers: Answers) -> list[Chart]:
    """Charts answers; without true labels, how sure they are and no more."""
    if answers.true is None:
        return [_score_chart(answers)]
    return [
        _confusion_chart(answers),
        _reliability_chart(answers),
        _score_chart(answers),
        _length_chart(answers),
        _words_chart(answers),
    ]


def confusion(answers: Answers) -> Any:
    """Counts the answers: rows true, columns predicted, both in the order of the label names."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(answers.true, answers.predicted, labels=range(len(answers.label_names)))


def _confusion_chart(answers: Answers) -> Chart:
    named = len(answers.label_names) <= MOST_NAMED
    what = "Counts, shaded by" if named else "Classes by the numbers of the table below, shaded by"
    caption = f"{what} the share of the true class."
    names = [drawable(fit_cells(name, LONGEST_NAME)) for name in answers.label_names]
    return Chart(
        "confusion", "Confusion matrix", caption, partial(_draw_confusion, counts=confusion(answers), names=names)
    )


def _draw_confusion(axes: Any, theme: Theme, counts: Any, names: Sequence[str]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    shades = LinearSegmentedColormap.from_list("shares", [theme.paper, theme.right])
    has_letters = len(names) <= MOST_NAMED
    axes.imshow(shares, cmap=shades, vmin=0, vmax=1 / DEEPEST if has_letters else shares.max(), aspect="auto")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.spines[:].set_visible(True)
    if not has_letters:
        return
    crowded = len(names) > 4
    axes.set_xticks(range(len(names)), names, rotation=45 if crowded else 0, ha="right" if crowded else "center")
    axes.set_yticks(range(len(names)), names)
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        text = f"{count:,}\n{100 * share:.1f} %" if len(names) <= MOST_SHARES else f"{count:,}"
        axes.text(column, row, text, ha="center", va="center", size=12 if len(names) <= 3 else 8)


def _reliability_chart(answers: Answers) -> Chart:
    bins = reliability(answers.scores, answers.right)
    sure, right = np.mean(answers.scores), np.mean(answers.right)
    error = f"{100 * expected_calibration_error(bins):.1f} points"
    caption = (
        f"Expected calibration error {error}, in {BINS} bins of equal width: on average the model is "
        f"{100 * sure:.1f} % sure, and right in {100 * right:.1f} %. Lines are 95 % intervals."
    )
    return Chart(
        "reliability", f"Reliability: calibration error {error}", caption, partial(_draw_reliability, bins=bins)
    )


def _draw_reliability(axes: Any, theme: Theme, bins: Sequence[Bin]) -> None:
    start = 100 * bins[0].low
    axes.plot([start, 100], [start, 100], color=theme.grey, linestyle="--", label="as sure as right")
    sure, right = [100 * one.confidence for one in bins], [100 * one.accuracy for one in bins]
    axes.errorbar(sure, right, _whiskers(bins), color=theme.right, fmt="o-", elinewidth=1.5, label="this model")
    axes.set_xlabel("confidence: probability of the predicted label, in %")
    axes.set_ylabel("accuracy in %")
    axes.set_xlim(start, 101)
    axes.set_ylim(0, 122)  # room for the legend
    axes.set_yticks(range(0, 101, 20))
    axes.grid()
    axes.legend(loc="upper left", ncols=2)


def _score_chart(answers: Answers) -> Chart:
    scores = 100 * np.array(answers.scores)
    if answers.true is None:
        caption = f"How sure the model is of {len(scores):,} answers; their true labels are not known."
        return Chart("scores", "Confidence", caption, partial(_draw_scores, parts={"answers": scores}))
    right = np.array(answers.right)
    caption = "How sure the model is where it is right, and where it is wrong."
    if right.any() and not right.all():
        caption = (
            f"Where it is right, the model is {scores[right].mean():.1f} % sure on average, "
            f"and {scores[~right].mean():.1f} % where it is wrong."
        )
    parts = {"right": scores[right], "wrong": scores[~right]}
    return Chart("scores", "Confidence", caption, partial(_draw_scores, parts=parts))


def _draw_scores(axes: Any, theme: Theme, parts: dict[str, Any]) -> None:
    edges = np.linspace(0, 100, BINS + 1)
    lowest = min(values.min() for values in parts.values() if len(values))
    edges = edges[np.searchsorted(edges, lowest, side="right") - 1 :] if lowest < 100 else edges[-2:]
    colors, hatches = [theme.right, theme.wrong], ["", "///"]
    for number, (name, values) in enumerate(parts.items()):
        below = np.histogram(np.concatenate([[], *list(parts.values())[:number]]), edges)[0]
        counts = np.histogram(values, edges)[0]
        look = {"color": colors[number], "edgecolor": theme.paper, "hatch": hatches[number], "linewidth": 0.5}
        axes.bar(edges[:-1], counts, np.diff(edges), below, align="edge", label=f"{name} ({len(values):,})", **look)
    axes.set_xlabel("confidence: probability of the predicted label, in %")
    axes.set_ylabel("texts")
    axes.set_xlim(edges[0], 101)
    axes.margins(y=0.2)  # room for the legend
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y")
    axes.legend(loc="upper left", ncols=2)


def _length_chart(answers: Answers) -> Chart:
    caption = "Texts in groups of about equal size, by their words. Lines are 95 % intervals, dashed is the whole."
    return Chart("length", "Accuracy by length", caption, _groups(answers, by_length(answers), "words of the text"))


def _words_chart(answers: Answers) -> Chart:
    caption = "Negations are English ones (not, n't, never, ...). Lines are 95 % intervals, dashed is the whole."
    if answers.unknown is not None and not any(answers.unknown):
        caption += " No text holds a word that is unknown to the tokenizer."
    groups = [*by_negation(answers), *by_unknown_words(answers)]
    return Chart("words", "Accuracy by kind of words", caption, _groups(answers, groups, "what the text holds"))


def _groups(answers: Answers, groups: Sequence[Group], what: str) -> Callable[[Any, Theme], None]:
    return partial(_draw_groups, groups=groups, what=what, overall=100 * float(np.mean(answers.right)))


def _draw_groups(axes: Any, theme: Theme, groups: Sequence[Group], what: str, overall: float) -> None:
    accuracies = [100 * group.accuracy for group in groups]
    axes.axhline(overall, color=theme.grey, linestyle="--")
    axes.errorbar(range(len(groups)), accuracies, _whiskers(groups), color=theme.right, fmt="o", elinewidth=1.5)
    axes.set_xticks(range(len(groups)), [f"{group.name}\nn = {group.n:,}" for group in groups])
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_xlabel(f"{what}, and number of texts")
    axes.set_ylabel("accuracy in %")
    axes.grid(axis="y")


def _whiskers(parts: Sequence[Bin] | Sequence[Group]) -> Any:
    """Gives the distances from each accuracy to both ends of its interval, in %: shape (2, N)."""
    ends = np.array([part.interval for part in parts]).T  # (2, N)
    accuracies = np.array([part.accuracy for part in parts])
    # An interval ends at 1 but for rounding where all are right.
    return 100 * np.maximum(0, [accuracies - ends[0], ends[1] - accuracies])
