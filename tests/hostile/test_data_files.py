"""Data files that are torn, wrong or only look odd, and what becomes of each.

A file is read as it is written, row by row, or refused with its name and, where one row is to blame, its line.
tests/data/test_readers.py has the faults of single rows.
"""

import codecs
import gzip
import json
from pathlib import Path

import pytest

from src.evaluation.predictor import Predictor
from src.utils.config import SHIPPED_CHECKPOINT
from src.utils.errors import DataError
from tests.data.conftest import opened

Rows = list[tuple[str, str]]


def _csv(*lines: str, header: str = "text,label") -> bytes:
    return "".join(f"{line}\n" for line in (header, *lines)).encode("utf-8", "surrogatepass")


def _jsonl(*records: object) -> bytes:
    return "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in records).encode()


def _rows(*texts: str) -> Rows:
    return [(text, "ab"[number % 2]) for number, text in enumerate(texts)]


def _all_csv(*texts: str) -> bytes:
    return _csv(*(f"{text},{label}" for text, label in _rows(*texts)))


def _all_jsonl(*texts: str) -> bytes:
    return _jsonl(*({"text": text, "label": label} for text, label in _rows(*texts)))


VALUES = ("NA", "null", "nan", "TRUE", "-inf", "007", "1e5", "1_000", "1.50", "2020-01-01", "=1+1", "# no", r"a\nb")
UNICODE = (
    "a\u2028\u2029\x0b\x0c\x1c\x85b",  # other signs that end lines
    "a\x01\x07\x1b[31m\x7fb",  # control characters
    "\u0641\u06cc\u0644\u0645 \u202ereversed\u202c a\u200bb\u200d\u2060c\ufeff",  # right to left, without width
    "\U0001f468\u200d\U0001f469 \U0002070e \ufffe\U0010ffff \ufffd",  # beyond 16 bits, never assigned
    "\u00e9 e\u0301",  # composed and decomposed
)
ONE, TWO = '{"text": "x", "label": "a"}', '{"text": "y", "label": "b"}'
XY = _rows("x", "y")
DIGITS, NESTED = "1" * 5000, '{"x":' * 300 + "1" + "}" * 300

# What may look wrong and is right: read as it is written.
READ: dict[str, tuple[str, bytes, Rows]] = {
    "values in CSV": ("a.csv", _all_csv(*VALUES), _rows(*VALUES)),
    "values in JSONL": ("a.jsonl", _all_jsonl(*VALUES), _rows(*VALUES)),
    "unusual Unicode in CSV": ("a.csv", _all_csv(*UNICODE), _rows(*UNICODE)),
    "unusual Unicode in JSONL": ("a.jsonl", _all_jsonl(*UNICODE), _rows(*UNICODE)),
    "whole surrogate pairs in JSON": ("a.jsonl", _jsonl(r'{"text": "\ud83d\ude00", "label": "a"}', TWO), _rows("\U0001f600", "y")),
    "labels that look like values": ("a.csv", _csv("x,007", "y,7", "z,0.50", "v,NA", "w,null"), [("x", "007"), ("y", "7"), ("z", "0.50"), ("v", "NA"), ("w", "null")]),
    "labels with blanks, in capitals, in other digits": ("a.csv", _csv("x, a", "y,A", "z,a", "w,\u0663"), [("x", " a"), ("y", "A"), ("z", "a"), ("w", "\u0663")]),
    "a label of thousands of digits": ("a.csv", _csv(f"x,{DIGITS}", "y,2"), [("x", DIGITS), ("y", "2")]),
    "a byte order mark in front and one inside": ("a.csv", codecs.BOM_UTF8 + _all_csv("\ufeffx", "y"), _rows("\ufeffx", "y")),
    "thousands of columns": ("a.csv", _csv(f"x,a{',1' * 5000}", f"y,b{',2' * 5000}", header="text,label," + ",".join(map(str, range(5000)))), XY),
    "other values beside, keys in another order": ("a.jsonl", _jsonl('{"text": "x", "label": "a", "more": {"text": [1, NaN]}}', '{"label": "b", "text": "y"}'), XY),
}  # fmt: skip

# What is wrong: refused, and what the error names.
REFUSED: dict[str, tuple[str, bytes, str]] = {
    "another separator": ("a.csv", _csv("x:a", "y:b", header="text:label"), "text:label"),
    "a torn archive": ("a.csv.gz", gzip.compress(_all_csv("x", "y"))[:-9], "cannot read"),
    "no archive": ("a.jsonl.gz", _jsonl(ONE, TWO), "cannot read"),
    "torn Parquet": ("a.parquet", b"PAR1 torn", "cannot read"),
    "UTF-16 that is torn": ("a.csv", _csv("x,a").decode().encode("utf-16")[:-1], "a.csv:2: not text in UTF-16"),
    "two byte order marks": ("a.csv", 2 * codecs.BOM_UTF8 + _all_csv("x", "y"), r"\ufefftext, label"),
    "a text of other blanks": ("a.csv", _csv("x,a", "\u3000\u00a0 ,b"), "a.csv:3: empty text"),
    "a label that is infinite": ("a.jsonl", _jsonl({"text": "x", "label": 1}, '{"text": "y", "label": 1e999}'), "a.jsonl:2"),
    "a label that is nested deeply": ("a.jsonl", _jsonl(f'{{"text": "x", "label": {NESTED}}}'), "a.jsonl:1"),
    "a text that is nested deeply": ("a.jsonl", _jsonl(f'{{"text": {NESTED}, "label": "a"}}'), "a.jsonl:1"),
    "half a surrogate pair in UTF-8": ("a.csv", _csv("x,a", "\ud800,b"), "a.csv:3"),
    "UTF-16 without its mark": ("a.csv", _csv("x,a").decode().encode("utf-16-be"), "a.csv:1"),
    "UTF-32": ("a.jsonl", _jsonl(ONE).decode().encode("utf-32"), "a.jsonl:1"),
    "a byte order mark between rows of JSON": ("a.jsonl", f"{ONE}\n\ufeff{TWO}\n".encode(), "a.jsonl:2"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "expected"), READ.values(), ids=READ)
def test_a_file_is_read_as_it_is_written(name: str, content: bytes, expected: Rows, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert opened(tmp_path / name) == expected


@pytest.mark.parametrize(("name", "content", "fact"), REFUSED.values(), ids=REFUSED)
def test_a_file_is_refused_with_its_place(name: str, content: bytes, fact: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        opened(tmp_path / name)
    assert name in str(caught.value) and fact in str(caught.value) and len(str(caught.value)) < 1000


# Lines of a megabyte, of whatever kind, are read as far as the model reads.
WORDS = [".", "a", "good ", '"', "-lrb- n't ", "<br /> ", "[SEP]"]
SIGNS = ["\U0001f600", "\U0001f468\u200d\U0001f469", "e\u0301", "\x01", "\u202e\u0641"]


def test_a_line_of_a_megabyte_is_predicted() -> None:
    lines = [piece * (10**6 // len(piece)) for piece in WORDS + SIGNS]
    predictions = Predictor.load(SHIPPED_CHECKPOINT, "cpu").predict(lines)
    assert all(prediction.truncated and prediction.label is not None for prediction in predictions)
