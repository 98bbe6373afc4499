"""Hostile data files: torn ones, wrong ones and some that only look odd, and what has to become of each.

Every file is either read as it is written, row by row, or refused with its name and, where one row is to blame, its line.
Faults that the readers of single files tell are in tests/data/test_readers.py; here are those of real files beside them.
"""

import codecs
import json

Rows = list[tuple[str, str]]


def _csv(*lines: str, header: str = "text,label", end: str = "\n") -> bytes:
    return "".join(f"{line}{end}" for line in (header, *lines)).encode("utf-8", "surrogatepass")


def _jsonl(*records: object) -> bytes:
    return "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in records).encode()


def _texts(*texts: str) -> list[dict[str, str]]:
    return [{"text": text, "label": "ab"[number % 2]} for number, text in enumerate(texts)]


def _rows(*texts: str) -> Rows:
    return [(text, "ab"[number % 2]) for number, text in enumerate(texts)]


def _all_csv(*texts: str) -> bytes:
    return _csv(*(f"{text},{label}" for text, label in _rows(*texts)))


VALUES = ("NA", "null", "nan", "TRUE", "-inf", "007", "1e5", "1_000", "1.50", "2020-01-01", "=1+1", "# no", r"a\nb")
UNICODE = (
    "a\u2028\u2029\x0b\x0c\x1c\x85b",  # other signs that end lines
    "a\x01\x07\x1b[31m\x7fb",  # control characters
    "\u0641\u06cc\u0644\u0645 \u202ereversed\u202c",  # right to left
    "a\u200bb\u200d\u2060c\ufeff",  # characters without width
    "\U0001f468\u200d\U0001f469 \U0002070e",  # beyond 16 bits
    "\ufffe\U0010ffff \ufffd",  # never assigned
    "\u00e9",  # composed
    "e\u0301",  # decomposed
)
ONE, TWO = '{"text": "x", "label": "a"}', '{"text": "y", "label": "b"}'
XY = _rows("x", "y")
DIGITS, NESTED = "1" * 5000, '{"x":' * 300 + "1" + "}" * 300

# What may look wrong and is right: read as it is written.
READ: dict[str, tuple[str, bytes, Rows]] = {
    "values in CSV": ("a.csv", _all_csv(*VALUES), _rows(*VALUES)),
    "values in JSONL": ("a.jsonl", _jsonl(*_texts(*VALUES)), _rows(*VALUES)),
    "unusual Unicode in CSV": ("a.csv", _all_csv(*UNICODE), _rows(*UNICODE)),
    "unusual Unicode in JSONL": ("a.jsonl", _jsonl(*_texts(*UNICODE)), _rows(*UNICODE)),
    "whole surrogate pairs in JSON": ("a.jsonl", _jsonl(r'{"text": "\ud83d\ude00", "label": "a"}', TWO), _rows("\U0001f600", "y")),
    "labels that look like values": ("a.csv", _csv("x,007", "y,7", "z,0.0", "v,NA", "w,null"), [("x", "007"), ("y", "7"), ("z", "0.0"), ("v", "NA"), ("w", "null")]),
    "labels with blanks, in capitals, in other digits": ("a.csv", _csv("x, a", "y,A", "z,a", "w,\u0663"), [("x", " a"), ("y", "A"), ("z", "a"), ("w", "\u0663")]),
    "a label of thousands of digits": ("a.csv", _csv(f"x,{DIGITS}", "y,2"), [("x", DIGITS), ("y", "2")]),
    "blanks at both ends": ("a.csv", _all_csv("  x  ", "\ty\t"), _rows("  x  ", "\ty\t")),
    "a byte order mark in front and one inside": ("a.csv", codecs.BOM_UTF8 + _all_csv("\ufeffx", "y"), _rows("\ufeffx", "y")),
    "thousands of columns": ("a.csv", _csv(f"x,a{',1' * 5000}", f"y,b{',2' * 5000}", header="text,label," + ",".join(map(str, range(5000)))), XY),
    "rows twice, and the header": ("a.csv", _csv("x,a", "x,a", "x,b", "text,label"), [("x", "a"), ("x", "a"), ("x", "b"), ("text", "label")]),
    "other values beside, keys in another order": ("a.jsonl", _jsonl('{"text": "x", "label": "a", "more": {"text": [1, NaN]}}', '{"label": "b", "text": "y"}'), XY),
}  # fmt: skip

# What is wrong: refused, and what the error names.
REFUSED: dict[str, tuple[str, bytes, str]] = {
    "another separator": ("a.csv", _csv("x;a", "y;b", header="text;label"), "text;label"),
    "two byte order marks": ("a.csv", 2 * codecs.BOM_UTF8 + _all_csv("x", "y"), r"\ufefftext, label"),
    "a text of other blanks": ("a.csv", _csv("x,a", "\u3000\u00a0 ,b"), "a.csv:3: empty text"),
    "a label that is infinite": ("a.jsonl", _jsonl({"text": "x", "label": 1}, '{"text": "y", "label": 1e999}'), "a.jsonl:2: the label is inf"),
    "a label that is nested deeply": ("a.jsonl", _jsonl(f'{{"text": "x", "label": {NESTED}}}'), "a.jsonl:1: the label is {'x': {'x'"),
    "a text that is nested deeply": ("a.jsonl", _jsonl(f'{{"text": {NESTED}, "label": "a"}}'), "a.jsonl:1: 'text' is {'x': {'x'"),
    "half a surrogate pair in a label": ("a.jsonl", _jsonl(ONE, r'{"text": "y", "label": "\ud800"}'), "a.jsonl:2"),
    "half a surrogate pair in UTF-8": ("a.csv", _csv("x,a", "\ud800,b"), "a.csv:3"),
    "a letter cut in two": ("a.csv", _csv("x,a", "caf\u00e9")[:-2], "a.csv:3"),
    "UTF-16 without its mark": ("a.csv", _csv("x,a").decode().encode("utf-16-be"), "a.csv:1"),
    "UTF-32": ("a.jsonl", _jsonl(ONE).decode().encode("utf-32"), "a.jsonl:1"),
    "a bare control character in JSON": ("a.jsonl", b'{"text": "x\ty", "label": "a"}\n', "a.jsonl:1: not JSON"),
    "a number of thousands of digits": ("a.jsonl", f'{{"text": "x", "label": {DIGITS}}}\n'.encode(), "a.jsonl:1: not JSON"),
    "a byte order mark between rows of JSON": ("a.jsonl", f"{ONE}\n\ufeff{TWO}\n".encode(), "a.jsonl:2: not JSON"),
}  # fmt: skip
