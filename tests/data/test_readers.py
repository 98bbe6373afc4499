import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data.readers import choose_column, read_table, text_cell
from src.utils.errors import DataError
from tests.data.conftest import write

Rows = list[tuple[int, dict[str, object]]]


def cells(path: Path) -> Rows:
    return [(int(row.place.removeprefix(f"{path}:")), row.cells) for row in read_table(path).rows]


def row(line: int, text: object, label: object) -> tuple[int, dict[str, object]]:
    return line, {"text": text, "label": label}


A1 = [row(2, "a", "1")]
LONG = "word " * 100_000
VALUES = '{"text": "NA", "label": 1, "more": [1.5, null]}\n{"text": "b\\n", "label": true}\n\n'
GOOD: dict[str, tuple[str, str | bytes, Rows]] = {
    "quotes": ("a.CSV", 'text,label\n"a, ""b""\n\nc",1\nNA,007\n', [row(2, 'a, "b"\n\nc', "1"), row(5, "NA", "007")]),
    "Windows line ends": ("a.csv", "text,label\r\na,1\r\n", A1),
    "old Macintosh line ends": ("a.csv", "text,label\ra,1\r", A1),
    "byte order mark, no final newline": ("a.csv", b"\xef\xbb\xbftext,label\na,1", A1),
    "blank lines at the end": ("a.csv", "text,label\na,1\n\n\r\n \n", A1),
    "other line separators are text": ("a.csv", "text,label\na\u2028b\x0cc,\x0c\n", [row(2, "a\u2028b\x0cc", "\x0c")]),
    "line ends inside a cell": ("a.csv", 'text,label\n"a\r\nb\rc",1\n', [row(2, "a\r\nb\rc", "1")]),
    "a long cell": ("a.csv", f"text,label\n{LONG},1\n", [row(2, LONG, "1")]),
    "quotes in TSV": ("a.tsv", 'text\tlabel\n"a\t1\nb"c, d\t0\n', [row(2, '"a', "1"), row(3, 'b"c, d', "0")]),
    "JSONL": ("a.jsonl", VALUES, [(1, {"text": "NA", "label": 1, "more": [1.5, None]}), row(2, "b\n", True)]),
    ".json is JSONL": ("a.json", '{"text": "a", "label": "1"}', [row(1, "a", "1")]),
}


@pytest.mark.parametrize("name, content, expected", GOOD.values(), ids=GOOD)
def test_rows_are_read_as_written(tmp_path: Path, name: str, content: str | bytes, expected: Rows) -> None:
    csv.field_size_limit(131_072)  # the default
    assert cells(write(tmp_path, name, content)) == expected


BAD: dict[str, tuple[str, str | bytes, str]] = {
    "empty": ("a.jsonl", "", "a.jsonl holds no rows"),
    "header alone": ("a.tsv", "text\tlabel", "a.tsv holds no rows"),
    "too few cells": ("a.csv", "text,label\na,1\nb\n", "a.csv:3: 1 cell under 2"),
    "too many cells": ("a.tsv", "text\tlabel\na\tb\t1\n", "a.tsv:2: 3 cells under 2"),
    "blank line inside CSV": ("a.csv", "text,label\na,1\n\nb,0\n", "a.csv:3: blank line"),
    "blank line inside JSONL": ("a.jsonl", '{"a": 1}\n \n{"a": 2}\n', "a.jsonl:2: blank line"),
    "quote never closed": ("a.csv", 'text,label\na,1\n"b,0\nc,1\nd,0\n', "a.csv:3: a quote"),
    "quote of a row of several lines": ("a.csv", 'text,label\na"b,1\n"c ""x""\n\nd","e\nf,1\n', "a.csv:3: a quote"),
    "letters after a closed quote": ("a.csv", 'text,label\r\na,1\r\n"b"c,0\r\n', "a.csv:3: a quote"),
    "many quotes": ("a.csv", 'text,label\n"a,1\n' + 'say ""b"", c,1\n' * 100_000, "a.csv:2: a quote"),
    "not UTF-8": ("a.csv", b"text,label\na,1\ncaf\xe9,0\n", "a.csv:3: not text"),
    "NUL": ("a.csv", b"text,label\n\0a,1\n", "a.csv:2: not text"),
    "broken JSON": ("a.jsonl", '{"a": 1}\n{"a": \n', "a.jsonl:2: not a JSON object ("),
    "array": ("a.json", "[1]\n", "a.json, row 1: not a JSON object"),
    "repeated key": ("a.jsonl", '{"a": 1, "a": 2}\n', "a.jsonl:1: not a JSON object (key 'a'"),
    "nested without end": ("a.jsonl", "[" * 100_000 + "\n", "a.jsonl:1: not JSON"),
    "unknown suffix": ("a.xlsx", "x", "a.xlsx is none of .csv, .tsv, .jsonl, .json"),
}


@pytest.mark.parametrize("name, content, fact", BAD.values(), ids=BAD)
def test_what_is_not_a_clean_table_is_refused(tmp_path: Path, name: str, content: str | bytes, fact: str) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert f"{tmp_path}/{fact}" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*gone\.csv"):
        read_table(tmp_path / "gone.csv")


@pytest.mark.parametrize(
    ("columns", "wanted", "found"),
    [
        (["id", "text", "label"], None, "text"),
        (["sentence", "text"], "text", "text"),
        (["body", "text"], "body", "body"),
        (["id", "Text "], None, "Text "),
        (["text", "id"], "body", None),
        (["text", "Sentence"], None, None),
        (["text", "TEXT"], "TEXT", "TEXT"),
        (["text", "TEXT"], "Text", None),
    ],
)
def test_the_column_is_the_one_named_else_the_one_usual_name_there(
    columns: list[str], wanted: str | None, found: str | None
) -> None:
    arguments = columns, wanted, ("sentence", "text"), "--text-column", "reviews.csv"
    if found is None:
        with pytest.raises(DataError, match=rf"reviews\.csv: .*{', '.join(columns)} with --text-column"):
            choose_column(*arguments)
    else:
        assert choose_column(*arguments) == found


def test_a_cell_that_is_no_text_is_refused_with_its_place() -> None:
    assert text_cell(" NA ", "text", "a.csv:2") == " NA "
    for cell in (5, None, ["a"], "a\ud800b"):
        with pytest.raises(DataError, match=r"^a\.csv:2: .*'text'"):
            text_cell(cell, "text", "a.csv:2")


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
ROWS = st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6).filter(lambda rows: rows[-1] != ("", ""))


@given(rows=ROWS, end=st.sampled_from(["\n", "\r\n"]), everything=st.booleans())
def test_what_csv_and_json_write_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], end: str, everything: bool
) -> None:
    everything |= any("\r" in cell for row in rows for cell in row)  # which older Pythons leave unquoted before "\n"
    folder = tmp_path_factory.mktemp("written")
    with (folder / "a.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator=end, quoting=csv.QUOTE_ALL if everything else csv.QUOTE_MINIMAL)
        writer.writerows([("text", "label"), *rows])
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows]
    (folder / "a.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8", newline="")
    for name in ("a.csv", "a.jsonl"):
        assert [tuple(row.cells.values()) for row in read_table(folder / name).rows] == rows
