"""Strict readers of tables: a row is read as it is written, or refused with its file and line.

`datasets` and `pandas` read "NA" as a missing value and "007" as 7; these readers leave text alone.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from src.utils.errors import DataError
from src.utils.files import without_duplicates

TEXT_COLUMNS = ("sentence", "text", "review", "content")
SURROGATE = re.compile("[\ud800-\udfff]")


class Row(NamedTuple):
    """One record: where it stands, as in "reviews.csv:3", and its cells by column; only JSON holds more than text."""

    place: str
    cells: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """The rows of one split, with the names of the classes by column where the source declares them."""

    origin: str
    rows: list[Row]
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)


def read_rows(path: Path) -> list[Row]:
    """Reads a table in UTF-8, in the format that its suffix names (`FORMATS`): at least one row.

    Raises:
        DataError: the file cannot be read, holds no rows, or a row is malformed; the message names file and line.
    """
    read = FORMATS.get(path.suffix.lower())
    if read is None:
        raise DataError(f"{path} is none of {', '.join(FORMATS)}; convert it, or rename it to what it is")
    if rows := list(read(path)):
        return rows
    raise DataError(f"{path} holds no rows; give a file with a text in each row")


def choose_column(columns: Iterable[str], wanted: str | None, usual: Iterable[str], option: str, where: str) -> str:
    """Finds the column that the user named by `option`, or the only one with a usual name, else raises a DataError."""
    names = list(columns)
    found = [name for name in names if (name in usual if wanted is None else name == wanted)]
    if len(found) == 1:
        return found[0]
    problem = "several columns could be meant" if found else f"no column {wanted or ' or '.join(usual)}"
    raise DataError(f"{where}: {problem}; name one of {', '.join(names)} with {option}")


def text_cell(row: Row, column: str) -> str:
    """Returns a cell that must be text; raises a DataError if it is not, or holds what `tokenizers` cannot read."""
    cell = row.cells.get(column)
    if not isinstance(cell, str):
        raise DataError(f"{row.place}: {column!r} is {cell!r:.40}, not a string; mend the row, or write it in quotes")
    if SURROGATE.search(cell):
        raise DataError(f"{row.place}: half a surrogate pair in {column!r}; remove it")
    return cell


def _lines(path: Path) -> list[str]:
    """Reads the lines of a text file with their ends, but for blank ones at the end of the file."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; give a readable file") from None
    try:
        text, broken = raw.decode("utf-8-sig"), raw.find(b"\0")
    except UnicodeDecodeError as error:
        text, broken = "", error.start
    if broken >= 0:
        line = raw.count(b"\n", 0, broken) + 1
        raise DataError(f"{path}:{line}: not text in UTF-8; save the file as UTF-8")
    # Not str.splitlines: it also splits at U+2028 and form feeds, which may stand in a text.
    lines = list(io.StringIO(text, newline=""))
    while lines and not lines[-1].strip(" \r\n"):
        lines.pop()
    return lines


def _delimited(path: Path) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # a review may be longer than the default of 128 KiB
    if path.suffix.lower() == ".tsv":
        records = csv.reader(_lines(path), "excel-tab", quoting=csv.QUOTE_NONE)
    else:
        records = csv.reader(_lines(path), strict=True)
    header: list[str] = []
    while True:
        place = f"{path}:{records.line_num + 1}"
        try:
            cells = next(records, None)
        except csv.Error:
            problem = "a quote that is opened in this row is not closed before a comma or line end"
            raise DataError(f'{place}: {problem}; close it, and write a quote inside the cell as ""') from None
        if cells is None:
            return
        if not cells:
            raise DataError(f"{place}: blank line between rows; remove it")
        if not header:
            header = cells
            if unusable := [name for name in header if not name.strip() or header.count(name) > 1]:
                raise DataError(f"{place}: column name {unusable[0]!r} is empty or repeated; name every column once")
        elif len(cells) != len(header):
            problem = f"{len(cells)} cell{'s' * (len(cells) != 1)} under {len(header)} column names"
            raise DataError(f"{place}: {problem}; mend the row (in a CSV, quote a cell that holds a comma)")
        else:
            yield Row(place, dict(zip(header, cells, strict=True)))


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        place = f"{path}:{number}"
        if not line.strip():
            raise DataError(f"{place}: blank line between rows; remove it")
        try:
            cells = json.loads(line, object_pairs_hook=without_duplicates)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise DataError(f"{place}: not JSON ({reason}); write one JSON object a line") from None
        if not isinstance(cells, dict):
            raise DataError(f"{place}: not a JSON object; write one JSON object a line")
        yield Row(place, cells)


FORMATS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _delimited,  # RFC 4180
    ".tsv": _delimited,  # without quoting
    ".jsonl": _json_lines,
    ".json": _json_lines,
}
