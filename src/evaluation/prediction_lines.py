"""Classifies lines of text in a stream: one line in, one line out, in constant memory."""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from src.evaluation.examples import printable
from src.evaluation.predictor import Prediction, Predictor
from src.utils.errors import DataError, notice

# Enough lines to find many of equal length, few enough to hold in memory.
LINES_AT_ONCE = 8192


def read_lines(path: Path) -> Iterator[str]:
    """Reads texts, one a line.

    Args:
        path: a UTF-8 file; - is standard input.

    Yields:
        The lines without their line ends; a blank line is a text as well.

    Raises:
        DataError: no such file, or a line is not UTF-8.
    """
    try:
        stream = sys.stdin.buffer if str(path) == "-" else path.open("rb")
        with stream:
            for number, line in enumerate(stream, start=1):
                yield _decode(line, path, number)
    except OSError as error:
        raise DataError(f"--file {path} cannot be read ({error.strerror}); name a text file, one text a line") from None


def _decode(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise DataError(f"{path}:{number}: not UTF-8; save the file as UTF-8") from None


def predict_all(predictor: Predictor, texts: Iterable[str], in_pairs: bool = False) -> Iterator[Prediction]:
    """Classifies any number of texts, and tells on standard error what was odd about some.

    Args:
        predictor: the model.
        texts: any strings, in a stream.
        in_pairs: each text is two, separated by a tab.

    Yields:
        One prediction a text, in order.

    Raises:
        DataError: a text that should be two holds no tab, or more than one.
    """
    number, remaining = 0, iter(texts)
    while chunk := list(islice(remaining, LINES_AT_ONCE)):
        pairs = _divided(chunk, number) if in_pairs else None
        predictions = predictor.predict(chunk) if pairs is None else predictor.predict(*pairs)
        for prediction in predictions:
            number += 1
            if remark := _remark(prediction, predictor.classifier.seq_len):
                notice(f"text {number}: {remark}")
            yield prediction


def _divided(texts: list[str], before: int) -> tuple[list[str], list[str]]:
    """Divides texts at their tab; blank ones stay blank."""
    parts = [text.split("\t") if text.strip() else [text, ""] for text in texts]
    for number, both in enumerate(parts, start=before + 1):
        if len(both) != 2:
            raise DataError(f"text {number}: {len(both) - 1} tabs; write two texts with one tab between them")
    return [first for first, _ in parts], [second for _, second in parts]


def _remark(prediction: Prediction, seq_len: int) -> str | None:
    if prediction.label is None:
        return "blank, no label"
    if prediction.unknown:
        return "the model knows none of its words, the label is a guess"
    if prediction.truncated:
        return f"longer than {seq_len} tokens, not all of it was read"
    return None


def as_json(prediction: Prediction) -> str:
    """Formats a prediction as one line of JSON: text, its pair if there is one, label, score."""
    pair = {} if prediction.pair is None else {"text_pair": prediction.pair}
    return json.dumps({"text": prediction.text} | pair | {"label": prediction.label, "score": prediction.score})


def as_line(prediction: Prediction) -> str:
    """Formats a prediction for people: label, score and text(s) between tabs; control characters are escaped."""
    score = "" if prediction.score is None else f"{prediction.score:.4f}"
    pair = [] if prediction.pair is None else [printable(prediction.pair)]
    return "\t".join([prediction.label or "-", score, printable(prediction.text), *pair])
