import io
import json
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest

from src.evaluation.prediction_lines import LINES_AT_ONCE, as_json, as_line, predict_all, read_lines, write_share
from src.evaluation.predictor import Prediction, Predictor
from src.utils.errors import DataError
from tests.conftest import TrainedRun


@pytest.fixture(scope="module")
def predictor(sample_run: TrainedRun) -> Predictor:
    return Predictor.load(sample_run.path, "cpu")


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"one\n\n \ntwo\n", ["one", "", " ", "two"]),
        (b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n", ["one", "\ufefftwo"]),
        ("ein\u2028schöner\x0cFilm\rx\n".encode(), ["ein\u2028schöner\x0cFilm\rx"]),
        (b"", []),
        (b"\n", [""]),
    ],
)
def test_lines_end_at_line_feeds_and_nowhere_else(content: bytes, texts: list[str], tmp_path: Path) -> None:
    assert list(read_lines(write(tmp_path / "texts.txt", content))) == texts


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("eins\nzwölf\n".encode()), encoding="ascii"))
    assert list(read_lines(Path("-"))) == ["eins", "zwölf"]


@pytest.mark.parametrize(("content", "line"), [(b"\xff\n", 1), (b"a\nb\ncaf\xe9\n", 3), (b"a\n\xc3\nb", 2)])
def test_what_is_not_utf8_is_named_by_file_and_line(content: bytes, line: int, tmp_path: Path) -> None:
    path = write(tmp_path / "texts.txt", content)
    with pytest.raises(DataError) as caught:
        list(read_lines(path))
    assert str(caught.value) == f"{path}:{line}: not UTF-8; save the file as UTF-8"


@pytest.mark.parametrize("name", ["absent.txt", "."])
def test_what_cannot_be_read_is_a_data_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(.+\); name a text file, one text a line"):
        list(read_lines(tmp_path / name))


def test_predictions_come_in_order_across_chunks(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.evaluation.prediction_lines.LINES_AT_ONCE", 3)
    texts = [f"film number {index}" * (index % 4) for index in range(11)]
    assert list(predict_all(predictor, texts)) == predictor.predict(texts)


def test_input_is_read_a_chunk_at_a_time(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.evaluation.prediction_lines.LINES_AT_ONCE", 3)
    read: list[int] = []

    def texts() -> Iterable[str]:
        for index in range(100):
            read.append(index)
            yield "a film"

    next(iter(predict_all(predictor, texts())))
    assert len(read) == 3 < LINES_AT_ONCE


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("", "blank, no label"),
        (" \t", "blank, no label"),
        ("qwxyz zzyzx", "the model knows none of its words, the label is a guess"),
        ("film " * 100, "longer than 64 tokens, not all of it was read"),
        ("a film", None),
    ],
)
def test_odd_texts_are_remarked_on_by_number(
    text: str, remark: str | None, predictor: Predictor, capsys: pytest.CaptureFixture[str]
) -> None:
    list(predict_all(predictor, ["a film", text, "a film"]))
    printed = capsys.readouterr()
    assert printed.err == ("" if remark is None else f"text 2: {remark}\n")
    assert printed.out == ""


def test_of_many_odd_texts_of_a_kind_most_are_only_counted(
    predictor: Predictor, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.evaluation.prediction_lines.LINES_AT_ONCE", 4)  # counts run through all chunks
    texts = ["qwxyz", ""] * 10 + ["qwxyz"] * 1234
    told = [f"text {number}: " for number in range(1, 21)] + ["1,234 more: the model knows none of its words"]
    for go in (predict_all, partial(write_share, in_pairs=False, line=as_line, path=tmp_path / "share")):
        list(go(predictor, texts))
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == len(told) and all(map(str.startswith, lines, told)), lines


def test_odd_texts_are_counted_also_where_a_later_one_ends_it_all(
    predictor: Predictor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.evaluation.prediction_lines.LINES_AT_ONCE", 4)
    with pytest.raises(DataError, match="text 13: 0 tabs"):
        list(predict_all(predictor, [""] * 12 + ["no pair"], in_pairs=True))
    assert capsys.readouterr().err.endswith("text 10: blank, no label\n2 more: blank, no label\n")


def test_pairs_are_divided_at_their_tab(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.evaluation.prediction_lines.LINES_AT_ONCE", 2)
    found = list(predict_all(predictor, ["a film\tdull", "", "dull\ta film"], in_pairs=True))
    assert found[0::2] == predictor.predict(["a film", "dull"], ["dull", "a film"])
    assert found[1].label is None
    assert as_line(found[0]).split("\t")[2:] == ["a film", "dull"]
    assert json.loads(as_json(found[0]))["text_pair"] == "dull"


@pytest.mark.parametrize(("text", "tabs"), [("a film", 0), ("a\tb\tc", 2)])
def test_a_text_that_is_no_pair_is_named(
    text: str, tabs: int, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.evaluation.prediction_lines.LINES_AT_ONCE", 2)
    with pytest.raises(DataError, match=f"text 3: {tabs} tabs; write two texts with one tab between them"):
        list(predict_all(predictor, ["a\tb", "c\td", text], in_pairs=True))


def test_json_is_one_line_of_text_label_and_score() -> None:
    line = as_json(Prediction('a "film"\n\u2028', "positive", 0.75))
    assert line.splitlines() == [line]
    assert json.loads(line) == {"text": 'a "film"\n\u2028', "label": "positive", "score": 0.75}
    assert json.loads(as_json(Prediction("", None, None))) == {"text": "", "label": None, "score": None}


def test_a_line_has_three_cells_whatever_the_text_holds() -> None:
    assert as_line(Prediction("a film", "positive", 0.98765)) == "positive\t0.9877\ta film"
    assert as_line(Prediction("a\tb\x1b[2J\n\u202e", "positive", 1.0)) == "positive\t1.0000\ta\\tb\\x1b[2J\\n\\u202e"
    assert as_line(Prediction(" ", None, None)) == "-\t\t "


@pytest.mark.parametrize("text", ["." * 10_000_000, "film " * 2_000_000, "x" * 10_000_000])
def test_a_line_of_ten_megabytes_costs_less_than_a_second(text: str, predictor: Predictor, tmp_path: Path) -> None:
    path = write(tmp_path / "texts.txt", f"a film\n{text}\n".encode())
    started = time.process_time()
    lines = [as_line(prediction) for prediction in predict_all(predictor, read_lines(path))]
    assert time.process_time() - started < 1.0
    assert len(lines) == 2
