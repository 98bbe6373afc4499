"""Strict readers for CSV, TSV and JSONL: a row is read as it is written, or refused with its file and line.

`datasets` and `pandas` read "NA" as a missing value and "007" as 7; these readers leave text alone.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.utils.errors import DataError
from src.utils.files import without_duplicates

TEXT_COLUMNS = ("sentence", "text", "review", "content")
TEXT_SUFFIX = ".txt"  # of plain text, which pre-training reads
JSON_SUFFIXES = (".jsonl", ".json")
SUFFIXES = (".csv", ".tsv", *JSON_SUFFIXES)

# One CSV field and what ends it. Possessive quantifiers: a stray quote must not cost a scan per character.
_FIELD = re.compile(r'(?:"[^"]*+(?:""[^"]*+)*+"|(?:[^",\r\n][^,\r\n]*+)?)(?:,|\r\n|\r|\n|\Z)')
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Row:
    """One record: the line it starts on and its cells by column, text unless JSONL holds another value."""

    line: int
    cells: dict[str, Any]


@dataclass(frozen=True)
class RawSplit:
    """The rows of one split, where they are from, and label names by column where the source declares them."""

    origin: str
    place: str
    """What stands before a row's number in messages: "reviews.csv:"."""
    rows: list[Row]
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)


def read_rows(path: Path) -> list[Row]:
    """Reads a table from a UTF-8 file, in the format its suffix names.

    Args:
        path: a .csv (RFC 4180) or .tsv (no quoting) file with a header, or a .jsonl or .json file, one object a line.

    Returns:
        The rows in order, at least one.

    Raises:
        DataError: the file cannot be read, holds no rows, or a row is malformed; the message names file and line.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path} is none of {', '.join(SUFFIXES)}; convert it, or rename it to what it is")
    # Not str.splitlines: it also splits at U+2028 and form feeds, which may stand in a text.
    lines = list(io.StringIO(_read_text(path), newline=""))
    while lines and not lines[-1].strip(" \r\n"):
        lines.pop()
    rows = list(_json_rows(path, lines) if suffix in JSON_SUFFIXES else _delimited_rows(path, lines))
    if not rows:
        raise DataError(f"{path} holds no rows; give a file with a text in each row")
    return rows


def choose_column(columns: Iterable[str], wanted: str | None, usual: Iterable[str], option: str, where: str) -> str:
    """Finds the column that is meant.

    Args:
        columns: names that are there.
        wanted: the name the user gave, or None.
        usual: names to look for when the user gave none.
        option: the command-line option that names the column.
        where: the source, as messages name it.

    Returns:
        One of `columns`.

    Raises:
        DataError: no column fits, or several do.
    """
    names = list(columns)
    found = [name for name in names if (name in usual if wanted is None else name == wanted)]
    if len(found) == 1:
        return found[0]
    problem = "several columns could be meant" if found else f"no column {wanted or ' or '.join(usual)}"
    raise DataError(f"{where}: {problem}; name one of {', '.join(names)} with {option}")


def clean_row(text: object, label: object, place: str) -> tuple[str, str | None]:
    """Checks the two cells of a row that matter.

    Args:
        text: must be a string that says something.
        label: text, a whole number, a boolean, or None.
        place: where the row stands, as messages name it.

    Returns:
        The text as it is, and the label as text or, where it is empty, null or -1, None.

    Raises:
        DataError: the text is empty or no text, the label a fraction or a structure, or one cannot be written.
    """
    if not isinstance(text, str):
        raise DataError(f"{place}: the text is {text!r:.40}, not a string; quote it")
    if not text.strip():
        raise DataError(f"{place}: empty text; remove the row")
    if "\0" in text or _SURROGATE.search(text):
        raise DataError(f"{place}: NUL or half a surrogate pair in the text; remove it")
    if isinstance(label, str) and ("\0" in label or _SURROGATE.search(label)):
        raise DataError(f"{place}: NUL or half a surrogate pair in the label; remove it")
    if label is not None and not isinstance(label, str | int):
        raise DataError(f"{place}: the label is {label!r:.40}; write a name or a whole number")
    name = str(label).lower() if isinstance(label, bool) else str(label)
    return text, None if label is None or name.strip() in ("", "-1") else name


def _read_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; give a readable file") from None
    if (position := raw.find(b"\0")) >= 0:
        line = raw.count(b"\n", 0, position) + 1
        raise DataError(f"NUL byte at {path}:{line}; save the file as UTF-8 text")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"not UTF-8 at {path}:{line}; save the file as UTF-8") from None


def _delimited_rows(path: Path, lines: list[str]) -> Iterator[Row]:
    records = _records(path, lines)
    _, header = next(records, (1, []))
    uses = Counter(header)
    for name in header:
        if not name.strip() or uses[name] > 1:
            raise DataError(f"{path}:1: column name {name!r} is empty or repeated; name every column once")
    for line, cells in records:
        if len(cells) != len(header):
            found = f"{len(cells)} cell{'s' * (len(cells) != 1)} under {len(header)} column names"
            raise DataError(f"{path}:{line}: {found}; mend the row (in a CSV, quote a cell that holds a comma)")
        yield Row(line, dict(zip(header, cells, strict=True)))


def _records(path: Path, lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(2**31 - 1)  # a review may be longer than the default of 128 KiB
    tabs = path.suffix.lower() == ".tsv"
    reader = csv.reader(lines, "excel-tab", quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            line = _broken_quote(lines, start)
            problem = "the quote opened here is not closed before a comma or line end"
            raise DataError(f'{path}:{line}: {problem}; close it, and write a quote inside the cell as ""') from None
        if not cells:
            raise _blank_line(path, start)
        yield start, cells


def _broken_quote(lines: list[str], start: int) -> int:
    """Finds the line of the quote that broke the record; the reader itself only knows where it noticed."""
    rest = "".join(lines[start - 1 :])
    position = 0
    while position < len(rest) and (field := _FIELD.match(rest, position)):
        position = field.end()
    return start + len(list(io.StringIO(rest[: position + 1], newline=""))) - 1


def _json_rows(path: Path, lines: list[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise _blank_line(path, number)
        try:
            cells = json.loads(line, object_pairs_hook=without_duplicates)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise DataError(f"{path}:{number}: not JSON ({reason}); write one JSON object a line") from None
        if not isinstance(cells, dict):
            raise DataError(f"{path}:{number}: not a JSON object; write one JSON object a line")
        yield Row(number, cells)


def _blank_line(path: Path, line: int) -> DataError:
    return DataError(f"{path}:{line}: blank line between rows; remove it")
