"""Predictions drawn by chance, and a few written down by hand; a strict reader of HTML."""

import random
from dataclasses import replace
from html.parser import HTMLParser

from src.evaluation.predictions import Predictions

FEW = Predictions(
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
UNLABELLED = replace(FEW, true=None)
IN_PAIRS = replace(FEW, pairs=["one", "it was not", "three", "two", "four"])
MALICIOUS = replace(FEW, texts=[HOSTILE] * 5, pairs=[HOSTILE] * 5, label_names=(HOSTILE, HOSTILE + "2"), origin=HOSTILE)


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
    return Predictions(texts, None, predicted, scores, true, unknown, names, "drawn")


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
