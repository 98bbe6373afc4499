import io
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from src.evaluation.prediction_lines import as_json, as_line, predict_all, read_lines, write_share
from src.evaluation.predictor import Prediction, Predictor
from src.utils.errors import DataError
from tests.conftest import TrainedRun


@pytest.fixture(scope="module")
def predictor(sample_run: TrainedRun) -> Predictor:
    return Predictor.load(sample_run.path, "cpu")


def test_lines_end_at_line_feeds_and_nowhere_else_and_a_dash_is_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "texts.txt"
    for content, texts in (
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\r\ntwo", ["one", "two"]),
        (b"one\n\n \ntwo\n", ["one", "", " ", "two"]),
        (b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n", ["one", "\ufefftwo"]),
        ("ein\u2028schöner\x0cFilm\rx\n".encode(), ["ein\u2028schöner\x0cFilm\rx"]),
        (b"", []),
        (b"\n", [""]),
    ):
        path.write_bytes(content)
        assert list(read_lines(path)) == texts, content
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("eins\nzwölf\n".encode()), encoding="ascii"))
    assert list(read_lines(Path("-"))) == ["eins", "zwölf"]


def test_what_is_not_utf8_is_named_by_file_and_line_and_what_is_no_file_by_name(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    for content, line in ((b"\xff\n", 1), (b"a\nb\ncaf\xe9\n", 3)):
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            list(read_lines(path))
        assert str(caught.value).startswith(f"{path}:{line}: ")
    for name in (tmp_path / "absent.txt", tmp_path):
        with pytest.raises(DataError, match=name.name):
            list(read_lines(name))


def test_predictions_come_in_order_across_chunks_that_are_read_one_at_a_time(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.evaluation.prediction_lines.LINES_AT_ONCE", 3)
    texts = [f"film number {index}" * (index % 4) for index in range(11)]
    assert_alike(predict_all(predictor, texts), predictor.predict(texts))
    unread = iter(texts)
    next(iter(predict_all(predictor, unread)))
    assert len(list(unread)) == 11 - 3


def assert_alike(found: Iterable[Prediction], expected: Iterable[Prediction]) -> None:
    """The same but for the rounding of scores: a text's batch has another shape in another chunk."""
    for one, other in zip(found, expected, strict=True):
        assert replace(one, score=other.score) == other
        assert one.score == (None if other.score is None else pytest.approx(other.score, abs=1e-6))


def test_of_many_odd_texts_of_a_kind_most_are_only_counted(
    predictor: Predictor, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.evaluation.prediction_lines.LINES_AT_ONCE", 4)  # counts run through all chunks
    texts = ["qwxyz", ""] * 10 + ["qwxyz"] * 1234
    told = [f"warning: text {number}: " for number in range(1, 21)] + ["warning: 1,234 more: "]
    for go in (predict_all, partial(write_share, in_pairs=False, line=as_line, path=tmp_path / "share")):
        list(go(predictor, texts))
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == len(told) and all(map(str.startswith, lines, told)), lines


def test_odd_texts_are_remarked_on_by_number_also_where_a_later_one_ends_it_all(
    predictor: Predictor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    list(predict_all(predictor, ["a film", " \t", "qwxyz zzyzx", "film " * 100, "a film"]))
    blank, unknown, cut = capsys.readouterr().err.splitlines()
    assert (
        blank.startswith("warning: text 2: ")
        and unknown.startswith("warning: text 3: ")
        and cut.startswith("warning: text 4: ")
    )
    assert "blank" in blank and "words" in unknown and "64 tokens" in cut
    monkeypatch.setattr("src.evaluation.prediction_lines.LINES_AT_ONCE", 4)
    with pytest.raises(DataError, match=r"text 13: 0 tabs"):
        list(predict_all(predictor, [""] * 12 + ["no pair"], in_pairs=True))
    *_, last, rest = capsys.readouterr().err.splitlines()
    assert last.startswith("warning: text 10: ") and rest.startswith("warning: 2 more: ")


def test_pairs_are_divided_at_their_tab(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.evaluation.prediction_lines.LINES_AT_ONCE", 2)
    found = list(predict_all(predictor, ["a film\tdull", "", "dull\ta film"], in_pairs=True))
    assert_alike(found[0::2], predictor.predict(["a film", "dull"], ["dull", "a film"]))
    assert found[1].label is None
    assert as_line(found[0]).split("\t")[2:] == ["a film", "dull"]
    assert json.loads(as_json(found[0]))["text_pair"] == "dull"
    with pytest.raises(DataError, match=r"text 3: 2 tabs"):
        list(predict_all(predictor, ["a\tb", "c\td", "a\tb\tc"], in_pairs=True))


def test_a_line_has_three_cells_and_json_is_one_line_whatever_the_text_holds() -> None:
    assert as_line(Prediction("a\tb\x1b[2J\u202e", "positive", 0.98765)) == "positive\t0.9877\ta\\tb\\x1b[2J\\u202e"
    assert as_line(Prediction(" ", None, None)) == "-\t\t "
    line = as_json(Prediction('a "film"\n\u2028', "positive", 0.75))
    assert line.splitlines() == [line]
    assert json.loads(line) == {"text": 'a "film"\n\u2028', "label": "positive", "score": 0.75}
    assert json.loads(as_json(Prediction("", None, None))) == {"text": "", "label": None, "score": None}
