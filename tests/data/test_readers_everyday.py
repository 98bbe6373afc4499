"""Data files as people have them: other separators, encodings and layouts, columns without names, bad rows."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from src.data import readers
from src.data.sources import TextSplit, open_corpus
from src.utils.config import DataConfig
from src.utils.errors import DataError, UsageError
from tests.data.conftest import opened, parquet, write

pytestmark = pytest.mark.usefixtures("own_cache")
XY = [("x", "a"), ("y", "b")]
ARRAY = json.dumps([{"text": "x", "label": "a"}, {"text": "y", "label": "b"}])


# File, content, options, rows, and what must be said about it.
FILES: dict[str, tuple[str, str | bytes, dict[str, Any], list[tuple[str, str]], str]] = {
    "gz": ("a.csv.gz", gzip.compress(b"text,label\nx,a\ny,b\n"), {}, XY, ""),
    "gz of JSONL": ("a.JSONL.GZ", gzip.compress(ARRAY[1:-1].replace("}, ", "}\n").encode()), {}, XY, ""),
    "Parquet": ("a.parquet", parquet({"text": ["x", "y"], "label": ["a", "b"]}), {}, XY, ""),
    "Parquet of pandas": ("a.parquet", parquet({"text": ["x", "y"], "label": [1.0, 0.0]}), {}, [("x", "positive"), ("y", "negative")], ""),
    "JSON array": ("a.json", ARRAY, {}, XY, ""),
    "JSON array over lines": ("a.json", json.dumps(json.loads(ARRAY), indent=1), {}, XY, ""),
    "JSON array in an object": ("a.json", f'{{"version": "1", "data": {ARRAY}}}', {}, XY, "'data'"),
    "one line of JSON with a list": ("a.jsonl", '{"text": "x", "label": "a", "spans": [{"at": 1}]}', {}, XY[:1], ""),
    "semicolons": ("a.csv", '\ufefftext;label\nx;a\n"y, ""z""; q";b\n', {}, [("x", "a"), ('y, "z"; q', "b")], "';'"),
    "semicolons and a comma in the header": ("a.csv", "text;label (a, b)\nx;a\n", {"label_column": "label (a, b)"}, XY[:1], "';'"),
    "tabs in .csv": ("a.csv", "text\tlabel\nx\ta\ny\tb\n", {}, XY, r"'\t'"),
    "bars": ("a.csv", "id|text|label\n1|x|a\n2|y|b\n", {}, XY, "'|'"),
    "commas in .tsv": ("a.tsv", "text,label\nx,a\ny,b\n", {}, XY, "','"),
    "a comma in a TSV header": ("a.tsv", "text\tlabel\tnote, by hand, late\nx\ta\t1\ny\tb\t2\n", {}, XY, ""),
    "a separator by option": ("a.csv", "text:label\nx:a\ny:b\n", {"separator": ":"}, XY, ""),
    "tab by option": ("a.csv", "text\tlabel\nx\ta\ny\tb\n", {"separator": "tab"}, XY, ""),
    "sep= of Excel": ("a.csv", "sep=;\r\ntext;label\r\nx;a\r\ny;b\r\n", {}, XY, ""),
    "UTF-16 of Excel": ("a.tsv", "text\tlabel\nx\u2026\ta\n".encode("utf-16"), {}, [("x\u2026", "a")], "UTF-16"),
    "cp1252": ("a.csv", "text,label\ncaf\xe9 \u201cx\u201d,a\n".encode("cp1252"), {"encoding": "cp1252"}, [("caf\xe9 \u201cx\u201d", "a")], ""),
    "no header": ("a.csv", "x,a\ny,b\n", {"header": False, "text_column": "1", "label_column": "2"}, XY, ""),
    "columns in capitals": ("a.csv", "ID,Text, LABEL\n1,x,a\n2,y,b\n", {}, XY, ""),
    "a named column in capitals": ("a.csv", "Body,Stars\nx,a\ny,b\n", {"text_column": "body", "label_column": "STARS"}, XY, ""),
    "tweet and target": ("a.csv", "tweet,target\nx,a\ny,b\n", {}, XY, ""),
    "index of pandas": ("a.csv", ",text,label\n0,x,a\n1,y,b\n", {}, XY, "column 1 "),
    "columns without names": ("a.csv", 'v1,v2,,,\na,"x",,,\nb,y,,,\n', {"text_column": "v2", "label_column": "v1"}, XY, "column 3, 4, 5 "),
    "a repeated column that is not used": ("a.csv", "n,text,n,label\n1,x,2,a\n1,y,2,b\n", {}, XY, "column 1, 3 "),
    "TSV of pandas": ("a.tsv", 'text\tlabel\n"say ""x"""\ta\n"y\tz"\tb\n', {}, [('say "x"', "a"), ("y\tz", "b")], "quotes"),
    "TSV with all in quotes": ("a.tsv", '"text"\t"label"\n"x"\t"a"\n"y"\t"b"\n', {}, XY, "quotes"),
    "TSV with quotes as text": ("a.tsv", 'text\tlabel\n"x"\ta\n"say ""y"""\tb\n', {}, [('"x"', "a"), ('"say ""y"""', "b")], ""),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "options", "expected", "said"), FILES.values(), ids=FILES)
def test_a_file_is_read_and_what_was_found_is_said(
    name: str,
    content: str | bytes,
    options: dict[str, Any],
    expected: list[tuple[str, str]],
    said: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert opened(write(tmp_path, name, content), **options) == expected
    assert said in caplog.text and bool(said) == bool(caplog.text)


def test_classes_that_a_parquet_file_declares_keep_their_order_and_have_no_minus_one(tmp_path: Path) -> None:
    kind = {"info": {"features": {"label": {"names": ["world", "art"], "_type": "ClassLabel"}}}}
    columns: dict[str, list[Any]] = {"text": ["x", "y"], "label": [1, 0]}
    path = write(tmp_path, "a.parquet", parquet(columns, {"huggingface": json.dumps(kind)}))
    corpus = open_corpus(DataConfig(dataset=str(path)), ("train",))
    assert corpus.label_names == ("world", "art") and corpus.splits["train"].labels == [1, 0]
    for label, fact in ((-1, "row 2: no label"), (2, "row 2: label 2 is none of 2 classes")):
        bad = parquet(columns | {"label": [1, label]}, {"huggingface": json.dumps(kind)})
        with pytest.raises(DataError, match=fact):
            opened(write(tmp_path, "a.parquet", bad))


@pytest.mark.parametrize(("option", "value"), [("separator", "::"), ("separator", '"'), ("encoding", "cp12520")])
def test_an_option_that_names_no_separator_or_encoding_is_refused(option: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"--{option}"):
        opened(write(tmp_path, "a.csv", "text,label\nx,a\ny,b\n"), **{option: value})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", gzip.compress(b"text,label\n" + b"x,a\n" * 1_000_000)),
        ("a.parquet", parquet({"text": ["a film"] * 100_000, "label": [None] * 100_000})),
        ("a.parquet", parquet({"label": [None] * 100_000})),
    ],
)
def test_what_unpacks_to_far_more_than_text_does_is_refused(
    name: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "LARGEST_UNPACKED", 1000)
    with pytest.raises(DataError, match=rf"{name}: it unpacks to more than"):
        readers.read_table(write(tmp_path, name, content))


BAD: dict[str, tuple[str, str, list[str]]] = {
    "cells": ("a.csv", 'text,label\nx,a\ntoo,many,c\nfew\n\n"q"u,a\n ,a\ny,b\n', [":3: 3 cells", ":4: 1 cell", ":5: blank line", ":6: a quote", ":7: empty text"]),
    "texts and labels": ("a.csv", "text,label\nx,a\n ,a\nno,\ny,b\n", [":3: empty text", ":4: no label"]),
    "JSON": ("a.jsonl", '{"text": "x", "label": "a"}\n{\n5\n{"text": "y", "label": "b"}\n', [":2: not a JSON object (", ":3: not a JSON object"]),
    "values in JSON": ("a.jsonl", '{"text": "x", "label": "a"}\n{"text": 5, "label": "a"}\n{"text": "z", "label": 0.5}\n{"text": "y", "label": "b"}\n', [":2: 'text'", ":3: 'label'"]),
    "an array": ("a.json", f"{ARRAY[:-1]}, 1, null]", [", row 3: not a JSON object", ", row 4: not a JSON object"]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "problems"), BAD.values(), ids=BAD)
def test_all_bad_rows_are_told_in_one_message_or_left_out_on_request(
    name: str, content: str, problems: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(DataError, match=f"^{len(problems)} bad rows: .*--skip-bad-rows") as caught:
        opened(path)
    assert all(f"{path}{problem}" in str(caught.value) for problem in problems) and "\n" not in str(caught.value)
    assert opened(path, skip_bad_rows=True) == XY
    assert f"{len(problems)} bad rows" in caplog.text and problems[0] in caplog.text


def test_a_quote_without_end_is_refused_although_bad_rows_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'text,label\nx,a\n"y,b\nz,a\n')
    with pytest.raises(DataError, match=":3: a quote"):  # it would take every row behind it along
        opened(path, skip_bad_rows=True)


def test_rows_left_out_leave_their_second_texts_and_places(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,Pair,label\nx,1,a\ny, ,b\nz,3,b\n")
    data = DataConfig(dataset=str(path), text_pair_column="pair", skip_bad_rows=True)
    assert open_corpus(data, ("train",)).splits["train"] == TextSplit(["x", "z"], [0, 1], "a.csv", ["1", "3"])


def imdb(folder: Path) -> Path:
    for split in ("train", "test"):
        for label in ("pos", "neg"):
            for number in range(6):
                write(folder, f"{split}/{label}/{number}_7.txt", f"{split} {label} {number}")
        write(folder, f"{split}/urls_pos.txt", "http://example.org")
        write(folder, f"{split}/.hidden/a.txt", "no class")
    write(folder, "train/unsup/0_0.txt", "without a label")
    write(folder, "imdb.vocab", "the")
    return folder


def test_folders_of_texts_are_classes_as_in_imdb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = imdb(tmp_path / "aclImdb")
    splits = open_corpus(DataConfig(dataset=str(folder))).splits
    assert [len(split.texts) for split in splits.values()] == [12, 12]
    assert splits["train"].texts[5:7] == ["train neg 5", "train pos 0"] and splits["train"].labels == [0] * 6 + [1] * 6
    assert "split test" in splits["validation"].origin
    assert "folders neg, pos are the classes; unsup" in caplog.text and caplog.text.count("unsup") == 1
    monkeypatch.chdir(folder)
    # One folder is one file: its validation part is drawn.
    corpus = open_corpus(DataConfig(dataset="train"))
    assert sorted(corpus.splits["validation"].labels) == [0, 1] and len(corpus.splits["train"].texts) == 10
    assert corpus.source == DataConfig(train_file=folder / "train")
    named = open_corpus(DataConfig(train_file=Path("train"), validation_file=Path("test")))
    assert named.splits["validation"].texts == splits["validation"].texts
    write(folder, "train/pos/x_7.txt", b"caf\xe9")
    write(folder, "train/neg/x_7.txt", " ")
    with pytest.raises(DataError, match=r"^2 bad rows: .*train/pos/x_7\.txt:1: not text.*train/neg/x_7\.txt: empty"):
        open_corpus(DataConfig(dataset="train"))
    assert len(open_corpus(DataConfig(dataset="train", skip_bad_rows=True), ("train",)).splits["train"].texts) == 12
