import csv
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.data.readers import choose_column, clean_row, read_rows
from src.utils.errors import DataError


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def cells(path: Path) -> list[tuple[int, dict[str, object]]]:
    return [(row.line, row.cells) for row in read_rows(path)]


GOOD = {
    "csv_cells_stay_text": ("a.csv", "text,label\nNA,007\n", [(2, {"text": "NA", "label": "007"})]),
    "csv_quoted_comma_quote_and_newline": (
        "a.csv",
        'text,label\n"a, ""b""\n\nc",1\nd,0\n',
        [(2, {"text": 'a, "b"\n\nc', "label": "1"}), (5, {"text": "d", "label": "0"})],
    ),
    "csv_windows_line_ends": ("a.csv", "text,label\r\na,1\r\n", [(2, {"text": "a", "label": "1"})]),
    "csv_old_macintosh_line_ends": ("a.csv", "text,label\ra,1\r", [(2, {"text": "a", "label": "1"})]),
    "csv_byte_order_mark": ("a.csv", b"\xef\xbb\xbftext,label\na,1\n", [(2, {"text": "a", "label": "1"})]),
    "csv_no_final_newline": ("a.csv", "text,label\na,1", [(2, {"text": "a", "label": "1"})]),
    "csv_blank_lines_at_the_end": ("a.csv", "text,label\na,1\n\n\r\n \n", [(2, {"text": "a", "label": "1"})]),
    "csv_unusual_line_separators_are_text": (
        "a.csv",
        "text,label\na\u2028b\x0cc,1\n",
        [(2, {"text": "a\u2028b\x0cc", "label": "1"})],
    ),
    "csv_form_feed_is_a_text_not_a_blank_line": (
        "a.csv",
        "text\na\n\x0c\n",
        [(2, {"text": "a"}), (3, {"text": "\x0c"})],
    ),
    "csv_line_ends_inside_a_cell": ("a.csv", 'text,label\n"a\r\nb\rc",1\n', [(2, {"text": "a\r\nb\rc", "label": "1"})]),
    "suffix_in_capitals": ("a.CSV", "text,label\na,1\n", [(2, {"text": "a", "label": "1"})]),
    "tsv_quotes_are_letters": (
        "a.tsv",
        'text\tlabel\n"a\t1\nb"c, d\t0\n',
        [(2, {"text": '"a', "label": "1"}), (3, {"text": 'b"c, d', "label": "0"})],
    ),
    "jsonl_values_keep_their_type": (
        "a.jsonl",
        '{"text": "NA", "label": 1, "more": [1.5, null]}\n{"text": "b\\n", "label": true}\n\n',
        [(1, {"text": "NA", "label": 1, "more": [1.5, None]}), (2, {"text": "b\n", "label": True})],
    ),
    "json_is_read_as_json_lines": ("a.json", '{"text": "a", "label": "x"}', [(1, {"text": "a", "label": "x"})]),
}


@pytest.mark.parametrize("name, content, expected", GOOD.values(), ids=GOOD)
def test_rows_are_read_as_written(
    tmp_path: Path, name: str, content: str | bytes, expected: list[tuple[int, dict[str, object]]]
) -> None:
    assert cells(write(tmp_path, name, content)) == expected


BAD = {
    "empty_csv": ("a.csv", "", "a.csv holds no rows"),
    "csv_of_blank_lines": ("a.csv", "\n\n", "a.csv holds no rows"),
    "csv_header_only": ("a.csv", "text,label\n", "a.csv holds no rows"),
    "tsv_header_only": ("a.tsv", "text\tlabel", "a.tsv holds no rows"),
    "empty_jsonl": ("a.jsonl", "", "a.jsonl holds no rows"),
    "repeated_column": ("a.csv", "text,text\na,1\n", "a.csv:1: column name 'text' is empty or repeated"),
    "nameless_column": ("a.tsv", "text\t \na\t1\n", "a.tsv:1: column name ' ' is empty or repeated"),
    "csv_too_few_cells": ("a.csv", "text,label\na,1\nb\n", "a.csv:3: 1 cell under 2 column names"),
    "csv_too_many_cells": ("a.csv", "text,label\na,b,1\n", "a.csv:2: 3 cells under 2 column names"),
    "tsv_too_many_cells": ("a.tsv", "text\tlabel\na\tb\t1\n", "a.tsv:2: 3 cells under 2 column names"),
    "cells_are_counted_below_a_long_row": ("a.csv", 'text,label\n"a\nb",1\nc\n', "a.csv:4: 1 cell "),
    "csv_blank_line_inside": ("a.csv", "text,label\na,1\n\nb,0\n", "a.csv:3: blank line"),
    "csv_blank_line_first": ("a.csv", "\ntext,label\na,1\n", "a.csv:1: blank line"),
    "tsv_blank_line_inside": ("a.tsv", "text\tlabel\n\na\t1\n", "a.tsv:2: blank line"),
    "jsonl_blank_line_inside": ("a.jsonl", '{"a": 1}\n \n{"a": 2}\n', "a.jsonl:2: blank line"),
    "quote_never_closed": ("a.csv", 'text,label\na,1\n"b,0\nc,1\nd,0\n', "a.csv:3: the quote opened here"),
    "quote_closed_by_a_later_row": ("a.csv", 'text,label\n"b,0\nc,1\n"d",0\n', "a.csv:2: the quote opened here"),
    "second_quote_of_a_long_row": (
        "a.csv",
        'text,label\na"b,1\n"c ""x""\n\nd","e\nf,1\n',
        "a.csv:5: the quote opened here",
    ),
    "letters_after_a_closed_quote": ("a.csv", 'text,label\r\na,1\r\n"b"c,0\r\n', "a.csv:3: the quote opened here"),
    "not_utf8": ("a.csv", b"text,label\na,1\ncaf\xe9,0\n", "not UTF-8 at {path}:3"),
    "utf16": ("a.csv", "text,label\na,1\n".encode("utf-16"), "a.csv:1"),
    "nul_byte": ("a.tsv", b"text\tlabel\na\0b\t1\n", "NUL byte at {path}:2"),
    "nul_byte_first": ("a.csv", b"\0text,label\na,1\n", "NUL byte at {path}:1"),
    "not_utf8_below_a_blank_line": ("a.csv", b"\n\xe9\n", "not UTF-8 at {path}:2"),
    "nul_byte_below_a_blank_line": ("a.csv", b"\n\0\n", "NUL byte at {path}:2"),
    "jsonl_broken": ("a.jsonl", '{"a": 1}\n{"a": \n', "a.jsonl:2: not JSON (Expecting value)"),
    "jsonl_two_objects_in_a_line": ("a.jsonl", '{"a": 1}{"a": 2}\n', "a.jsonl:1: not JSON (Extra data)"),
    "jsonl_array": ("a.json", "[1]\n", "a.json:1: not a JSON object"),
    "jsonl_repeated_key": ("a.jsonl", '{"a": 1, "a": 2}\n', "a.jsonl:1: not JSON (key 'a' stands twice)"),
    "jsonl_bottomless": ("a.jsonl", "[" * 100_000 + "\n", "a.jsonl:1: not JSON"),
    "unknown_suffix": ("a.parquet", "x", "a.parquet is none of .csv, .tsv, .jsonl, .json"),
}


@pytest.mark.parametrize("name, content, fragment", BAD.values(), ids=BAD)
def test_what_is_not_a_clean_table_is_refused_in_one_line(
    tmp_path: Path, name: str, content: str | bytes, fragment: str
) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(DataError) as caught:
        read_rows(path)
    message = str(caught.value)
    assert fragment.format(path=path) in message if "{path}" in fragment else fragment in message
    assert str(path) in message and "; " in message and "\n" not in message


def test_a_missing_file_a_folder_and_a_locked_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"cannot read .*gone\.csv: No such file"):
        read_rows(tmp_path / "gone.csv")
    with pytest.raises(DataError, match=r"cannot read .*folder\.csv: "):
        read_rows(tmp_path / "folder.csv")

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    # Not chmod: root, who runs tests in containers, may read everything.
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"cannot read .*locked\.csv: Permission denied"):
        read_rows(tmp_path / "locked.csv")


def test_a_cell_may_be_longer_than_the_csv_module_allows_by_default(tmp_path: Path) -> None:
    csv.field_size_limit(131_072)
    text = "word " * 100_000
    assert cells(write(tmp_path, "a.csv", f"text,label\n{text},1\n")) == [(2, {"text": text, "label": "1"})]


def test_an_unclosed_quote_before_many_rows_is_found_quickly(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'text,label\n"a,1\n' + 'say ""b"", c,1\n' * 100_000)
    with pytest.raises(DataError, match=r"a\.csv:2: the quote"):
        read_rows(path)


def choose(columns: list[str], wanted: str | None = None) -> str:
    return choose_column(columns, wanted, ("sentence", "text"), "--text-column", "reviews.csv")


def test_the_column_is_the_one_named_else_the_one_usual_name_there() -> None:
    assert choose(["id", "text", "label"]) == "text"
    assert choose(["sentence", "text"], "text") == "text"
    assert choose(["body", "text"], "body") == "body"


@pytest.mark.parametrize(
    "columns, wanted, fragment",
    [
        (["id", "Text"], None, "reviews.csv: no column sentence or text; name one of id, Text with --text-column"),
        (["text", "id"], "body", "reviews.csv: no column body; name one of text, id with --text-column"),
        (["text", "sentence"], None, "reviews.csv: several columns could be meant; name one of text, sentence with"),
    ],
)
def test_no_column_or_several_are_refused_with_the_names_there(
    columns: list[str], wanted: str | None, fragment: str
) -> None:
    with pytest.raises(DataError) as caught:
        choose(columns, wanted)
    assert fragment in str(caught.value)


@pytest.mark.parametrize(
    "label, expected",
    [("007", "007"), ("NA", "NA"), (3, "3"), (True, "true"), ("-1", None), (-1, None), (" ", None), (None, None)],
)
def test_labels_become_text_and_missing_ones_none(label: object, expected: str | None) -> None:
    assert clean_row(" NA ", label, "a.csv:2") == (" NA ", expected)


@pytest.mark.parametrize(
    "text, label, fragment",
    [
        ("", "1", "a.csv:2: empty text"),
        (" \t\n\u00a0", "1", "a.csv:2: empty text"),
        (5, "1", "a.csv:2: the text is 5, not a string"),
        (None, "1", "a.csv:2: the text is None, not a string"),
        ("a\0b", "1", "a.csv:2: NUL or half a surrogate pair"),
        ("a\ud800b", "1", "a.csv:2: NUL or half a surrogate pair"),
        ("a", 1.0, "a.csv:2: the label is 1.0"),
        ("a", ["b"], "a.csv:2: the label is ['b']"),
    ],
)
def test_unusable_cells_are_refused_with_their_place(text: object, label: object, fragment: str) -> None:
    with pytest.raises(DataError) as caught:
        clean_row(text, label, "a.csv:2")
    assert fragment in str(caught.value)


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
ROWS = st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6).filter(lambda rows: rows[-1] != ("", ""))


@settings(deadline=None)
@given(rows=ROWS, end=st.sampled_from(["\n", "\r\n"]), everything=st.booleans())
def test_what_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], end: str, everything: bool
) -> None:
    everything |= any("\r" in cell for row in rows for cell in row)  # which older Pythons leave unquoted before "\n"
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator=end, quoting=csv.QUOTE_ALL if everything else csv.QUOTE_MINIMAL)
        writer.writerows([("text", "label"), *rows])
    assert [tuple(row.cells.values()) for row in read_rows(path)] == rows


@settings(deadline=None)
@given(rows=ROWS)
def test_what_json_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("json") / "a.jsonl"
    records = [{"text": text, "label": label} for text, label in rows]
    path.write_text("".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records), "utf-8", newline="")
    assert [row.cells for row in read_rows(path)] == records


def test_a_label_that_cannot_be_written_is_refused_with_its_place() -> None:
    for label in ("a\0", "\udfff"):
        with pytest.raises(DataError, match=r"a\.csv:2: NUL or half a surrogate pair in the label"):
            clean_row("x", label, "a.csv:2")
