"""Labelled text: hub ids, folders, files, Python lists and the bundled sample all come out as a `Corpus`."""

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
UNNAMED = {"label_0": 0, "label_1": 1}  # as transformers calls two classes; the data may know better


@dataclass(frozen=True)
class TextSplit:
    """Texts with their labels as indices into the corpus's `label_names`; -1 where a text has none.

    In regression labels are numbers; of several at once there is a 0.0 or 1.0 for each class.
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
        """Sum of the texts and labels, in their order."""
        return hashlib.sha256(json.dumps((self.texts, self.labels, self.pairs)).encode()).hexdigest()

    def same_texts(self) -> list[str]:
        """Returns a string for each example, equal for those whose texts differ at most by case and blanks."""
        texts = self.texts if self.pairs is None else map("\t".join, zip(self.texts, self.pairs, strict=True))
        return list(map(_look, texts))


@dataclass(frozen=True)
class Corpus:
    """The splits that were asked for."""

    name: str
    label_names: tuple[str, ...]
    splits: dict[str, TextSplit]
    source: DataConfig  # names this very corpus again, from any folder and under any environment
    is_fallback: bool = False  # the sample, because SST-2 is out of reach
    problem_type: ProblemType | None = None  # None: one class of several


def open_corpus(
    data: DataConfig,
    splits: Sequence[str] = ("train", "validation"),
    label_names: tuple[str, ...] | None = None,
    seed: int = 0,
    allow_unlabelled: bool = False,
    problem_type: ProblemType | None = None,
    tables: dict[str, Table] | None = None,
) -> Corpus:
    """Loads splits of the corpus that the configuration names, or of SST-2, or of the sample.

    Args:
        data: names the corpus, its columns, and the fraction to hold out.
        splits: what to load; where there is no validation split, "validation" is the test split.
        label_names: those of a trained model, which the corpus must keep to; None: the corpus decides.
        seed: draws the validation rows of a single file, and the held-out phrases.
        allow_unlabelled: accept splits without labels.
        problem_type: what the labels are; None: found from them, or with `label_names` one class of several.
        tables: read these, by split, in place of what `data` names.
    """
    wanted = ["train", *(split for split in splits if split not in ("train", "validation"))]
    name, source = "lists", data
    if tables is None:
        name, tables, source = _load(data, wanted if data.holdout else list(splits))
    names, found = label_names or (), {}
    for split in sorted(tables, key=lambda split: split != "train"):  # training decides the classes
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
            logger.info(f"overlap     {count:,} validation texts stand in the training texts, too")
    is_fallback = source.dataset == SAMPLE and data.dataset != SAMPLE
    return Corpus(name, names, {split: found[split] for split in splits}, source, is_fallback, problem_type)


def corpus_of_lists(
    texts: Iterable[str],
    labels: Iterable[Any],
    validation: tuple[Iterable[str], Iterable[Any]] | None = None,
    problem_type: ProblemType | None = None,
    seed: int = 0,
    calibration: float = 0.0,
) -> Corpus:
    """Makes a corpus of texts with what is true of each; `validation` is such a pair, or a tenth of them is drawn."""
    tables = {"train": _table_of_lists(texts, labels)}
    if validation is not None:
        tables["validation"] = _table_of_lists(*validation, origin="the validation texts")
    return open_corpus(DataConfig(calibration=calibration), seed=seed, problem_type=problem_type, tables=tables)


def _table_of_lists(texts: Iterable[str], labels: Iterable[Any], origin: str = "the texts given") -> Table:
    if getattr(labels, "ndim", 1) != 1:
        raise DataError("the labels are a table; give one label for each text, or a list of those that hold")
    texts, labels = list_of_texts(texts), list(labels)
    if len(texts) != len(labels) or not texts:
        problem = f"{len(texts)} texts and {len(labels)} labels"
        raise DataError(f"{problem}; give texts of at least two classes, and one label for each")
    examples = enumerate(zip(texts, labels, strict=True), start=1)
    return Table(origin, [Row(f"text {n}", {"text": text, "label": _plain(label)}) for n, (text, label) in examples])


def list_of_texts(texts: Iterable[str], name: str = "text") -> list[str]:
    """Lists texts in their order; DataError where one is no string, TypeError if they are one string or a table."""
    if isinstance(texts, str | Mapping) or getattr(texts, "ndim", 1) != 1:  # of a table, only the names of its columns
        raise TypeError(f"{type(texts).__name__} is no list of texts; wrap a single text, [text], or choose a column")
    texts = list(texts)
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise DataError(f"{name} {number}: {text!r:.40} is not a string; mend it, or leave it out")
    return texts


def _plain(label: Any) -> str | float | list[Any] | None:
    """Unwraps a label of NumPy, PyTorch or pandas, or several in any collection; None for what can be no label."""
    label = label.tolist() if hasattr(label, "tolist") else label
    if isinstance(label, list | tuple | set):
        return [_plain(each) for each in label]
    return label if isinstance(label, str | int | float) else None


def _load(data: DataConfig, wanted: list[str]) -> tuple[str, dict[str, Table], DataConfig]:
    """Reads the tables of splits; returns the name of the corpus, them, and what names the corpus again."""
    if data.train_file is not None:
        files = {"train": data.train_file, "validation": data.validation_file}
        tables = {split: readers.read_table(file, data, refuse=False) for split, file in files.items() if file}
        validation_file = data.validation_file and absolute(data.validation_file)
        source = replace(data, train_file=absolute(data.train_file), validation_file=validation_file)
        return data.train_file.name, tables, source
    folder = os.environ.get("SST2_DIR")
    if data.dataset is None and folder and not Path(folder).is_dir():
        raise DataError(f"SST2_DIR = {folder} is no folder; correct it, or unset it to load {SST2} from the hub")
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
    if path is not None:  # SAMPLE is the name of the bundled sample alone
        name = path.resolve().name if path.resolve().name != SAMPLE else f"{name}/"
    return name, {split: hub.read_split(corpus, name, split) for split in wanted}, source


def _sample(data: DataConfig) -> tuple[str, dict[str, Table], DataConfig]:
    files = {split: SAMPLE_DIR / f"{split}.jsonl" for split in ("train", "validation")}
    tables = {split: Table(f"{SAMPLE}, split {split}", readers.read_table(file).rows) for split, file in files.items()}
    return SAMPLE, tables, replace(data, dataset=SAMPLE)


def _problem_type(table: Table, column: str) -> ProblemType | None:
    """Finds what the labels of a table are, and says so unless each is one class of several."""
    cells = [cell for row in table.rows if (cell := row.cells.get(column)) is not None]
    if cells and all(isinstance(cell, list) for cell in cells):
        logger.info(f"labels      {column!r} holds lists, so a text has any number of them (--problem-type)")
        return "multi_label_classification"
    numbers = [str(cell).strip() for cell in cells if cell == cell and str(cell).strip()]
    if all(map(NUMBER.fullmatch, numbers)) and any(float(number) % 1 > 0 for number in numbers):
        logger.info(f"labels      {column!r} holds real numbers, so a number is learned (--problem-type)")
        return "regression"
    return None


def _labelled(
    table: Table, data: DataConfig, names: tuple[str, ...], allow_unlabelled: bool, problem_type: ProblemType | None
) -> tuple[TextSplit, tuple[str, ...], ProblemType | None]:
    """Reads texts and labels of a table; without `names`, classes and problem type are those it declares or holds."""
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
    """Reads a class, or None; in regression a number, in multi-label classification a tuple of classes."""
    if problem_type == "regression":
        if not NUMBER.fullmatch(str(cell).strip()) or not math.isfinite(float(cell)):
            raise DataError(f"{place}: {column!r} is {cell!r:.40}, not a number; mend the row")
        return float(cell)
    if problem_type == "multi_label_classification":
        cells = [part.strip() for part in cell.split(",") if part.strip()] if isinstance(cell, str) else cell
        labels = [_label(each, None, column, place) for each in cells] if isinstance(cells, list) else [None]
        if None in labels or len(set(labels)) < len(labels):
            advice = "write a list of the labels that hold, each once, and no 0 or 1 for every class"
            raise DataError(f"{place}: {column!r} is {cell!r:.40}; {advice}")
        return tuple(labels)
    # NaN, which is not equal to itself, is what pandas writes for a label that is not there.
    if cell is None or cell != cell or not str(cell).strip():
        return None
    is_whole = isinstance(cell, int | float) and cell % 1 == 0
    return _spelling(str(cell) if is_whole else text_cell(cell, column, place))


def _spelling(label: str) -> str:
    """Spells 0 and 0.0 alike, and True and true."""
    label = label.lower() if label.lower() in ("true", "false") else label
    return re.sub(r"\A(-?\d{1,18})\.0+\Z", r"\1", label)


def _class_names(
    labels: set[Any], declared: tuple[str, ...] | None, column: str, problem_type: ProblemType | None
) -> tuple[str, ...]:
    """Names the classes, sorted unless they are declared, and says which look alike; in regression names the number."""
    if problem_type == "regression":
        return (column,)
    classes = _classes(labels, problem_type)
    are_numbers = all(re.fullmatch(r"-?\d{1,18}", name) for name in classes)  # longer ones are codes, if not traps
    names = declared or tuple(sorted(classes, key=int if are_numbers else None))
    is_sentiment = any({name.lower() for name in names} <= set(spelling) for spelling in SENTIMENT_SPELLINGS)
    if is_sentiment and problem_type in SINGLE_LABEL:
        return SENTIMENT_LABELS
    looks = Counter(map(_look, names))
    if alike := [repr(name) for name in names if looks[_look(name)] > 1]:
        logger.info(f"labels      {', '.join(alike)} differ by case or blanks only; each is a class of its own")
    return names


def _targets(labels: set[Any], names: tuple[str, ...], problem_type: ProblemType | None) -> dict[Any, Any]:
    """Finds what a model has to say for each label, but for those that are none of the classes."""
    if problem_type == "regression":
        return {number: number for number in labels}
    order = [(SENTIMENT | UNNAMED).get(name.lower(), -1) for name in names]
    # A model of sentiment understands every spelling of it.
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
    """Draws the validation rows from the training rows: held-out phrases, or a tenth, if it can be of each class."""
    is_single = problem_type in SINGLE_LABEL
    if holdout:
        what = "held-out phrases"
        kept, drawn = hold_out(train.same_texts(), holdout, seed)
        if not drawn:
            raise DataError(f"a fraction of {holdout} of {train.origin} is not one text; raise it")
    else:
        what = "a stratified tenth" if is_single else "a tenth"
        rows = defaultdict(list)  # of each text, so that equal ones stay on one side
        for row, key in enumerate(train.same_texts()):
            rows[key].append(row)
        generator, drawn = random.Random(seed), []
        classes = train.labels if is_single else [0] * len(train.labels)
        for label in sorted(set(classes)):
            texts = [of_text for of_text in rows.values() if classes[of_text[0]] == label]
            if len(texts) < 2:
                raise DataError(f"{train.origin}: one text only is {names[label]}; add some, or name validation data")
            drawn += chain.from_iterable(generator.sample(texts, max(1, round(len(texts) / 10))))
        kept = sorted(set(range(len(train.texts))) - set(drawn))
    return {
        "train": train.select(kept, f"{train.origin}, without {what}"),
        "validation": train.select(sorted(drawn), f"{train.origin}, {what}"),
    }
