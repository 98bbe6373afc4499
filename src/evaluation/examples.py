"""Examples of a model's answers, drawn by chance and never chosen, and a table of them for the console."""

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import torch
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
    texts: Sequence[str],
    labels: Sequence[int] | Tensor,
    logits: Tensor,
    label_names: Sequence[str],
    count: int,
    seed: int,
) -> list[Example]:
    """Draws examples uniformly at random, without looking at what the model answered.

    Args:
        texts: N texts.
        labels: their true classes in 0..C-1.
        logits: of shape (N, C).
        label_names: C names, in the order of the logits.
        count: how many to draw; all of them where there are fewer.
        seed: of the draw; the same seed gives the same examples for every model.

    Returns:
        The examples in the order they were drawn.
    """
    chosen = random.Random(seed).sample(range(len(texts)), min(count, len(texts)))
    scores, predicted = logits[chosen].detach().float().softmax(dim=-1).max(dim=-1)
    truth = torch.as_tensor(labels)[chosen]
    return [
        Example(texts[index], label_names[true], label_names[guess], score)
        for index, true, guess, score in zip(chosen, truth.tolist(), predicted.tolist(), scores.tolist(), strict=True)
    ]


def examples_table(examples: Sequence[Example], width: int) -> str:
    """Formats examples for a console, one a line, a wrong answer marked with a cross.

    Args:
        examples: what to show.
        width: columns of the console; texts are cut to it, but keep at least ten columns.

    Returns:
        A header and a line for each example: true label, predicted label, confidence, text.
    """
    rows = [("true", "predicted", "confidence", "text")]
    rows += [(e.label, e.predicted, f"{100 * e.score:.1f} %", e.text) for e in examples]
    true, predicted = (max(cell_width(fit_cells(row[column], 16)) for row in rows) for column in (0, 1))
    room = max(10, width - true - predicted - len("x " + "confidence") - 3 * 2)
    marks = [" ", *("x" if e.label != e.predicted else " " for e in examples)]
    lines = [
        f"{mark} {pad_cells(row[0], true)}  {pad_cells(row[1], predicted)}  {row[2]:>10}  {fit_cells(row[3], room)}"
        for mark, row in zip(marks, rows, strict=True)
    ]
    return "\n".join(line.rstrip() for line in lines)


def cell_width(text: str) -> int:
    """Counts the columns that printable text takes on a console: two for East Asian wide, none for combining ones."""
    return sum(_columns(character) for character in text)


def fit_cells(text: str, width: int) -> str:
    """Escapes text and cuts it to a number of console columns.

    Args:
        text: any string.
        width: columns; at least 3.

    Returns:
        The printable text, ending in "..." where something was cut off.
    """
    text = printable(text)
    if cell_width(text) <= width:
        return text
    kept, room = "", width - len("...")
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        kept += character
    return kept + "..."


def pad_cells(text: str, width: int, right: bool = False) -> str:
    """Fits text to exactly so many console columns, set against the left edge or the right one."""
    text = fit_cells(text, width)
    spaces = " " * (width - cell_width(text))
    return spaces + text if right else text + spaces


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
