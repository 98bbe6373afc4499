"""Lines of a megabyte, of whatever kind, are read as far as the model reads."""

from src.evaluation.predictor import Predictor
from src.utils.config import SHIPPED_CHECKPOINT

WORDS = [".", "a", "good ", '"', "-lrb- n't ", "<br /> ", "[SEP]"]
SIGNS = ["\U0001f600", "\U0001f468\u200d\U0001f469", "e\u0301", "\x01", "\u202e\u0641"]


def test_a_line_of_a_megabyte_is_predicted() -> None:
    lines = [piece * (10**6 // len(piece)) for piece in WORDS + SIGNS]
    predictions = Predictor.load(SHIPPED_CHECKPOINT, "cpu").predict(lines)
    assert all(prediction.truncated and prediction.label is not None for prediction in predictions)
