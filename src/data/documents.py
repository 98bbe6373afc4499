"""Unlabelled text for pre-training: documents of any mixture of sources, read one after the other."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from src.data import hub
from src.data.readers import TEXT_COLUMNS, choose_column, read_rows, table_suffix, text_cell, text_lines
from src.utils.config import TableConfig
from src.utils.errors import DataError
from src.utils.files import absolute, local_path

logger = logging.getLogger(__name__)
ROWS_AT_ONCE = 1000
WORDS_OF_A_SENTENCE = range(4, 51)
LINE_BREAK = re.compile(r"<br\s*/?>")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]*\s+")


@dataclass(frozen=True)
class Documents:
    """Documents that can be read again and again."""

    name: str
    read: Callable[[], Iterator[str]]


def open_documents(sources: Iterable[str], text_column: str | None = None) -> Documents:
    """Opens sources of documents, which are read one after the other; blank documents are left out.

    A source is SOURCE or SOURCE:SPLIT, where SOURCE is a hub id, a folder, or a file, and SPLIT is "train" if unset.
    Blank lines divide a .txt file into documents; other files hold one in each row. A folder that holds .txt files and
    no tables is read file by file, sub-folders included; any other is a corpus in the hub's layout.

    Raises:
        DataError: there is no such source or split, or no column of text.
    """
    opened = [_open(source, text_column) for source in sources]
    name = " + ".join(source.name for source in opened)
    return Documents(name, lambda: (text for source in opened for text in source.read() if text.strip()))


def sentences(documents: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yields every sentence of 4 to 50 words once, whatever its case, with the number of its document, from 0."""
    seen = set()
    for number, document in enumerate(documents):
        for sentence in SENTENCE_END.split(LINE_BREAK.sub(" ", document)):
            text = " ".join(sentence.split())
            if len(text.split()) in WORDS_OF_A_SENTENCE and text.lower() not in seen:
                seen.add(text.lower())
                yield number, text


def absolute_source(source: str) -> str:
    """Names a local source by its full path, so that a resumed run finds it from any folder; hub ids stay."""
    name, split = _name_and_split(source)
    path = local_path(name)
    full = name if path is None else str(absolute(path))
    return full if split is None else f"{full}:{split}"


def _name_and_split(source: str) -> tuple[str, str | None]:
    if ":" not in source or local_path(source) is not None:
        return source, None
    name, _, split = source.rpartition(":")
    return name, split


def _open(source: str, text_column: str | None) -> Documents:
    name, split = _name_and_split(source)
    path = hub.existing_path(name)
    texts = [] if path is None else _text_files(path)
    if path is not None and (texts or path.is_file()):
        if split is not None:
            raise DataError(f"{name} has no splits, so {source} names nothing; drop :{split}")
        if path.is_dir():
            logger.info(f"text        {len(texts):,} {hub.TEXT_SUFFIX} files of {path}")
        if texts:
            return Documents(path.name, lambda: chain.from_iterable(map(_read_text, texts)))
        table = TableConfig(text_column=text_column)
        return Documents(path.name, lambda: (text for (text,) in read_rows(path, table)[1]))
    corpus = hub.load_hub(name) if path is None else hub.load_folder(path)
    label = f"{name if path is None else path.resolve().name}:{split or 'train'}"
    dataset = hub.find_split(corpus, label, split or "train")
    column = choose_column(dataset.column_names, text_column, TEXT_COLUMNS, "--text-column", label)
    if (kind := getattr(dataset.features[column], "dtype", "no text")) not in ("string", "large_string"):
        # An image or a sound would be decoded, from whatever path it names.
        raise DataError(f"{label}: {column!r} holds {kind}, not strings; name another column with --text-column")
    return Documents(label, lambda: _read_column(dataset, column, label))


def _text_files(path: Path) -> list[Path]:
    """Lists a .txt file, or those of a folder without tables."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    has_tables = any(table_suffix(file) in hub.TABLE_SUFFIXES for file in files)
    return [] if has_tables else [file for file in files if file.suffix.lower() == hub.TEXT_SUFFIX]


def _read_text(path: Path) -> Iterator[str]:
    """Reads the documents of a text file, which blank lines separate."""
    for is_document, lines in groupby(text_lines(path), lambda line: bool(line.strip())):
        if is_document:
            yield "".join(lines).replace("\r\n", "\n")


def _read_column(dataset: Any, column: str, label: str) -> Iterator[str]:
    cells = (cell for part in dataset.select_columns([column]).iter(ROWS_AT_ONCE) for cell in part[column])
    for number, cell in enumerate(cells, start=1):
        yield text_cell(cell, column, f"{label}, row {number}")
