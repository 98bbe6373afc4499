"""Examples of predictions, drawn by chance and never chosen, and text in columns of a console."""

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from src.utils.errors import printable


@dataclass(frozen=True)
class Example:
    """A text, its true label, the label the model gave it, and the probability it gave that label."""

    text: str
    label: str
    predicted: str
    score: float


def draw_examples(
    texts: Sequence[str], labels: Sequence[int], logits: Tensor, label_names: Sequence[str], count: int, seed: int
) -> list[Example]:
    """Draws `count` examples, or all if there are fewer, from N texts with their labels and logits (N, C)."""
    chosen = random.Random(seed).sample(range(len(texts)), min(count, len(texts)))
    scores, predicted = logits[chosen].detach().float().softmax(dim=-1).max(dim=-1)
    return [
        Example(texts[index], label_names[labels[index]], label_names[guess], score)
        for index, guess, score in zip(chosen, predicted.tolist(), scores.tolist(), strict=True)
    ]


def examples_table(examples: Sequence[Example], width: int) -> str:
    """Formats a line for each example, `width` columns wide at most; a wrong prediction is marked with a cross."""
    rows = [(" ", "true", "predicted", "confidence", "text")]
    rows += [
        ("x" if e.label != e.predicted else " ", e.label, e.predicted, f"{100 * e.score:.1f} %", e.text)
        for e in examples
    ]
    true, predicted = (max(cell_width(fit_cells(row[column], 16)) for row in rows) for column in (1, 2))
    room = max(10, width - true - predicted - len("x " + "confidence") - 3 * 2)
    return "\n".join(
        f"{mark} {pad_cells(label, true)}  {pad_cells(guess, predicted)}  {score:>10}  {fit_cells(text, room)}".rstrip()
        for mark, label, guess, score, text in rows
    )


def cell_width(text: str) -> int:
    """Counts the columns that text takes on a console: two for East Asian wide characters, none for combining ones."""
    columns = {"Mn": 0, "Me": 0}
    return sum(columns.get(unicodedata.category(c), 1 + (unicodedata.east_asian_width(c) in "WF")) for c in text)


def fit_cells(text: str, width: int) -> str:
    """Makes text printable and cuts it to at least three columns; what was cut ends in "..."."""
    text = printable(text)
    if cell_width(text) <= width:
        return text
    while cell_width(text) > width - len("..."):
        text = text[: min(len(text) - 1, width)]
    return text + "..."


def pad_cells(text: str, width: int, right: bool = False) -> str:
    """Fits text to exactly so many console columns, set against the left edge or the right one."""
    text = fit_cells(text, width)
    spaces = " " * (width - cell_width(text))
    return spaces + text if right else text + spaces
