"""A model's predictions on a split, text by text: computed once, kept as lines of JSON, and read again.

A line is one of `python -m src.inference --json` (text, text_pair, label, score), and says besides which label is true
and how many tokens of the text the tokenizer does not know.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from src.data.sources import TextSplit
from src.data.tokenizer import special_token_ids
from src.evaluation.predictor import Predictor
from src.utils.errors import DataError

REMEDY = "name a file that a report or python -m src.inference --json wrote"


@dataclass(frozen=True)
class Predictions:
    """What a model says about N texts, and what is true of them where that is known."""

    texts: list[str]
    pairs: list[str] | None  # second texts, where two were compared
    predicted: list[int]  # indices into label_names
    scores: list[float]  # probability of the predicted label
    true: list[int] | None
    unknown: list[int] | None  # unknown tokens of each text
    label_names: tuple[str, ...]
    origin: str

    @property
    def right(self) -> list[bool]:
        """Whether each prediction is the true one; empty where the truth is not known."""
        return [
            true == predicted for true, predicted in zip(self.true or [], self.predicted, strict=self.true is not None)
        ]


def predict_split(predictor: Predictor, split: TextSplit) -> Predictions:
    """Classifies the texts of a split.

    Args:
        predictor: the model.
        split: the texts; their labels are -1 where there are none.

    Returns:
        The predictions, in order.
    """
    dataset = predictor.dataset(split.texts, split.labels, split.pairs)
    scores, predicted = predictor.logits(dataset).double().softmax(-1).max(-1)
    unk_id = special_token_ids(predictor.classifier.tokenizer).get("unk_token")
    unknown = torch.zeros(len(split.texts), dtype=torch.long)
    for text, ids in zip(dataset.overflow_to_sample_mapping, dataset.input_ids, strict=True):
        unknown[text] += int((ids == unk_id).sum()) if unk_id is not None else 0
    return Predictions(
        split.texts,
        split.pairs,
        predicted.tolist(),
        scores.tolist(),
        None if -1 in split.labels else split.labels,
        unknown.tolist(),
        predictor.classifier.label_names,
        split.origin,
    )


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Writes one line of JSON a prediction, as `read_predictions` reads them.

    Raises:
        OSError: the file cannot be written.
    """
    names = predictions.label_names
    with path.open("w", encoding="utf-8") as stream:
        for row, text in enumerate(predictions.texts):
            line: dict[str, Any] = {"text": text}
            line |= {} if predictions.pairs is None else {"text_pair": predictions.pairs[row]}
            line |= {"label": names[predictions.predicted[row]], "score": predictions.scores[row]}
            line |= {} if predictions.true is None else {"true": names[predictions.true[row]]}
            line |= {} if predictions.unknown is None else {"unknown": predictions.unknown[row]}
            stream.write(json.dumps(line) + "\n")


def read_predictions(path: Path) -> Predictions:
    """Reads what a report or `python -m src.inference --json` wrote, without blank texts, which have no prediction.

    Args:
        path: lines of JSON.

    Returns:
        The predictions; truth and unknown tokens only where every line tells them.

    Raises:
        DataError: the file cannot be read, holds no predictions, or a line is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n") if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--predictions {path} cannot be read ({error}); {REMEDY}") from None
    if lines is None:
        raise DataError(f"--predictions {path} is no file; {REMEDY}")
    rows = [row for number, line in enumerate(lines, start=1) if (row := _row(line, f"{path}:{number}"))["label"]]
    if not rows:
        raise DataError(f"--predictions {path} holds no predictions; {REMEDY}")
    names = _names(rows)
    labels = {key: [names.index(row[key]) for row in rows] for key in ("label", "true") if _all_have(rows, key)}
    return Predictions(
        [row["text"] for row in rows],
        [row["text_pair"] for row in rows] if _all_have(rows, "text_pair") else None,
        labels["label"],
        [float(row["score"]) for row in rows],
        labels.get("true"),
        [row["unknown"] for row in rows] if _all_have(rows, "unknown") else None,
        names,
        path.name,
    )


def _row(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or "label" not in row:
        raise DataError(f"{place}: no prediction in JSON; {REMEDY}")
    if row["label"] is None:
        return row
    score, unknown = row.get("score"), row.get("unknown", 0)
    texts = [row.get("text"), row["label"], *(row[key] for key in ("text_pair", "true") if key in row)]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"{place}: text, text_pair, label and true have to be strings; {REMEDY}")
    if not isinstance(score, int | float) or not 0 <= score <= 1:
        raise DataError(f"{place}: score = {score} is no probability; {REMEDY}")
    if not isinstance(unknown, int) or unknown < 0:
        raise DataError(f"{place}: unknown = {unknown} is no number of tokens; {REMEDY}")
    return row


def _all_have(rows: Sequence[dict[str, Any]], key: str) -> bool:
    return all(key in row for row in rows)


def _names(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    found = {row[key] for row in rows for key in ("label", "true") if key in row}
    numbers = all(re.fullmatch(r"-?\d+", name) for name in found)
    return tuple(sorted(found, key=int if numbers else None))
