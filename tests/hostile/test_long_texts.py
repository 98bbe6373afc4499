"""Lines of megabytes, of whatever kind, are read as far as the model reads."""

import resource

import pytest

from src.evaluation.predictor import Predictor
from src.utils.config import SHIPPED_CHECKPOINT

PIECES = {
    "dots": ".",
    "one word": "a",
    "words": "good ",
    "emoji": "\U0001f600",
    "joined emoji": "\U0001f468\u200d\U0001f469",
    "accents": "e\u0301",
    "control characters": "\x01",
    "right to left": "\u202e\u0641",
    "quotes": '"',
    "Treebank": "-lrb- n't ",
    "line breaks of HTML": "<br /> ",
    "special tokens": "[SEP]",
}


def lines(megabytes: int) -> list[str]:
    return [piece * (megabytes * 10**6 // len(piece)) for piece in PIECES.values()]


def test_a_line_of_a_megabyte_is_predicted() -> None:
    predictions = Predictor.load(SHIPPED_CHECKPOINT, "cpu").predict(lines(1))
    assert all(prediction.truncated and prediction.label is not None for prediction in predictions)


@pytest.mark.deep
def test_lines_of_ten_megabytes_take_little_memory() -> None:
    # Peak memory grows by some 200 MB for the lines themselves; tokenized whole, each would take gigabytes.
    texts = lines(10)
    predictor = Predictor.load(SHIPPED_CHECKPOINT, "cpu")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert all(prediction.truncated for prediction in predictor.predict(texts))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_500_000  # kilobytes
