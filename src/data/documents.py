"""Unlabelled text for pre-training: documents of any mixture of sources, read one after the other."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.data import hub
from src.data.readers import SUFFIXES, TEXT_COLUMNS, TEXT_SUFFIX, choose_column, read_rows
from src.utils.errors import DataError, notice
from src.utils.files import local_path

TABLE_SUFFIXES = (*SUFFIXES, ".parquet", ".arrow")
REMEDY = "check the network, or name folders or files with --corpus"
# Tokenizing time grows faster than the text.
LONGEST_PIECE = 100_000
ROWS_AT_ONCE = 1000
WORDS_OF_A_SENTENCE = range(4, 51)
LINE_BREAK = re.compile(r"<br\s*/?>")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]*\s+")


@dataclass(frozen=True)
class Documents:
    """A source of documents that can be read again and again."""

    name: str
    read: Callable[[], Iterator[str]]


def open_documents(source: str, text_column: str | None = None) -> Documents:
    """Opens one source of documents.

    Args:
        source: SOURCE or SOURCE:SPLIT, where SOURCE is a hub id, a folder, or a file. Documents of a .txt file are
            separated by blank lines; other files hold one in each row. A folder that holds .txt files and no tables is
            read file by file, sub-folders included; any other is a corpus in the hub's layout. Without SPLIT, a corpus
            gives its train split.
        text_column: column that holds the text; unset: the one with a usual name.

    Returns:
        The documents.

    Raises:
        DataError: no such source or split, or no column of text.
    """
    name, split = _divide(source)
    path = hub.existing_path(name)
    texts = [] if path is None else _text_files(path)
    if split is not None and path is not None and (texts or path.is_file()):
        raise DataError(f"{name} has no splits, so {source} names nothing; drop :{split}")
    if path is not None and texts:
        if path.is_dir():
            notice(f"text        {len(texts):,} {TEXT_SUFFIX} files of {path}")
        return Documents(path.name, lambda: (document for file in texts for document in _text_documents(file)))
    if path is not None and path.is_file():
        return Documents(path.name, lambda: _row_documents(path, text_column))
    corpus = hub.load_hub(name, REMEDY) if path is None else hub.load_folder(path)
    label = f"{name if path is None else path.resolve().name}:{split or 'train'}"
    rows = hub.split_of(corpus, label, split or "train")
    column = choose_column(rows.column_names, text_column, TEXT_COLUMNS, "--text-column", label)
    return Documents(label, lambda: _column_documents(rows, column, label))


def chain(sources: Iterable[Documents]) -> Documents:
    """Joins sources into one that gives the documents of all, blank ones left out."""
    every = list(sources)

    def read() -> Iterator[str]:
        for source in every:
            yield from (document for document in source.read() if document.strip())

    return Documents(" + ".join(source.name for source in every), read)


def sentences(documents: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Cuts documents into sentences of 4 to 50 words, each of them once whatever its case.

    Yields:
        The number of the document, from 0, and the sentence.
    """
    seen = set()
    for number, document in enumerate(documents):
        for sentence in SENTENCE_END.split(LINE_BREAK.sub(" ", document)):
            text = " ".join(sentence.split())
            if len(text.split()) in WORDS_OF_A_SENTENCE and text.lower() not in seen:
                seen.add(text.lower())
                yield number, text


def settled(source: str) -> str:
    """Names a local source by its full path, so that a resumed run finds it from any folder; hub ids stay."""
    name, split = _divide(source)
    path = local_path(name)
    place = name if path is None else str(path.resolve())
    return place if split is None else f"{place}:{split}"


def pieces(document: str) -> Iterator[str]:
    """Cuts a document, at blanks if it has any, into parts that are tokenized in reasonable time; none is blank."""
    while len(document) > LONGEST_PIECE:
        end = document.rfind(" ", 1, LONGEST_PIECE)
        end = LONGEST_PIECE if end < 0 else end
        if document[:end].strip():
            yield document[:end]
        document = document[end:]
    if document.strip():
        yield document


def _divide(source: str) -> tuple[str, str | None]:
    if ":" not in source or local_path(source) is not None:
        return source, None
    name, _, split = source.rpartition(":")
    return name, split


def _text_files(path: Path) -> list[Path]:
    """Lists what is to be read as plain text: a .txt file itself, or those of a folder without tables."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    if path.is_dir() and any(file.suffix.lower() in TABLE_SUFFIXES for file in files):
        return []
    texts = [file for file in files if file.suffix.lower() == TEXT_SUFFIX]
    for file in texts if path.is_dir() else []:
        if not file.resolve().is_relative_to(path.resolve()):
            raise DataError(f"{file} links to a file outside {path}; put the file itself there, or name it")
    return texts


def _text_documents(path: Path) -> Iterator[str]:
    """Reads the documents of a text file, which blank lines separate."""
    lines: list[str] = []
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for line in stream:
                if line.strip():
                    lines.append(line)
                elif lines:
                    yield "".join(lines)
                    lines = []
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; give a readable file") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8; save the file as UTF-8") from None
    if lines:
        yield "".join(lines)


def _row_documents(path: Path, text_column: str | None) -> Iterator[str]:
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path} is none of {TEXT_SUFFIX}, {', '.join(SUFFIXES)}; convert it, or rename it")
    rows = read_rows(path)
    column = choose_column(rows[0].cells, text_column, TEXT_COLUMNS, "--text-column", path.name)
    for row in rows:
        yield _text(row.cells.get(column), f"{path}:{row.line}")


def _column_documents(rows: Any, column: str, label: str) -> Iterator[str]:
    number = 0
    for part in rows.select_columns([column]).iter(ROWS_AT_ONCE):
        for text in part[column]:
            number += 1
            yield _text(text, f"{label}, row {number}")


def _text(cell: object, place: str) -> str:
    if not isinstance(cell, str):
        raise DataError(f"{place}: the text is {cell!r:.40}, not a string; name another --text-column or mend the row")
    try:
        cell.encode()
    except UnicodeEncodeError:
        raise DataError(f"{place}: half a surrogate pair in the text; remove it") from None
    return cell
