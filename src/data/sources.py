"""Labelled text: hub ids, folders, files, Python lists and the bundled sample all become a `Corpus`."""

import hashlib
import json
import logging
import math
import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from src.data import hub, readers
from src.data.holdout import hold_out
from src.data.readers import LABEL_COLUMNS, Row, Table, choose_column, read_texts, text_cell
from src.utils.config import SAMPLE, SAMPLE_DIR, SENTIMENT_LABELS, SINGLE_LABEL, SST2, DataConfig, ProblemType
from src.utils.errors import DataError
from src.utils.files import absolute

logger = logging.getLogger(__name__)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
SENTIMENT_SPELLINGS = (("0", "1"), SENTIMENT_LABELS, ("neg", "pos"))
SENTIMENT = {name: index for spelling in SENTIMENT_SPELLINGS for index, name in enumerate(spelling)}
UNNAMED = {"label_0": 0, "label_1": 1}  # what transformers calls two unnamed classes; the data may name them


@dataclass(frozen=True)
class TextSplit:
    """Texts with their labels as indices into the corpus's `label_names`; -1 where a text has none.

    In regression a label is a number; in multi-label classification it is a tuple of 0.0 or 1.0 for each class.
    """

    texts: list[str]
    labels: list[Any]  # of int, or of float, or of tuples of C floats
    origin: str
    pairs: list[str] | None = None  # second texts, where the corpus compares two

    def select(self, rows: Sequence[int], origin: str) -> "TextSplit":
        """Returns the examples at `rows`, under another origin."""
        pairs = None if self.pairs is None else [self.pairs[row] for row in rows]
        return TextSplit([self.texts[row] for row in rows], [self.labels[row] for row in rows], origin, pairs)

    @property
    def sha256(self) -> str:
        """SHA-256 of the texts and labels, in order."""
        return hashlib.sha256(json.dumps((self.texts, self.labels, self.pairs)).encode()).hexdigest()

    def same_texts(self) -> list[str]:
        """Returns a key for each example; texts that differ only in case or blanks have the same key."""
        texts = self.texts if self.pairs is None else map("\t".join, zip(self.texts, self.pairs, strict=True))
        return list(map(_look, texts))


@dataclass(frozen=True)
class Corpus:
    """The splits that were asked for."""

    name: str
    label_names: tuple[str, ...]
    splits: dict[str, TextSplit]
    source: DataConfig  # reopens this corpus from any folder and in any environment
    is_fallback: bool = False  # the sample replaces SST-2, which could not be loaded
    problem_type: ProblemType | None = None  # None: single-label classification


def open_corpus(
    data: DataConfig,
    splits: Sequence[str] = ("train", "validation"),
    label_names: tuple[str, ...] | None = None,
    seed: int = 0,
    allow_unlabelled: bool = False,
    problem_type: ProblemType | None = None,
    tables: dict[str, Table] | None = None,
) -> Corpus:
    """Loads splits of the corpus that the configuration names, else of SST-2, else of the sample.

    Args:
        data: names the corpus, its columns, and the fraction to hold out.
        splits: what to load; where there is no validation split, "validation" is the test split.
        label_names: the classes of a trained model, which the corpus must use; None: the corpus sets them.
        seed: draws the validation rows of a single file, and the held-out phrases.
        allow_unlabelled: accept splits without labels.
        problem_type: what the labels are; None: inferred from them, or with `label_names` single-label classification.
        tables: one for each split, used instead of the data that `data` names.
    """
    wanted = ["train", *(split for split in splits if split not in ("train", "validation"))]
    name, source = "lists", data
    if tables is None:
        name, tables, source = _load(data, wanted if data.holdout else list(splits))
    names, found = label_names or (), {}
    for split in sorted(tables, key=lambda split: split != "train"):  # the training split sets the classes
        found[split], names, problem_type = _labelled(tables[split], data, names, allow_unlabelled, problem_type)
    if data.holdout or ("validation" not in found and (data.train_file is not None or "validation" in splits)):
        found |= _divide(found["train"], data.holdout, names, seed, problem_type)
    if missing := [split for split in splits if split not in found]:
        raise DataError(f"{name} has no split {missing[0]}; it has {', '.join(found)}: ask for one of these")
    if data.calibration and "train" in splits:
        parts = _divide(found["train"], data.calibration, names, seed, problem_type)
        found |= {"train": parts["train"], "calibration": parts["validation"]}
        splits = (*splits, "calibration")
    if "train" in splits and not allow_unlabelled and len(set(found["train"].labels)) == 1:
        raise DataError(f"{found['train'].origin}: all labels are the same; give rows of at least two classes")
    if "train" in splits and "validation" in splits:
        seen = set(found["train"].same_texts())
        if count := sum(key in seen for key in found["validation"].same_texts()):
            logger.info(f"overlap     {count:,} validation texts are in the training split, too")
    is_fallback = source.dataset == SAMPLE and data.dataset != SAMPLE
    return Corpus(name, names, {split: found[split] for split in splits}, source, is_fallback, problem_type)


def corpus_of_lists(
    texts: Iterable[str],
    labels: Iterable[Any],
    validation: tuple[Iterable[str], Iterable[Any]] | None = None,
    problem_type: ProblemType | None = None,
    seed: int = 0,
    data: DataConfig | None = None,
) -> Corpus:
    """Makes a corpus of texts and labels; `validation` is another such pair, None draws a tenth of the texts."""
    tables = {"train": _table_of_lists(texts, labels)}
    if validation is not None:
        tables["validation"] = _table_of_lists(*validation, origin="the validation texts")
    return open_corpus(data or DataConfig(), seed=seed, problem_type=problem_type, tables=tables)


def _table_of_lists(texts: Iterable[str], labels: Iterable[Any], origin: str = "the texts given") -> Table:
    if getattr(labels, "ndim", 1) != 1:
        raise DataError("the labels are a table; give one label, or a list of labels, for each text")
    texts, labels = list_of_texts(texts), list(labels)
    if len(texts) != len(labels) or not texts:
        problem = f"{len(texts)} texts and {len(labels)} labels"
        raise DataError(f"{problem}; give texts of at least two classes, and one label for each")
    examples = enumerate(zip(texts, labels, strict=True), start=1)
    return Table(origin, [Row(f"text {n}", {"text": text, "label": _plain(label)}) for n, (text, label) in examples])


def list_of_texts(texts: Iterable[str], name: str = "text") -> list[str]:
    """Returns texts as a list; DataError if one is not a string, TypeError for a single string or a table."""
    if isinstance(texts, str | Mapping) or getattr(texts, "ndim", 1) != 1:  # a table would give its column names
        raise TypeError(f"{type(texts).__name__} is not a list of texts; wrap one text, [text], or choose a column")
    texts = list(texts)
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise DataError(f"{name} {number}: {text!r:.40} is not a string; correct it, or leave it out")
    return texts


def _plain(label: Any) -> str | float | list[Any] | None:
    """Converts one or several labels of NumPy, PyTorch or pandas to Python; None for what cannot be a label."""
    label = label.tolist() if hasattr(label, "tolist") else label
    if isinstance(label, list | tuple | set):
        return [_plain(each) for each in label]
    return label if isinstance(label, str | int | float) else None


def _load(data: DataConfig, wanted: list[str]) -> tuple[str, dict[str, Table], DataConfig]:
    """Reads the tables of splits; returns the corpus name, the tables, and a `DataConfig` that reopens them."""
    if data.train_file is not None:
        files = {"train": data.train_file, "validation": data.validation_file}
        tables = {split: readers.read_table(file, data, refuse=False) for split, file in files.items() if file}
        validation_file = data.validation_file and absolute(data.validation_file)
        source = replace(data, train_file=absolute(data.train_file), validation_file=validation_file)
        return data.train_file.name, tables, source
    folder = os.environ.get("SST2_DIR")
    if data.dataset is None and folder and not Path(folder).is_dir():
        raise DataError(f"SST2_DIR = {folder} is not a folder; correct it, or unset it to load {SST2} from the hub")
    name = data.dataset if data.dataset is not None else folder or SST2
    if name == SAMPLE:
        return _sample(data)
    path = hub.existing_path(name)
    if path is not None and (path.is_file() or readers.class_files(path)):
        split = wanted[0] if len(wanted) == 1 else "train"
        source = replace(data, dataset=None, train_file=absolute(path))
        return path.name, {split: readers.read_table(path, data, refuse=False)}, source
    try:
        corpus = hub.load_hub(name) if path is None else hub.load_folder(path, data)
    except DataError as error:
        if data.dataset is not None or folder:
            raise
        banner = "THIS IS NOT SST-2: the small bundled sample replaces it. Its figures say nothing about SST-2."
        logger.info(f"{'#' * 80}\n{banner}\nTried: SST2_DIR, which is not set; then the hub: {error}.\n{'#' * 80}")
        return _sample(data)
    source = replace(data, dataset=name if path is None else str(path.resolve()))
    if path is not None:  # only the bundled sample may be called SAMPLE
        name = path.resolve().name if path.resolve().name != SAMPLE else f"{name}/"
    return name, {split: hub.read_split(corpus, name, split) for split in wanted}, source


def _sample(data: DataConfig) -> tuple[str, dict[str, Table], DataConfig]:
    files = {split: SAMPLE_DIR / f"{split}.jsonl" for split in ("train", "validation")}
    tables = {split: Table(f"{SAMPLE}, split {split}", readers.read_table(file).rows) for split, file in files.items()}
    return SAMPLE, tables, replace(data, dataset=SAMPLE)


def _problem_type(table: Table, column: str) -> ProblemType | None:
    """Infers the problem type from the labels of a table, and logs it unless it is single-label classification."""
    cells = [cell for row in table.rows if (cell := row.cells.get(column)) is not None]
    if cells and all(isinstance(cell, list) for cell in cells):
        logger.info(f"labels      {column!r} holds lists, so this is multi-label classification (--problem-type)")
        return "multi_label_classification"
    numbers = [str(cell).strip() for cell in cells if cell == cell and str(cell).strip()]
    if all(map(NUMBER.fullmatch, numbers)) and any(float(number) % 1 > 0 for number in numbers):
        logger.info(f"labels      {column!r} holds real numbers, so this is regression (--problem-type)")
        return "regression"
    return None


def _labelled(
    table: Table, data: DataConfig, names: tuple[str, ...], allow_unlabelled: bool, problem_type: ProblemType | None
) -> tuple[TextSplit, tuple[str, ...], ProblemType | None]:
    """Reads texts and labels of a table, and without `names` also its classes and problem type."""
    columns, column = table.rows[0].cells, ""
    if not allow_unlabelled or data.label_column or any(name.strip().lower() in LABEL_COLUMNS for name in columns):
        column = choose_column(columns, data.label_column, LABEL_COLUMNS, "--label-column", table.origin)
    if not names and problem_type is None:
        problem_type = _problem_type(table, column)

    examples = list[tuple[str, tuple[str, ...], Any]]()
    for row, texts in read_texts(table, data):
        with table.noting_bad_rows():
            if not all(map(str.strip, texts)):
                raise DataError(f"{row.place}: empty text; remove the row")
            examples.append((row.place, texts, _label(row.cells.get(column), problem_type, column, row.place)))

    labels = {label for *_, label in examples if label is not None}
    if allow_unlabelled and labels <= {"-1"} - set(names):
        targets: dict[Any, Any] = dict.fromkeys((*labels, None), -1)
    elif labels:
        names = names or _class_names(labels, table.class_names.get(column), column, problem_type)
        targets = _targets(labels, names, problem_type)
    else:
        readers.refuse_bad_rows(table.bad_rows, data.skip_bad_rows)
        first = table.rows[0].place
        raise DataError(f"{table.origin} has no labels (first at {first}); add them, or predict with --file")
    for place, _, label in examples:
        if label not in targets:
            problem = "no label; give the row one of" if label is None else f"label {label!r} is none of"
            table.bad_rows.append(f"{place}: {problem} {', '.join(names)}")
    readers.refuse_bad_rows(table.bad_rows, data.skip_bad_rows)

    kept = [(texts, targets[label]) for _, texts, label in examples if label in targets]
    pairs = None if data.text_pair_column is None else [texts[1] for texts, _ in kept]
    split = TextSplit([texts[0] for texts, _ in kept], [target for _, target in kept], table.origin, pairs)
    return split, names, problem_type


def _look(text: str) -> str:
    return " ".join(text.split()).casefold()


def _label(cell: Any, problem_type: ProblemType | None, column: str, place: str) -> Any:
    """Reads a label: a class or None, in regression a number, in multi-label classification a tuple of classes."""
    if problem_type == "regression":
        if not NUMBER.fullmatch(str(cell).strip()) or not math.isfinite(float(cell)):
            raise DataError(f"{place}: {column!r} is {cell!r:.40}, not a number; correct the row")
        return float(cell)
    if problem_type == "multi_label_classification":
        cells = [part.strip() for part in cell.split(",") if part.strip()] if isinstance(cell, str) else cell
        labels = [_label(each, None, column, place) for each in cells] if isinstance(cells, list) else [None]
        if None in labels or len(set(labels)) < len(labels):
            advice = "write a list of the text's labels, each once, not a 0 or 1 for every class"
            raise DataError(f"{place}: {column!r} is {cell!r:.40}; {advice}")
        return tuple(labels)
    # pandas writes a missing label as NaN, which is not equal to itself.
    if cell is None or cell != cell or not str(cell).strip():
        return None
    is_whole = isinstance(cell, int | float) and cell % 1 == 0
    return _spelling(str(cell) if is_whole else text_cell(cell, column, place))


def _spelling(label: str) -> str:
    """Gives 0 and 0.0 one spelling, and True and true."""
    label = label.lower() if label.lower() in ("true", "false") else label
    return re.sub(r"\A(-?\d{1,18})\.0+\Z", r"\1", label)


def _class_names(
    labels: set[Any], declared: tuple[str, ...] | None, column: str, problem_type: ProblemType | None
) -> tuple[str, ...]:
    """Returns the class names, sorted unless declared, and logs those that look alike; in regression, the column."""
    if problem_type == "regression":
        return (column,)
    classes = _classes(labels, problem_type)
    are_numbers = all(re.fullmatch(r"-?\d{1,18}", name) for name in classes)  # longer ones are codes, not numbers
    names = declared or tuple(sorted(classes, key=int if are_numbers else None))
    is_sentiment = any({name.lower() for name in names} <= set(spelling) for spelling in SENTIMENT_SPELLINGS)
    if is_sentiment and problem_type in SINGLE_LABEL:
        return SENTIMENT_LABELS
    looks = Counter(map(_look, names))
    if alike := [repr(name) for name in names if looks[_look(name)] > 1]:
        logger.info(f"labels      {', '.join(alike)} differ only in case or blanks; each is its own class")
    return names


def _targets(labels: set[Any], names: tuple[str, ...], problem_type: ProblemType | None) -> dict[Any, Any]:
    """Maps each label to the target that the model learns; labels outside the classes are left out."""
    if problem_type == "regression":
        return {number: number for number in labels}
    order = [(SENTIMENT | UNNAMED).get(name.lower(), -1) for name in names]
    # A sentiment model accepts every spelling of its two classes.
    aliases = {name: order.index(index) for name, index in SENTIMENT.items()} if sorted(order) == [0, 1] else {}
    own = {_spelling(name): index for index, name in enumerate(names)}
    found = {name: own.get(name, aliases.get(name.lower())) for name in _classes(labels, problem_type)}
    indices = {name: index for name, index in found.items() if index is not None}
    if problem_type in SINGLE_LABEL:
        return indices
    known = {several: {indices[name] for name in several} for several in labels if indices.keys() >= set(several)}
    return {several: tuple(float(index in held) for index in range(len(names))) for several, held in known.items()}


def _classes(labels: set[Any], problem_type: ProblemType | None) -> set[str]:
    return labels if problem_type in SINGLE_LABEL else set(chain.from_iterable(labels))


def _divide(
    train: TextSplit, holdout: float, names: tuple[str, ...], seed: int, problem_type: ProblemType | None
) -> dict[str, TextSplit]:
    """Moves training rows to validation: held-out phrases, or a tenth (with single labels, of each class)."""
    is_single = problem_type in SINGLE_LABEL
    if holdout:
        what = "held-out phrases"
        kept, drawn = hold_out(train.same_texts(), holdout, seed)
        if not drawn:
            raise DataError(f"a fraction of {holdout} of {train.origin} is less than one text; raise it")
    else:
        what = "a stratified tenth" if is_single else "a tenth"
        rows = defaultdict(list)  # by text, so that equal texts stay in one split
        for row, key in enumerate(train.same_texts()):
            rows[key].append(row)
        generator, drawn = random.Random(seed), []
        classes = train.labels if is_single else [0] * len(train.labels)
        for label in sorted(set(classes)):
            texts = [indices for indices in rows.values() if classes[indices[0]] == label]
            if len(texts) < 2:
                raise DataError(f"{train.origin}: one text only is {names[label]}; add some, or name validation data")
            drawn += chain.from_iterable(generator.sample(texts, max(1, round(len(texts) / 10))))
        kept = sorted(set(range(len(train.texts))) - set(drawn))
    return {
        "train": train.select(kept, f"{train.origin}, without {what}"),
        "validation": train.select(sorted(drawn), f"{train.origin}, {what}"),
    }
