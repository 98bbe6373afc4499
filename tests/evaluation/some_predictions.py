"""Predictions drawn by chance, and a few written down by hand; a strict reader of HTML."""

import random
from dataclasses import replace
from html.parser import HTMLParser

from src.evaluation.predictions import Predictions


def renamed(predictions: Predictions, *names: str) -> Predictions:
    """The same with other names of the classes."""
    new = dict(zip(predictions.label_names, names, strict=True))
    predicted, true = ([new[name] for name in column or ()] for column in (predictions.label, predictions.true))
    return replace(predictions, label=predicted, true=true, label_names=names)


FEW = Predictions(
    text=["not good", "a fine film", "it is n't dull", "nothing", "well"],
    text_pair=None,
    label=["bad", "good", "bad", "bad", "good"],
    score=[0.62, 0.98, 0.91, 0.55, 0.97],
    true=["bad", "good", "good", "bad", "bad"],
    unknown=[0, 1, 2, 0, 0],
    label_names=("bad", "good"),
    origin="made up",
)
HOSTILE = "<script>alert('$x_1$')</script>\" onerror=\"x\x1b[2J\u202e\ud800&amp;"
UNLABELLED = replace(FEW, true=None)
IN_PAIRS = replace(FEW, text_pair=["one", "it was not", "three", "two", "four"])
MALICIOUS = replace(renamed(FEW, HOSTILE, HOSTILE + "2"), text=[HOSTILE] * 5, text_pair=[HOSTILE] * 5, origin=HOSTILE)


def drawn(n: int = 500, classes: int = 3, seed: int = 0) -> Predictions:
    """Right more often the surer the prediction is, but not as often as it is sure."""
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
    labels, truth = ([names[label] for label in column] for column in (predicted, true))
    return Predictions(texts, None, labels, scores, truth, unknown, names, "drawn")


class Page(HTMLParser):
    """Reads a page strictly: what opens has to close, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self.open += [] if tag in ("meta", "img", "br", "source") else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style" and data.strip():
            self.text.append(data)

    def found(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]
