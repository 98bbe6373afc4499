"""Predictions of many texts: a stream, one line in and one line out, or a split, saved as lines of JSON.

A line holds text, text_pair, label and score. For a stream it adds the scores of all classes (`Prediction.as_json`);
for a split it adds the true label and the number of tokens that the tokenizer does not know.
"""

import csv
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, TextIO

from src.data.readers import DELIMITED, read_table, text_lines
from src.data.sources import Corpus, TextSplit, open_corpus
from src.data.tokenizer import special_token_ids
from src.evaluation.predictor import Prediction, Predictor
from src.interop.huggingface import Classifier
from src.utils.config import SINGLE_LABEL, DataConfig, EvaluatedData, TrainConfig
from src.utils.distributed import all_gather_object, is_main_process, rank, world_size
from src.utils.errors import DataError, UsageError
from src.utils.files import read_json
from src.utils.runs import RUN, config_of, whole_run

logger = logging.getLogger(__name__)

LINES_AT_ONCE = 8192  # enough to find many of equal length, few enough to hold in memory
FIRST_LINES = 256  # then doubled each time, so that a progress bar soon moves
REMARKS_OF_A_KIND = 10  # a million would hide what matters

FORMULA = re.compile(r"[=@]|[+-](?!\d*\.?\d+(e[+-]?\d+)?\Z)", re.IGNORECASE)  # signed numbers are none
REMEDY = "name a file that a report or python -m src.inference --json wrote"
KINDS = {"text": str, "text_pair": str, "label": str, "score": int | float, "true": str, "unknown": int}


def read_lines(path: Path) -> Iterator[str]:
    """Reads texts, one a line, from a UTF-8 file; - is standard input."""
    return (line.removesuffix("\n").removesuffix("\r") for line in text_lines(path))


def predict_all(predictor: Predictor, texts: Iterable[Any], in_pairs: bool = False) -> Iterator[Prediction]:
    """Classifies any number of texts, or tuples of one or two, in constant memory, and logs their remarks.

    With `in_pairs` a tab splits each text into two. Under `torchrun` each of n processes classifies every n-th chunk;
    the main one yields all predictions, in order.
    """
    rows = _in_two(texts) if in_pairs else ((text,) if isinstance(text, str) else text for text in texts)
    size = FIRST_LINES
    remarks, numbers = Counter[str](), count(1)
    try:
        while any(chunks := [list(islice(rows, min(size, LINES_AT_ONCE))) for _ in range(world_size())]):
            size *= 2
            columns = zip(*chunks[rank()], strict=True)  # texts, and in pairs the second ones
            shares = all_gather_object(predictor.predict(*columns) if chunks[rank()] else [])
            for prediction, number in zip(chain(*shares) if is_main_process() else (), numbers, strict=False):
                if remark := prediction.remark:
                    remarks[remark] += 1
                    if remarks[remark] <= REMARKS_OF_A_KIND:
                        logger.warning(f"text {number}: {remark}")
                yield prediction
    finally:
        for remark, times in remarks.items():
            if times > REMARKS_OF_A_KIND:
                logger.warning(f"{times - REMARKS_OF_A_KIND:,} more: {remark}")


def _in_two(texts: Iterable[Any]) -> Iterator[tuple[str, ...]]:
    """Splits texts at their tab; blank ones stay blank."""
    for number, text in enumerate(texts, start=1):
        both = tuple(text.split("\t")) if text.strip() else (text, "")
        if len(both) != 2:
            raise DataError(f"text {number}: {len(both) - 1} tabs; write two texts with one tab between them")
        yield both


def write_table(
    stream: TextIO, suffix: str, rows: list[dict[str, Any]], answers: Iterable[Prediction], scored: Sequence[str] = ()
) -> None:
    """Writes rows with label and score, and the scores of the `scored` classes, as .csv, .tsv, or else lines of JSON.

    In CSV and TSV an apostrophe keeps a spreadsheet from computing a text that begins like a formula.
    """
    added = ["predicted_label", "predicted_score", *(f"score_{name}" for name in scored)]
    columns = list(dict.fromkeys(chain.from_iterable(rows)))
    if taken := set(added) & set(columns):
        raise DataError(f"the table has a column {min(taken)} already; rename it")
    writer = csv.writer(stream, "excel-tab" if suffix == ".tsv" else "excel", lineterminator="\n")
    if suffix in DELIMITED and is_main_process():
        writer.writerow(map(_as_text, [*columns, *added]))
    for one, cells in zip(answers, rows, strict=False):  # only the main process has answers
        scores = [one.score, *(one.scores.get(name) for name in scored)]
        label = one.label if one.labels is None else list(one.labels)
        answer = [label, *(None if score is None else round(score, 6) for score in scores)]
        if suffix in DELIMITED:
            writer.writerow(map(_as_text, [*map(cells.get, columns), *answer]))
        else:
            stream.write(json.dumps(cells | dict(zip(added, answer, strict=True)), default=str) + "\n")


def _as_text(cell: object) -> object:
    if isinstance(cell, str):
        return f"'{cell}" if FORMULA.match(cell) else cell
    return json.dumps(cell) if isinstance(cell, dict | list) else cell


def open_split(folder: Path, config: EvaluatedData, classifier: Classifier, allow_unlabelled: bool = False) -> Corpus:
    """Opens the split to evaluate a model on: of --dataset, else of the data that the model was trained on.

    Validation rows drawn from the training rows are drawn again, by the same seed; DataError if they are others.
    """
    names, problem_type = classifier.label_names, classifier.model.config.problem_type
    if problem_type != "multi_label_classification" and (len(names) == 1) == (problem_type in SINGLE_LABEL):
        what = f"{folder} gives {len(names)} numbers per text, but its problem_type is {problem_type}"
        raise UsageError(f"{what}, so it cannot be evaluated; classify texts, or correct its config.json")
    if config.dataset is not None or not (folder / RUN).exists():
        data = DataConfig(dataset=config.dataset, **config.table_options)
        return open_corpus(data, (config.split,), names, 0, allow_unlabelled, problem_type)
    trained = config_of(folder, TrainConfig())
    data = replace(trained.data, **config.table_options)
    if data.train_file is None and data.dataset is None:
        raise DataError(f"{folder} was trained on Python lists, which were not saved; name data with --dataset")
    drawn = bool(data.holdout) or (data.train_file is not None and data.validation_file is None)
    splits = ("train", "validation", config.split) if drawn else (config.split,)
    corpus = open_corpus(data, splits, names, trained.run.seed, allow_unlabelled, problem_type)
    with whole_run(folder):
        before = read_json(folder / RUN)["data"].get("validation_sha256")
    if before is not None and "validation" in splits and corpus.splits["validation"].sha256 != before:
        problem = f"{corpus.splits['validation'].origin} is not what it was when {folder} was trained"
        if drawn:
            raise DataError(f"{problem}, so the model may have seen it; restore it, or name other data with --dataset")
        logger.warning(problem)
    return corpus


@dataclass(frozen=True)
class Predictions:
    """The predictions for N texts, with the true labels where they are known, in the columns of `KINDS`."""

    text: list[str]
    text_pair: list[str] | None  # second texts, where two were compared
    label: list[str]  # predicted
    score: list[float]  # its probability
    true: list[str] | None
    unknown: list[int] | None  # unknown tokens of each text
    label_names: tuple[str, ...]
    origin: str

    @property
    def right(self) -> list[bool]:
        """Whether each prediction is right; empty if the true labels are not known."""
        return [] if self.true is None else [a == b for a, b in zip(self.true, self.label, strict=True)]


def predict_split(predictor: Predictor, split: TextSplit) -> Predictions:
    """Classifies the texts of a split; a label of -1 stands for none."""
    dataset = predictor.classifier.dataset(split.texts, split.labels, split.pairs)
    scores, predicted = predictor.logits(dataset).double().softmax(-1).max(-1)
    unk_id = special_token_ids(predictor.classifier.tokenizer).get("unk_token", -1)
    unknown = [0] * len(split.texts)
    for text, ids in zip(dataset.overflow_to_sample_mapping, dataset.input_ids, strict=True):
        unknown[text] += int((ids == unk_id).sum())
    names = predictor.classifier.label_names
    true = None if -1 in split.labels else [names[label] for label in split.labels]
    labels = [names[label] for label in predicted.tolist()]
    return Predictions(split.texts, split.pairs, labels, scores.tolist(), true, unknown, names, split.origin)


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Writes one line of JSON per prediction, for `read_predictions`."""
    columns = {key: column for key in KINDS if (column := getattr(predictions, key)) is not None}
    with path.open("w", encoding="utf-8") as stream:
        for row in zip(*columns.values(), strict=True):
            stream.write(json.dumps(dict(zip(columns, row, strict=True))) + "\n")


def read_predictions(path: Path) -> Predictions:
    """Reads a .jsonl file that a report or `python -m src.inference --json` wrote, and skips blank texts.

    Pairs, true labels and unknown tokens are kept only if every line has them.
    """
    rows = [row for row in read_table(path).rows if row.cells.get("label", "") is not None]
    if not rows:
        raise DataError(f"{path} holds no predictions; {REMEDY}")
    for place, cells in rows:
        values: dict[str, Any] = dict.fromkeys(("text", "label", "score")) | cells
        are_right = all(isinstance(values[key], kind) for key, kind in KINDS.items() if key in values)
        if not (are_right and 0 <= values["score"] <= 1):
            raise DataError(f"{place}: not a prediction: text and label are strings, score is in 0 to 1; {REMEDY}")
    columns = dict[str, Any]()
    for key in KINDS:
        columns[key] = [row.cells[key] for row in rows] if all(key in row.cells for row in rows) else None
    found = {*columns["label"], *(columns["true"] or ())}
    is_numbered = all(re.fullmatch(r"-?\d+", name) for name in found)
    names = tuple(sorted(found, key=int if is_numbered else None))
    return Predictions(**columns, label_names=names, origin=path.name)
