"""Strict readers of tables: a row is read as it is written, or refused with its file and line.

`datasets` and `pandas` read "NA" as a missing value and "007" as 7; these readers leave text alone. They log what
they detect about a file: its separator, encoding and quotes.
"""

import codecs
import csv
import gzip
import io
import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from src.utils.config import TableConfig
from src.utils.errors import DataError, UsageError, counted
from src.utils.files import without_duplicates

logger = logging.getLogger(__name__)
TEXT_COLUMNS = ("sentence", "text", "review", "content", "tweet")
LABEL_COLUMNS = ("label", "labels", "sentiment", "class", "target")
DELIMITED = (".csv", ".tsv")
SEPARATORS = ",\t;|"
LARGEST_UNPACKED, LARGEST_RATIO = 16_000_000, 100  # bytes, or times the packed size; text takes ten times its own
ROWS_AT_ONCE, ROW_BYTES = 1000, 64  # a row takes memory even if it is empty
UNLABELLED = "unsup"  # IMDB's folder of texts without labels
SURROGATE = re.compile("[\ud800-\udfff]")


class Row(NamedTuple):
    """One record: its place, such as "reviews.csv:3", and its cells by column; CSV cells are strings."""

    place: str
    cells: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """The rows of one split, and the class names of the columns for which the source declares them."""

    origin: str
    rows: list[Row] = field(default_factory=list)
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    bad_rows: list[str] = field(default_factory=list)  # the problems of rows that are not in `rows`

    @contextmanager
    def noting_bad_rows(self) -> Iterator[None]:
        """Catches a DataError about a row and adds it to `bad_rows`."""
        try:
            yield
        except DataError as error:
            self.bad_rows.append(str(error))

    def with_class_names(self) -> "Table":
        """Replaces class ids, or lists of them, with names in columns that declare classes; -1 becomes None."""
        for column, names in self.class_names.items():
            for place, cells in self.rows:
                ids = cells[column] if isinstance(cells[column], list) else [cells[column]]
                if wrong := [index for index in ids if index is not None and index >= len(names)]:
                    raise DataError(f"{place}: {column} {wrong[0]} is none of {len(names)} classes; correct it")
                found = [None if index is None or index < 0 else names[index] for index in ids]
                cells[column] = found if ids is cells[column] else found[0]
        return self


def read_table(path: Path, config: TableConfig | None = None, refuse: bool = True) -> Table:
    """Reads a file by its suffix, or a folder of `class_files`; with `refuse` it also refuses bad rows."""
    table, config = Table(path.name), config or TableConfig()
    read = FORMATS.get(table_suffix(path)) if path.is_file() or not class_files(path) else _class_folder
    if read is None:
        raise DataError(f"{path} is none of {', '.join(FORMATS)}, nor .gz of these; convert it, or rename it")
    read(path, config, table)
    if refuse or not table.rows:
        refuse_bad_rows(table.bad_rows, config.skip_bad_rows)
    if table.rows:
        return table.with_class_names()
    raise DataError(f"{path} holds no rows; give a file with a text in each row")


def table_suffix(path: Path) -> str:
    """Returns the suffix that names the format of a file, in lower case: .csv for a.csv.gz."""
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()


def class_files(folder: Path) -> list[Path]:
    """Lists FOLDER/CLASS/*.txt, IMDB's layout, if there are two or more classes besides `UNLABELLED` and no tables."""
    files = [file for file in folder.glob("*/*.txt") if file.name[0] != "." and file.parent.name[0] != "."]
    files = [file for file in sorted(files) if file.parent.name != UNLABELLED]
    is_other = any(folder.glob("*/*/*.txt")) or any(table_suffix(file) in FORMATS for file in folder.rglob("*"))
    return [] if is_other or len({file.parent for file in files}) < 2 else files


def refuse_bad_rows(problems: list[str], skip: bool) -> None:
    """Raises a DataError that lists all bad rows, or with `skip` logs them."""
    summary = f"{counted(len(problems), 'bad row')}: {'; '.join(problems)}"
    if problems and skip:
        logger.info(f"left out    {summary:.500}")
    elif problems:
        raise DataError(problems[0] if len(problems) == 1 else f"{summary}; or leave them out with --skip-bad-rows")


def choose_column(columns: Iterable[str], wanted: str | None, usual: Iterable[str], option: str, where: str) -> str:
    """Finds the column given by `option`, or the only one with a usual name (in any case); else DataError."""
    names = list(columns)
    if wanted in names:
        return wanted
    meant = set(map(_folded, usual if wanted is None else [wanted]))
    found = [name for name in names if _folded(name) in meant]
    if len(found) == 1:
        return found[0]
    problem = "several columns could be meant" if found else f"no column {wanted or ' or '.join(usual)}"
    raise DataError(f"{where}: {problem}; name one of {', '.join(names)} with {option}")


def read_texts(table: Table, config: TableConfig) -> Iterator[tuple[Row, tuple[str, ...]]]:
    """Yields rows with their text, or two texts; the problems of bad rows go to `bad_rows`."""
    wanted = [choose_column(table.rows[0].cells, config.text_column, TEXT_COLUMNS, "--text-column", table.origin)]
    if (pair := config.text_pair_column) is not None:
        wanted.append(choose_column(table.rows[0].cells, pair, (), "--text-pair-column", table.origin))
    for row in table.rows:
        with table.noting_bad_rows():
            yield row, tuple(text_cell(row.cells.get(column), column, row.place) for column in wanted)


def read_rows(path: Path, config: TableConfig) -> tuple[list[dict[str, Any]], list[tuple[str, ...]]]:
    """Reads the cells of a table's rows, and the text or two texts of each; labels are optional."""
    table = read_table(path, config, refuse=False)
    found = list(read_texts(table, config))
    refuse_bad_rows(table.bad_rows, config.skip_bad_rows)
    return [row.cells for row, _ in found], [texts for _, texts in found]


def text_cell(cell: Any, column: str, place: str) -> str:
    """Returns a cell that must be text; raises a DataError if it is not, or holds what `tokenizers` cannot read."""
    if not isinstance(cell, str):
        raise DataError(f"{place}: {column!r} is {cell!r:.40}, not a string; correct the row, or write it in quotes")
    if SURROGATE.search(cell):
        raise DataError(f"{place}: half a surrogate pair in {column!r}; remove it")
    return cell


def text_lines(path: Path) -> Iterator[str]:
    """Reads the lines of a UTF-8 file, or of standard input (-), with their ends, one at a time."""
    number = 1
    try:
        with sys.stdin.buffer if str(path) == "-" else path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; give a readable file") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}:{number}: not UTF-8; save the file as UTF-8") from None


def _folded(name: str | None) -> str:
    return (name or "").strip().casefold()


def _content(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no regular file")
        if path.suffix.lower() != ".gz":
            return path.read_bytes()
        most = max(LARGEST_UNPACKED, LARGEST_RATIO * path.stat().st_size)
        with gzip.open(path) as stream:
            content = stream.read(most + 1)
        if len(content) <= most:
            return content
        raise ValueError(f"it unpacks to more than {most:,} bytes")
    except Exception as error:  # from the disk or from gzip
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {path}: {reason}; give a readable file") from None


def _found(path: Path, what: str) -> None:
    logger.info(f"read        {path.name}: {what}")


def _text(path: Path, config: TableConfig) -> str:
    raw, encoding = _content(path), config.encoding or "utf-8"
    if config.encoding is None and raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
        _found(path, "it is in UTF-16, as its byte order mark says")
    try:
        text = raw.decode(encoding).removeprefix("\ufeff")
        before, nul, _ = text.partition("\0")
        if not nul:
            return text
    except LookupError:
        raise UsageError(f"--encoding {encoding} is unknown to Python; write it like utf-8 or cp1252") from None
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode(encoding, "ignore")
    place = f"{path}:{before.count(chr(10)) + 1}"
    raise DataError(f"{place}: not text in {encoding.upper()}; name its --encoding, or save the file as UTF-8")


def _lines(text: str) -> list[str]:
    """Splits a text into lines with their ends, and drops blank lines at the end."""
    # Not str.splitlines: it also splits at U+2028 and form feeds, which may stand in a text.
    lines = list(io.StringIO(text, newline=""))
    while lines and not lines[-1].strip(" \r\n"):
        lines.pop()
    return lines


def _delimited(path: Path, config: TableConfig, table: Table) -> None:
    csv.field_size_limit(2**31 - 1)  # a review may be longer than the default of 128 KiB
    lines = _lines(_text(path, config))
    first = int(bool(lines and re.fullmatch(r"sep=.\s*", lines[0])))  # tells Excel the separator
    separator = lines[0][4] if first else _separator(path, config, lines)
    is_quoted = table_suffix(path) != ".tsv" or separator != "\t" or _is_quoted(path, lines)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE
    records = csv.reader(lines[first:], delimiter=separator, quoting=quoting, strict=True)
    header = list[str]()
    while records.line_num < len(lines) - first:
        place = f"{path}:{first + records.line_num + 1}"
        try:
            cells = next(records)
        except csv.Error as error:
            problem = "a quote that is opened in this row is not closed before a comma or line end"
            table.bad_rows.append(f'{place}: {problem}; close it, and write a quote inside the cell as ""')
            if not header or "unexpected end" in str(error):  # it may have swallowed any number of rows
                raise DataError(table.bad_rows[-1]) from None
            continue
        if not header:
            header = _column_names(path, cells) if config.header else [str(n) for n in range(1, len(cells) + 1)]
            if config.header:
                continue
        if len(cells) == len(header):
            table.rows.append(Row(place, dict(zip(header, cells, strict=True))))
        else:
            problem = f"{counted(len(cells), 'cell')} under {counted(len(header), 'column')}"
            problem = f"{problem}; quote a cell with commas" if cells else "blank line between rows"
            table.bad_rows.append(f"{place}: {problem}")


def _separator(path: Path, config: TableConfig, lines: list[str]) -> str:
    """Finds the separator that gives the header the most known names; ties go to the suffix's own, then most columns.

    `csv.Sniffer` takes "text<tab>label, as given" for comma-separated, and finds nothing in the header "text".
    """
    given, own = config.separator, "\t" if table_suffix(path) == ".tsv" else ","
    if given is not None and given != "tab" and (len(given) != 1 or given in '"\r\n'):
        raise UsageError(f"--separator {given!r} is not one character; give one, or tab")
    known = {*TEXT_COLUMNS, *LABEL_COLUMNS, _folded(config.text_column), _folded(config.label_column)}

    def fit(separator: str) -> tuple[int, bool, int]:
        names = next(csv.reader(lines, delimiter=separator), [])
        return sum(_folded(name) in known for name in names), separator == own and len(names) > 1, len(names)

    found = max((own, *SEPARATORS), key=fit) if given is None else "\t" if given == "tab" else given
    if given is None and found != own:
        _found(path, f"its cells are separated by {found!r}")
    return found


def _is_quoted(path: Path, lines: list[str]) -> bool:
    """Is true if a TSV's header is quoted, or `csv` would write the same file; else, as in GLUE, quotes are text."""
    text, written = "".join(lines).replace("\r\n", "\n").rstrip("\n"), io.StringIO(newline="")
    with suppress(csv.Error):
        csv.writer(written, "excel-tab", lineterminator="\n").writerows(csv.reader(lines, "excel-tab", strict=True))
    is_quoted = '"' in text and (text[0] == '"' or written.getvalue().rstrip("\n") == text)
    if is_quoted:
        _found(path, "its quotes enclose cells, as in CSV")
    return is_quoted


def _column_names(path: Path, cells: list[str]) -> list[str]:
    """Names columns by the header, and by their number where the name is blank or repeated."""
    counts = Counter(cells)
    names = [name if name.strip() and counts[name] == 1 else str(number) for number, name in enumerate(cells, start=1)]
    if unnamed := [name for name in names if name not in counts]:
        _found(path, f"column {', '.join(unnamed):.60} has no name of its own (a pandas index?), so its number is used")
    return names


def _json(path: Path, config: TableConfig, table: Table) -> None:
    """Reads an array of objects, an object that holds one such array, or one object per line."""
    text, document = _text(path, config), None
    try:
        document = json.loads(text, object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("["):
            line = getattr(error, "lineno", 1)
            raise DataError(f"{path}:{line}: not JSON ({error}); write an array of objects") from None
    if isinstance(document, dict) and not set(map(_folded, document)) & set(TEXT_COLUMNS):
        arrays = [name for name, rows in document.items() if isinstance(rows, list) and {*map(type, rows)} == {dict}]
        if len(arrays) == 1:
            _found(path, f"its rows are in {arrays[0]!r}")
            document = document[arrays[0]]
    entries = document if isinstance(document, list) else _lines(text)
    for number, entry in enumerate(entries, start=1):
        place = f"{path}, row {number}" if entries is document else f"{path}:{number}"
        try:
            cells = entry if entries is document else json.loads(entry, object_pairs_hook=without_duplicates)
            if not isinstance(cells, dict):
                raise ValueError("no object")
            table.rows.append(Row(place, cells))
        except (ValueError, RecursionError) as error:
            problem = f"not a JSON object ({getattr(error, 'msg', error)}); write one per line, or an array of them"
            table.bad_rows.append(f"{place}: {problem if str(entry).strip() else 'blank line between rows'}")


def _parquet(path: Path, config: TableConfig, table: Table) -> None:
    from pyarrow import BufferReader, parquet

    content = _content(path)
    try:
        file, unpacked = parquet.ParquetFile(BufferReader(content)), 0
        info = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", "{}"))  # as `datasets` writes it
        for name, declared in info.get("info", {}).get("features", {}).items():
            kind = declared.get("feature", declared)  # the kind of a list's elements
            if kind.get("_type") == "ClassLabel" and "int64" in str(file.schema_arrow.field(name).type):
                table.class_names[name] = tuple(kind["names"])
        most = max(LARGEST_UNPACKED, LARGEST_RATIO * len(content))
        for batch in file.iter_batches(ROWS_AT_ONCE):
            unpacked += batch.nbytes + ROW_BYTES * len(batch)
            if unpacked > most:
                raise ValueError(f"it unpacks to more than {most:,} bytes")
            first = len(table.rows) + 1
            table.rows.extend(Row(f"{path}, row {n}", cells) for n, cells in enumerate(batch.to_pylist(), start=first))
    except Exception as error:  # a damaged file can raise anything
        raise DataError(f"cannot read {path}: {str(error).partition(chr(10))[0]}; write it as Parquet again") from None


def _class_folder(path: Path, config: TableConfig, table: Table) -> None:
    files = class_files(path)
    for file in files:
        with table.noting_bad_rows():
            table.rows.append(Row(str(file), {"text": _text(file, config), "label": file.parent.name}))
    classes = ", ".join(dict.fromkeys(file.parent.name for file in files))
    left_out = f"; {UNLABELLED}, without labels, is left out" if (path / UNLABELLED).is_dir() else ""
    _found(path, f"its folders {classes} are the classes{left_out}")


FORMATS: dict[str, Callable[[Path, TableConfig, Table], None]] = {
    ".csv": _delimited,  # RFC 4180
    ".tsv": _delimited,  # without quoting, unless all of it is quoted as in CSV
    ".jsonl": _json,
    ".json": _json,
    ".parquet": _parquet,
}
