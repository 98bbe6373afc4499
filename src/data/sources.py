"""The one door to data: hub ids, folders, files and the bundled sample all come out as a `Corpus`."""

import os
import random
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from src.data import hub
from src.data.readers import TEXT_COLUMNS, RawSplit, choose_column, clean_row, read_rows
from src.utils.config import SAMPLE, SAMPLE_DIR, SENTIMENT_LABELS, SST2, DataConfig
from src.utils.errors import DataError, notice

_LABEL_COLUMNS = ("label", "labels", "sentiment", "class")
_POLES = {"0": 0, "negative": 0, "neg": 0, "1": 1, "positive": 1, "pos": 1}
_POLE_PAIRS = ({"0", "1"}, {"negative", "positive"}, {"neg", "pos"})


@dataclass(frozen=True)
class TextSplit:
    """Texts with their labels as indices into the corpus's `label_names`; -1 throughout where there are none."""

    texts: list[str]
    labels: list[int]
    origin: str
    pairs: list[str] | None = None  # second texts, where the corpus compares two

    def select(self, rows: Sequence[int], origin: str) -> "TextSplit":
        """Returns the examples at `rows`, under another origin."""
        pairs = None if self.pairs is None else [self.pairs[row] for row in rows]
        return TextSplit([self.texts[row] for row in rows], [self.labels[row] for row in rows], origin, pairs)


@dataclass(frozen=True)
class Corpus:
    """The splits that were asked for.

    `is_fallback` says that the sample stands in for an SST-2 out of reach; `source` names this very corpus again,
    wherever and with whatever environment the program runs next.
    """

    name: str
    label_names: tuple[str, ...]
    splits: dict[str, TextSplit]
    source: DataConfig
    is_fallback: bool = False

    @property
    def is_sample(self) -> bool:
        """Whether this is the bundled sample, asked for or not."""
        return self.name == SAMPLE


@dataclass(frozen=True)
class _Table:
    origin: str
    rows: list[tuple[str, str | None, str]]  # text, label, place
    class_names: tuple[str, ...]
    pairs: list[str] | None


def open_corpus(
    data: DataConfig,
    splits: Sequence[str] = ("train", "validation"),
    label_names: tuple[str, ...] | None = None,
    seed: int = 0,
    allow_unlabelled: bool = False,
) -> Corpus:
    """Loads splits of the corpus that the configuration names, or of SST-2, or of the sample.

    Args:
        data: names the corpus, its columns, and the fraction to hold out.
        splits: what to load; where there is no validation split, "validation" is the test split.
        label_names: labels of a trained model, which the corpus must keep to; unset, the corpus decides.
        seed: draws the validation rows of a single file, and the held-out phrases.
        allow_unlabelled: accept splits without labels.

    Returns:
        The corpus with exactly these splits.

    Raises:
        DataError: a source the user named cannot be read, lacks a split, or holds a row that cannot be used.
    """
    wanted = ["train", *(split for split in splits if split not in ("train", "validation"))]
    name, raw, is_fallback = _load(data, wanted if data.holdout else list(splits))
    tables = {split: _table(rows, data, allow_unlabelled) for split, rows in raw.items()}
    names = label_names or _name_labels(tables.get("train") or next(iter(tables.values())))
    found = {split: _index_labels(table, names, allow_unlabelled) for split, table in tables.items()}
    if data.holdout or ("validation" not in found and (data.train_file is not None or "validation" in splits)):
        found |= _divide(found["train"], data.holdout, names, seed)
    if missing := [split for split in splits if split not in found]:
        raise DataError(f"{name} has no split {missing[0]}; it has {', '.join(found)}: ask for one of these")
    if "train" in splits and len(set(found["train"].labels) - {-1}) == 1:
        raise DataError(f"{found['train'].origin}: all labels are the same; give rows of at least two classes")
    return Corpus(name, names, {split: found[split] for split in splits}, _source(data, name), is_fallback)


def corpus_of_lists(texts: Sequence[str], labels: Sequence[str | int]) -> Corpus:
    """Makes a corpus of Python lists, whose validation split is the training texts themselves.

    Args:
        texts: the texts.
        labels: one for each text; their sorted names become the classes, 0 and 1 become negative and positive.

    Returns:
        The corpus, called "lists".

    Raises:
        DataError: the lists differ in length, a text is empty, or there is one class only.
    """
    if len(texts) != len(labels):
        raise DataError(f"{len(texts)} texts and {len(labels)} labels; give one label for each text")
    rows = [
        (*clean_row(text, str(label), f"text {number}"), f"text {number}")
        for number, (text, label) in enumerate(zip(texts, labels, strict=True), start=1)
    ]
    table = _Table("the training texts themselves", rows, (), None)
    split = _index_labels(table, names := _name_labels(table), allow_unlabelled=False)
    if len(names) < 2 or len(set(split.labels)) < 2:
        raise DataError("all labels are the same; give texts of at least two classes")
    return Corpus("lists", names, {"train": split, "validation": split}, DataConfig())


def _load(data: DataConfig, wanted: list[str]) -> tuple[str, dict[str, RawSplit], bool]:
    if data.train_file is not None:
        files = {"train": data.train_file, "validation": data.validation_file}
        return data.train_file.name, {split: _file(file) for split, file in files.items() if file}, False
    if data.dataset == SAMPLE:
        return SAMPLE, _sample(wanted), False
    folder = os.environ.get("SST2_DIR")
    if data.dataset is None and folder and not Path(folder).is_dir():
        raise DataError(f"SST2_DIR = {folder} is no folder; correct it, or unset it to load {SST2} from the hub")
    if (source := data.dataset if data.dataset is not None else folder or None) is not None:
        return *_load_named(source, wanted), False
    try:
        corpus = hub.load_hub(SST2)
    except DataError as error:
        _announce_sample(str(error))
        return SAMPLE, _sample(wanted), True
    return SST2, {split: hub.read_split(corpus, SST2, split) for split in wanted}, False


def _source(data: DataConfig, name: str) -> DataConfig:
    if data.train_file is not None:
        validation_file = data.validation_file and data.validation_file.resolve()
        return replace(data, train_file=data.train_file.resolve(), validation_file=validation_file)
    if name == SAMPLE:
        return replace(data, dataset=SAMPLE)
    path = hub.existing_path(data.dataset or os.environ.get("SST2_DIR") or SST2)
    if path is None:
        return replace(data, dataset=data.dataset or SST2)
    if path.is_dir():
        return replace(data, dataset=str(path.resolve()))
    return replace(data, dataset=None, train_file=path.resolve())


def _load_named(source: str, wanted: list[str]) -> tuple[str, dict[str, RawSplit]]:
    path = hub.existing_path(source)
    if path is not None and not path.is_dir():
        return path.name, {wanted[0] if len(wanted) == 1 else "train": _file(path)}
    name = source if path is None else path.resolve().name
    name = name if name != SAMPLE else f"{source}/"  # that name belongs to the bundled sample
    corpus = hub.load_hub(source) if path is None else hub.load_folder(path)
    return name, {split: hub.read_split(corpus, name, split) for split in wanted}


def _sample(wanted: list[str]) -> dict[str, RawSplit]:
    if absent := [split for split in wanted if split not in ("train", "validation")]:
        raise DataError(f"{SAMPLE} has no split {absent[0]}; it has train, validation: ask for one of these")
    return {split: _file(SAMPLE_DIR / f"{split}.jsonl", f"{SAMPLE}, split {split}") for split in wanted}


def _file(path: Path, origin: str | None = None) -> RawSplit:
    return RawSplit(origin or path.name, f"{path}:", read_rows(path))


def _announce_sample(reason: str) -> None:
    title = "THIS IS NOT SST-2: the small bundled sample stands in. Its figures say nothing about SST-2."
    tried = f"Tried: SST2_DIR, which is not set; then the hub: {reason}."
    lines = [line for text in (title, tried) for line in textwrap.wrap(text, 76, break_on_hyphens=False)]
    notice("\n".join(("#" * 80, *(f"# {line:<76} #" for line in lines), "#" * 80)))


def _table(raw: RawSplit, data: DataConfig, allow_unlabelled: bool) -> _Table:
    first = raw.rows[0].cells
    text = choose_column(first, data.text_column, TEXT_COLUMNS, "--text-column", raw.origin)
    label = None
    if not allow_unlabelled or data.label_column or set(first) & set(_LABEL_COLUMNS):
        label = choose_column(first, data.label_column, _LABEL_COLUMNS, "--label-column", raw.origin)
    pair = data.text_pair_column
    if pair is not None:
        choose_column(first, pair, (), "--text-pair-column", raw.origin)
    rows, pairs = [], []
    for row in raw.rows:
        place = f"{raw.place}{row.line}"
        if lacking := [column for column in (text, label, pair) if column is not None and column not in row.cells]:
            raise DataError(f"{place}: no {lacking[0]!r}; give every row a text and a label under the same names")
        rows.append((*clean_row(row.cells[text], None if label is None else row.cells[label], place), place))
        if pair is not None:
            pairs.append(clean_row(row.cells[pair], None, f"{place}, {pair}")[0])
    return _Table(raw.origin, rows, raw.class_names.get(label or "", ()), pairs if pair is not None else None)


def _name_labels(table: _Table) -> tuple[str, ...]:
    found = {label for _, label, _ in table.rows if label is not None}
    numbers = all(re.fullmatch(r"-?\d{1,18}", label) for label in found)  # longer ones are codes, if not traps
    names = table.class_names or tuple(sorted(found, key=int if numbers else None))
    spellings = {name.lower() for name in names}
    return SENTIMENT_LABELS if names and any(spellings <= pair for pair in _POLE_PAIRS) else names


def _index_labels(table: _Table, names: tuple[str, ...], allow_unlabelled: bool) -> TextSplit:
    texts = [text for text, _, _ in table.rows]
    if not any(label for _, label, _ in table.rows):
        if allow_unlabelled:
            return TextSplit(texts, [-1] * len(texts), table.origin, table.pairs)
        raise DataError(f"{table.origin} has no labels (first at {table.rows[0][2]}); predict with --file instead")
    poles = [_POLES.get(name.lower()) for name in names]
    is_sentiment = len(poles) == 2 and set(poles) == {0, 1}
    aliases = {alias: poles.index(pole) for alias, pole in _POLES.items()} if is_sentiment else {}
    indices = aliases | {name: index for index, name in enumerate(names)}
    labels = []
    for _, label, place in table.rows:
        if label is None:
            raise DataError(f"{place}: no label; give the row one of {', '.join(names)}")
        if (index := indices.get(label, aliases.get(label.lower()))) is None:
            raise DataError(f"{place}: label {label!r} is none of {', '.join(names)}; correct it")
        labels.append(index)
    return TextSplit(texts, labels, table.origin, table.pairs)


def _divide(train: TextSplit, holdout: float, names: tuple[str, ...], seed: int) -> dict[str, TextSplit]:
    if holdout:
        from src.data.holdout import hold_out

        kept, drawn = hold_out(train.texts, holdout, seed)
        if not drawn:
            raise DataError(f"holdout = {holdout} of {train.origin} is not one row; raise it")
        parts = {"train": (kept, "without held-out phrases"), "validation": (drawn, "held-out phrases")}
    else:
        kept, drawn = _stratified_tenth(train, names, seed)
        parts = {"train": (kept, "without a stratified tenth"), "validation": (drawn, "a stratified tenth")}
    return {split: train.select(rows, f"{train.origin}, {part}") for split, (rows, part) in parts.items()}


def _stratified_tenth(split: TextSplit, names: tuple[str, ...], seed: int) -> tuple[list[int], list[int]]:
    draw, drawn = random.Random(seed), set()
    for label in sorted(set(split.labels)):
        rows = [row for row, other in enumerate(split.labels) if other == label]
        if len(rows) < 2:
            raise DataError(f"{split.origin}: one row only is labelled {names[label]}; add rows or --validation-file")
        drawn |= set(draw.sample(rows, max(1, round(len(rows) / 10))))
    return [row for row in range(len(split.texts)) if row not in drawn], sorted(drawn)
