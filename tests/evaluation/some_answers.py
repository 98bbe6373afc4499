"""Answers drawn by chance, and a few written down by hand; the pixels of a picture."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from src.evaluation.answers import Answers

FEW = Answers(
    texts=["not good", "a fine film", "it is n't dull", "nothing", "well"],
    pairs=None,
    predicted=[0, 1, 0, 0, 1],
    scores=[0.62, 0.98, 0.91, 0.55, 0.97],
    true=[0, 1, 1, 0, 0],
    unknown=[0, 1, 2, 0, 0],
    label_names=("bad", "good"),
    origin="made up",
)
HOSTILE = "<script>alert('$x_1$')</script>\" onerror=\"x\x1b[2J\u202e\ud800&amp;"


def drawn(n: int = 500, classes: int = 3, seed: int = 0) -> Answers:
    """Right more often the surer the answer is, but not as often as it is sure."""
    draw = random.Random(seed)
    scores = [draw.uniform(1 / classes, 1) for _ in range(n)]
    true = [draw.randrange(classes) for _ in range(n)]
    predicted = [
        label if draw.random() < score**2 else (label + draw.randrange(1, classes)) % classes
        for label, score in zip(true, scores, strict=True)
    ]
    texts = [" ".join(draw.choices(("not", "a", "fine", "film"), k=draw.randint(1, 30))) for _ in range(n)]
    unknown = [draw.randrange(3) for _ in range(n)]
    names = tuple(f"class {number}" for number in range(classes))
    return Answers(texts, None, predicted, scores, true, unknown, names, "drawn")


def unlabelled() -> Answers:
    return replace(FEW, true=None)


def in_pairs() -> Answers:
    return replace(FEW, pairs=["one", "it was not", "three", "two", "four"])


def hostile() -> Answers:
    return replace(FEW, texts=[HOSTILE] * 5, pairs=[HOSTILE] * 5, label_names=(HOSTILE, HOSTILE + "2"), origin=HOSTILE)


def pixels_of(path: Path) -> np.ndarray[Any, Any]:
    """The pixels of a picture, (height, width, RGBA)."""
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGBA"))
