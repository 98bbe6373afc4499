"""Lines of a megabyte, of whatever kind, are read as far as the model reads."""

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


def test_a_line_of_a_megabyte_is_predicted() -> None:
    lines = [piece * (10**6 // len(piece)) for piece in PIECES.values()]
    predictions = Predictor.load(SHIPPED_CHECKPOINT, "cpu").predict(lines)
    assert all(prediction.truncated and prediction.label is not None for prediction in predictions)
