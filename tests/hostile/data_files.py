"""Data files that lie, are torn or only look odd, and what has to become of each.

Every file is either read as it is written, row by row, or refused in one line that names the file and, where one row is
to blame, its line.
"""

import codecs
import json
from dataclasses import dataclass

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class DataFile:
    """A file, and the texts and names of labels it holds, or what the refusal says behind the file's name."""

    name: str
    content: bytes
    expected: Rows | str

    @property
    def suffix(self) -> str:
        return self.name.rpartition(".")[2]


def _csv(*lines: str, header: str = "text,label", end: str = "\n") -> bytes:
    return "".join(f"{line}{end}" for line in (header, *lines)).encode("utf-8", "surrogatepass")


def _tsv(*lines: str, header: str = "text\tlabel") -> bytes:
    return _csv(*lines, header=header)


def _jsonl(*records: object) -> bytes:
    return "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in records).encode()


def _texts(*texts: str) -> list[dict[str, str]]:
    return [{"text": text, "label": "ab"[number % 2]} for number, text in enumerate(texts)]


def _rows(*texts: str) -> Rows:
    return [(text, "ab"[number % 2]) for number, text in enumerate(texts)]


HUGE = "word " * 400_000
DIGITS = "1" * 5000
NESTED = '{"x":' * 300 + "1" + "}" * 300
PERSIAN, HIDDEN, CONTROLS = (
    "\u0641\u06cc\u0644\u0645 \u202ereversed\u202c",
    "a\u200bb\u200d\u2060c\ufeff",
    "a\x01\x07\x1b[31m\x7fb",
)

# What may look wrong and is right: read as it is written.
READ: dict[str, tuple[str, bytes, Rows]] = {
    "words that programs take for values": (
        "a.csv",
        _csv("NA,a", "null,b", "None,a", "nan,b", "NaN,a", "TRUE,b", "-inf,a", "#N/A,b"),
        _rows("NA", "null", "None", "nan", "NaN", "TRUE", "-inf", "#N/A"),
    ),
    "numbers in a column of texts": (
        "a.csv",
        _csv("007,a", "1e5,b", "1_000,a", "0x10,b", "+1,a", "1.50,b", "2020-01-01,a"),
        _rows("007", "1e5", "1_000", "0x10", "+1", "1.50", "2020-01-01"),
    ),
    "the same in TSV": ("a.tsv", _tsv("NA\ta", "007\tb", "1e5\ta", "TRUE\tb"), _rows("NA", "007", "1e5", "TRUE")),
    "the same in JSONL": ("a.jsonl", _jsonl(*_texts("NA", "007", "1e5", "TRUE")), _rows("NA", "007", "1e5", "TRUE")),
    "labels with leading zeros": ("a.csv", _csv("x,007", "y,7", "z,07"), [("x", "007"), ("y", "7"), ("z", "07")]),
    "labels that are fractions": ("a.csv", _csv("x,0.0", "y,1.0"), [("x", "0.0"), ("y", "1.0")]),
    "labels that are words for nothing": ("a.csv", _csv("x,NA", "y,null"), [("x", "NA"), ("y", "null")]),
    "labels in other digits": ("a.csv", _csv("x,\u0663", "y,\u0661"), [("x", "\u0663"), ("y", "\u0661")]),
    "labels of thousands of digits": ("a.csv", _csv(f"x,{DIGITS}", "y,2"), [("x", DIGITS), ("y", "2")]),
    "labels with blanks around them": ("a.csv", _csv("x, a", "y,a "), [("x", " a"), ("y", "a ")]),
    "labels in capitals": ("a.csv", _csv("x,A", "y,a"), [("x", "A"), ("y", "a")]),
    "boolean labels": ("a.jsonl", _jsonl({"text": "x", "label": True}, {"text": "y", "label": False}), [("x", "true"), ("y", "false")]),
    "a huge whole number as label": ("a.jsonl", _jsonl({"text": "x", "label": 10**40}, {"text": "y", "label": 2}), [("x", str(10**40)), ("y", "2")]),
    "spellings of sentiment": ("a.csv", _csv("x,POSITIVE", "y,Negative"), [("x", "positive"), ("y", "negative")]),
    "quoted commas, quotes and line ends": ("a.csv", _csv('"x, ""y""\nz\r\n",a', "w,b"), _rows('x, "y"\nz\r\n', "w")),
    "a quote inside a cell": ("a.csv", _csv('5" screen,a', "it's,b"), _rows('5" screen', "it's")),
    "blanks before a quote": ("a.csv", _csv(' "x",a', "y,b"), _rows(' "x"', "y")),
    "quotes in TSV": ("a.tsv", _tsv('"x\ta', 'y"\tb', '""\ta', '"a, b"\tb'), _rows('"x', 'y"', '""', '"a, b"')),
    "commas in TSV": ("a.tsv", _tsv("a,b,c\ta", ",\tb"), _rows("a,b,c", ",")),
    "backslashes": ("a.csv", _csv("a\\nb,a", "c\\,b"), _rows("a\\nb", "c\\")),
    "backslashes in TSV": ("a.tsv", _tsv("a\\tb\ta", "c\\\tb"), _rows("a\\tb", "c\\")),
    "formulas": ("a.csv", _csv("=1+1,a", "@SUM(A1),b"), _rows("=1+1", "@SUM(A1)")),
    "comments": ("a.csv", _csv("# no comment,a", "// nor this,b"), _rows("# no comment", "// nor this")),
    "markup": ("a.csv", _csv("<script>alert(1)</script>,a", "{{x}} ${y} %s,b"), _rows("<script>alert(1)</script>", "{{x}} ${y} %s")),
    "blanks at both ends": ("a.csv", _csv("  x  ,a", "\ty\t,b"), _rows("  x  ", "\ty\t")),
    "a byte order mark": ("a.csv", codecs.BOM_UTF8 + _csv("x,a", "y,b"), _rows("x", "y")),
    "a byte order mark before JSON": ("a.jsonl", codecs.BOM_UTF8 + _jsonl(*_texts("x", "y")), _rows("x", "y")),
    "a byte order mark inside": ("a.csv", _csv("\ufeffx,a", "y,b"), _rows("\ufeffx", "y")),
    "Windows line ends": ("a.csv", _csv("x,a", "y,b", end="\r\n"), _rows("x", "y")),
    "old Macintosh line ends": ("a.csv", _csv("x,a", "y,b", end="\r"), _rows("x", "y")),
    "mixed line ends": ("a.csv", b"text,label\r\nx,a\ny,b\r", _rows("x", "y")),
    "no line end at the end": ("a.csv", _csv("x,a", "y,b")[:-1], _rows("x", "y")),
    "blank lines at the end": ("a.csv", _csv("x,a", "y,b", "", " ", "\r"), _rows("x", "y")),
    "other signs that end lines": ("a.csv", _csv("x\u2028\u2029\x0b\x0c\x1c\x85y,a", "z,b"), _rows("x\u2028\u2029\x0b\x0c\x1c\x85y", "z")),
    "control characters": ("a.csv", _csv(f"{CONTROLS},a", "y,b"), _rows(CONTROLS, "y")),
    "control characters in JSON": ("a.jsonl", _jsonl(*_texts(CONTROLS, "y")), _rows(CONTROLS, "y")),
    "right to left": ("a.csv", _csv(f"{PERSIAN},a", "y,b"), _rows(PERSIAN, "y")),
    "characters without width": ("a.csv", _csv(f"{HIDDEN},a", "y,b"), _rows(HIDDEN, "y")),
    "emoji and letters far up": ("a.csv", _csv("\U0001f468\u200d\U0001f469 \U0002070e,a", "y,b"), _rows("\U0001f468\u200d\U0001f469 \U0002070e", "y")),
    "characters that Unicode will never assign": ("a.csv", _csv("\ufffe\U0010ffff,a", "\ufffd,b"), _rows("\ufffe\U0010ffff", "\ufffd")),
    "composed and decomposed letters": ("a.csv", _csv("\u00e9,a", "e\u0301,b"), _rows("\u00e9", "e\u0301")),
    "whole surrogate pairs in JSON": ("a.jsonl", _jsonl(r'{"text": "\ud83d\ude00", "label": "a"}', {"text": "y", "label": "b"}), _rows("\U0001f600", "y")),
    "a huge line": ("a.csv", _csv(f"{HUGE},a", "y,b"), _rows(HUGE, "y")),
    "a huge line of JSON": ("a.jsonl", _jsonl(*_texts(HUGE, "y")), _rows(HUGE, "y")),
    "many columns": ("a.csv", _csv(f"x,a{',1' * 5000}", f"y,b{',2' * 5000}", header="text,label," + ",".join(map(str, range(5000)))), _rows("x", "y")),
    "duplicate rows": ("a.csv", _csv("x,a", "x,a", "x,b"), [("x", "a"), ("x", "a"), ("x", "b")]),
    "the header once more": ("a.csv", _csv("text,label", "x,a"), [("text", "label"), ("x", "a")]),
    "columns in another order": ("a.csv", _csv("a,1,x", "b,2,y", header="label,id,text"), _rows("x", "y")),
    "columns whose names differ in case": ("a.csv", _csv("x,a,1", "y,b,2", header="text,label,Text"), _rows("x", "y")),
    "a quoted header": ("a.csv", _csv("x,a", "y,b", header='"text","label"'), _rows("x", "y")),
    "a nested value beside": ("a.jsonl", _jsonl({"text": "x", "label": "a", "more": {"text": [1, None]}}, {"text": "y", "label": "b"}), _rows("x", "y")),
    "keys in another order": ("a.jsonl", _jsonl({"text": "x", "label": "a"}, {"label": "b", "text": "y"}), _rows("x", "y")),
    "what is no number beside": ("a.jsonl", _jsonl('{"text": "x", "label": "a", "z": NaN}', {"text": "y", "label": "b"}), _rows("x", "y")),
    "lines of JSON called .json": ("a.json", _jsonl(*_texts("x", "y")), _rows("x", "y")),
}  # fmt: skip

# What is wrong: refused, and why.
REFUSED: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("a.csv", b"", " holds no rows"),
    "nothing in JSON": ("a.jsonl", b"", " holds no rows"),
    "a byte order mark alone": ("a.csv", codecs.BOM_UTF8, " holds no rows"),
    "line ends alone": ("a.tsv", b"\r\n\r\n", " holds no rows"),
    "a header alone": ("a.csv", _csv(), " holds no rows"),
    "a missing header": ("a.csv", _csv("y,b", header="x,a"), ": no column sentence or text or"),
    "another separator": ("a.csv", _csv("x;a", "y;b", header="text;label"), ": no column sentence or text or"),
    "a header with blanks": ("a.csv", _csv("x,a", "y,b", header="text ,label"), ": no column sentence or text or"),
    "two byte order marks": ("a.csv", 2 * codecs.BOM_UTF8 + _csv("x,a", "y,b"), ": no column sentence or text or"),
    "two columns that could be meant": ("a.csv", _csv("x,y,a", header="text,review,label"), ": several columns could be meant"),
    "no column of labels": ("a.csv", _csv("x,1", "y,2", header="text,id"), ": no column label or"),
    "a column twice": ("a.csv", _csv("x,y,a", header="text,text,label"), ":1: column name 'text' is empty or repeated"),
    "a column without name": ("a.csv", _csv("x,a,1", header="text,label,"), ":1: column name '' is empty or repeated"),
    "a column twice among thousands": ("a.csv", _csv("x", header=",".join([*map(str, range(100_000)), "99999"])), ":1: column name '99999' is empty"),
    "a line end in the header": ("a.csv", _csv("x,a", header='"te\nxt",label'), ": no column sentence or text or"),
    "a command to the terminal in the header": ("a.csv", _csv("x,a", header="\x1b[2Jtext,label"), ": no column sentence or text or"),
    "a cell too few": ("a.csv", _csv("x,a", "y"), ":3: 1 cell under 2"),
    "a cell too many": ("a.csv", _csv("x,a", "y,z,b"), ":3: 3 cells under 2"),
    "a comma at the end": ("a.csv", _csv("x,a", "y,b,"), ":3: 3 cells under 2"),
    "a cell too many in TSV": ("a.tsv", _tsv("x\ta", "y\tz\tb"), ":3: 3 cells under 2"),
    "a blank line inside": ("a.csv", _csv("x,a", "", "y,b"), ":3: blank line"),
    "a blank line inside JSON": ("a.jsonl", _jsonl({"text": "x", "label": "a"}, "", {"text": "y", "label": "b"}), ":2: blank line"),
    "an empty text": ("a.csv", _csv("x,a", ",b"), ":3: empty text"),
    "a text of blanks": ("a.csv", _csv("x,a", "\u3000\u00a0 ,b"), ":3: empty text"),
    "a missing label": ("a.csv", _csv("x,a", "y,", "z,b"), ":3: no label; give the row one of a, b"),
    "a label of blanks": ("a.csv", _csv("x,a", "y,  ", "z,b"), ":3: no label; give the row one of a, b"),
    "a missing label in JSON": ("a.jsonl", _jsonl({"text": "x", "label": "a"}, {"text": "y", "label": None}), ":2: no label; give the row one of a"),
    "no label at all": ("a.csv", _csv("x,", "y,-1"), ":2"),
    "a missing key": ("a.jsonl", _jsonl({"text": "x", "label": "a"}, {"text": "y"}), ":2: no 'label'; give every row"),
    "a label that is a fraction": ("a.jsonl", _jsonl({"text": "x", "label": 1}, {"text": "y", "label": 1.0}), ":2: the label is 1.0"),
    "a label that is no number": ("a.jsonl", _jsonl({"text": "x", "label": 1}, '{"text": "y", "label": NaN}'), ":2: the label is nan"),
    "a label that is infinite": ("a.jsonl", _jsonl({"text": "x", "label": 1}, '{"text": "y", "label": 1e999}'), ":2: the label is inf"),
    "a label that is a list": ("a.jsonl", _jsonl({"text": "x", "label": ["a"]}), ":1: the label is ['a']"),
    "a label that is nested deeply": ("a.jsonl", _jsonl(f'{{"text": "x", "label": {NESTED}}}'), ":1: the label is {'x': {'x'"),
    "half a surrogate pair in a label": ("a.jsonl", _jsonl({"text": "x", "label": "a"}, r'{"text": "y", "label": "\ud800"}'), ":2: NUL or half a surrogate pair in the label"),
    "NUL in a label": ("a.jsonl", _jsonl({"text": "x", "label": "a"}, {"text": "y", "label": "b\0"}), ":2: NUL or half a surrogate pair in the label"),
    "half a surrogate pair": ("a.jsonl", _jsonl({"text": "x", "label": "a"}, r'{"text": "\udc00y", "label": "b"}'), ":2: NUL or half a surrogate pair in the text"),
    "NUL in JSON": ("a.jsonl", _jsonl({"text": "x", "label": "a"}, r'{"text": "y\u0000", "label": "b"}'), ":2: NUL or half a surrogate pair in the text"),
    "half a surrogate pair in UTF-8": ("a.csv", _csv("x,a", "\ud800,b"), ":3; save the file as UTF-8"),
    "NUL": ("a.csv", _csv("x,a", "y\0,b"), ":3; save the file as UTF-8"),
    "NUL in TSV": ("a.tsv", _tsv("x\ta", "\0\tb"), ":3; save the file as UTF-8"),
    "Latin-1": ("a.csv", _csv("x,a") + "caf\u00e9,b\n".encode("latin-1"), ":3; save the file as UTF-8"),
    "Windows-1252": ("a.csv", _csv("x,a") + "\u201cy\u201d,b\n".encode("cp1252"), ":3; save the file as UTF-8"),
    "UTF-16": ("a.csv", _csv("x,a").decode().encode("utf-16"), ":1; save the file as UTF-8"),
    "UTF-16 without its mark": ("a.csv", _csv("x,a").decode().encode("utf-16-be"), ":1; save the file as UTF-8"),
    "UTF-32": ("a.jsonl", _jsonl({"text": "x", "label": "a"}).decode().encode("utf-32"), ":1; save the file as UTF-8"),
    "a letter cut in two": ("a.csv", _csv("x,a", "caf\u00e9")[:-2], ":3; save the file as UTF-8"),
    "a longer spelling of a letter": ("a.csv", _csv("x,a") + b"\xc0\xaf,b\n", ":3; save the file as UTF-8"),
    "a pickle": ("a.csv", b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00.", ":1; save the file as UTF-8"),
    "an archive": ("a.jsonl", b"PK\x03\x04\x14\x00\x00\x00\x08\x00\xff\xff", ":1; save the file as UTF-8"),
    "a compressed file": ("a.csv", b"\x1f\x8b\x08\x08\xff\xff", ":1; save the file as UTF-8"),
    "another program's format": ("a.parquet", b"PAR1", " is none of .csv"),
    "a quote that is never closed": ("a.csv", _csv("x,a", '"y,b', "z,a"), ":3: the quote opened here"),
    "a letter behind a closed quote": ("a.csv", _csv("x,a", '"y"z,b'), ":3: the quote opened here"),
    "JSON cut short": ("a.jsonl", _jsonl({"text": "x", "label": "a"})[:-4], ":1: not JSON"),
    "JSON of several lines": ("a.json", json.dumps(_texts("x", "y"), indent=1).encode(), ":1: not JSON"),
    "a list": ("a.json", json.dumps(_texts("x", "y")).encode(), ":1: not a JSON object"),
    "a string": ("a.jsonl", b'"x"\n', ":1: not a JSON object"),
    "a comma at the end of JSON": ("a.jsonl", b'{"text": "x", "label": "a"},\n', ":1: not JSON"),
    "single quotes": ("a.jsonl", b"{'text': 'x', 'label': 'a'}\n", ":1: not JSON"),
    "a bare control character in JSON": ("a.jsonl", b'{"text": "x\ty", "label": "a"}\n', ":1: not JSON"),
    "a key twice": ("a.jsonl", b'{"text": "x", "label": "a", "text": "y"}\n', ":1: not JSON (key 'text' stands twice)"),
    "a key twice in a nested value": ("a.jsonl", b'{"text": "x", "label": "a", "more": {"k": 1, "k": 2}}\n', ":1: not JSON (key 'k' stands twice)"),
    "a key twice among thousands": ("a.jsonl", ("{" + ", ".join(f'"{n}": 1' for n in [*range(100_000), 99_999]) + "}\n").encode(), ":1: not JSON (key '99999' stands twice)"),
    "JSON of thousands of levels": ("a.jsonl", b"[" * 100_000 + b"]" * 100_000, ":1: not JSON"),
    "a number of thousands of digits": ("a.jsonl", f'{{"text": "x", "label": {DIGITS}}}\n'.encode(), ":1: not JSON"),
    "a text that is a number": ("a.jsonl", _jsonl({"text": "x", "label": "a"}, {"text": 7, "label": "b"}), ":2: the text is 7, not a string"),
    "a text that is a truth value": ("a.jsonl", _jsonl({"text": "x", "label": "a"}, {"text": True, "label": "b"}), ":2: the text is True, not a string"),
    "a text that is null": ("a.jsonl", _jsonl({"text": "x", "label": "a"}, {"text": None, "label": "b"}), ":2: the text is None, not a string"),
    "a text that is nested deeply": ("a.jsonl", _jsonl(f'{{"text": {NESTED}, "label": "a"}}'), ":1: the text is {'x': {'x'"),
    "a byte order mark between rows of JSON": ("a.jsonl", b'{"text": "x", "label": "a"}\n' + codecs.BOM_UTF8 + b'{"text": "y", "label": "b"}\n', ":2: not JSON"),
}  # fmt: skip

DATA_FILES = {name: DataFile(*parts) for name, parts in (READ | REFUSED).items()}
