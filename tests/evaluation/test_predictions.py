import io
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from src.data.sources import TextSplit
from src.evaluation import predictions
from src.evaluation.predictions import Predictions, predict_all, read_lines, read_predictions
from src.evaluation.predictor import Prediction, Predictor
from src.utils.errors import DataError
from tests.conftest import TrainedRun
from tests.evaluation.some_predictions import FEW, IN_PAIRS, UNLABELLED, drawn

TEXTS = ["A fine film.", "qwxyz zzyzx", "dull, and qwxyz"]


@pytest.fixture(scope="module")
def predictor(sample_run: TrainedRun) -> Predictor:
    return Predictor.load(sample_run.path, "cpu")


# A stream of texts


def test_lines_end_at_line_feeds_alone_and_what_is_no_text_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "texts.txt"
    for content, texts in (
        (b"one\r\n\n \ntwo", ["one", "", " ", "two"]),
        (b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n", ["one", "\ufefftwo"]),
        ("ein\u2028schöner\x0cFilm\rx\n".encode(), ["ein\u2028schöner\x0cFilm\rx"]),
        (b"", []),
        (b"\n", [""]),
    ):
        path.write_bytes(content)
        assert list(read_lines(path)) == texts, content
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("eins\nzwölf\n".encode()), encoding="ascii"))
    assert list(read_lines(Path("-"))) == ["eins", "zwölf"]
    for content, line in ((b"\xff\n", 1), (b"a\nb\ncaf\xe9\n", 3)):
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            list(read_lines(path))
        assert str(caught.value).startswith(f"{path}:{line}: ")
    for name in (tmp_path / "absent.txt", tmp_path):
        with pytest.raises(DataError, match=name.name):
            list(read_lines(name))


def assert_alike(found: Iterable[Prediction], expected: Iterable[Prediction]) -> None:
    """The same but for the rounding of scores: a text's batch has another shape in another chunk."""
    for one, other in zip(found, expected, strict=True):
        assert one == replace(other, score=one.score, scores=one.scores) and one.score == pytest.approx(
            other.score, abs=1e-6
        )


def test_predictions_come_in_order_across_chunks_that_are_read_one_at_a_time(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "LINES_AT_ONCE", 3)
    texts = [f"film number {index}" * (index % 4) for index in range(11)]
    assert_alike(predict_all(predictor, texts), predictor.predict(texts))
    unread = iter(texts)
    next(iter(predict_all(predictor, unread)))
    assert len(list(unread)) == 11 - 3
    found = list(predict_all(predictor, ["a film\tdull", "", "dull\ta film", "", "a\tfilm"], in_pairs=True))
    assert_alike(found[0::2], predictor.predict(["a film", "dull", "a"], ["dull", "a film", "film"]))
    assert found[1].label is None


def test_odd_texts_are_told_by_number_and_most_of_many_are_only_counted_also_where_an_error_ends_it_all(
    predictor: Predictor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    list(predict_all(predictor, ["a film", " \t", "qwxyz zzyzx", "film " * 100, "a film"]))
    blank, unknown, cut = capsys.readouterr().err.splitlines()
    assert "text 2: blank" in blank and "text 3: the model knows none" in unknown and "text 4: too long" in cut
    monkeypatch.setattr(predictions, "LINES_AT_ONCE", 4)  # numbers and counts run through all chunks
    list(predict_all(predictor, ["qwxyz", ""] * 10 + ["qwxyz"] * 1234))
    told = [f"warning: text {number}: " for number in range(1, 21)] + ["warning: 1,234 more: "]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(told) and all(map(str.startswith, lines, told)), lines
    for last, tabs in (("no pair", 0), ("a\tb\tc", 2)):
        with pytest.raises(DataError, match=rf"text 13: {tabs} tabs"):
            list(predict_all(predictor, [""] * 12 + [last], in_pairs=True))
        *_, ten, rest = capsys.readouterr().err.splitlines()
        assert ten.startswith("warning: text 10: ") and rest.startswith("warning: 2 more: ")


# A split


def test_a_split_has_the_predictions_of_the_predictor_and_counts_unknown_tokens_of_all_windows(
    predictor: Predictor,
) -> None:
    found = predictions.predict_split(predictor, TextSplit(TEXTS, [1, 0, 0], "made up"))
    expected = predictor.predict(TEXTS)
    assert found.label == [one.label for one in expected]
    assert found.score == pytest.approx([one.score for one in expected])
    true = ["positive", "negative", "negative"]
    answers = zip(found.label, true, strict=True)
    assert found.true == true and found.right == [label == true for label, true in answers]
    tokens = [predictor.classifier.tokenizer.encode(text).tokens for text in TEXTS]
    assert found.unknown == [one.count("[UNK]") for one in tokens] and found.unknown[1] == 2
    without_labels = predictions.predict_split(predictor, TextSplit(TEXTS, [-1, -1, -1], "made up"))
    assert without_labels.true is None and without_labels.right == []
    in_windows = Predictor(replace(predictor.classifier, seq_len=8, long_text="windows"), predictor.device)
    assert predictions.predict_split(in_windows, TextSplit(["a film", "qwxyz " * 20], [0, 1], "made up")).unknown == [
        0,
        20,
    ]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    for some in (FEW, UNLABELLED, IN_PAIRS, drawn(), replace(FEW, unknown=None)):
        predictions.write_predictions(tmp_path / "predictions.jsonl", some)
        assert read_predictions(tmp_path / "predictions.jsonl") == replace(some, origin="predictions.jsonl")


def test_what_inference_wrote_is_read_without_blank_texts(tmp_path: Path) -> None:
    lines = [Prediction("a\u2028film", "10", 0.9), Prediction(" "), Prediction("", "9", 1)]
    (tmp_path / "out.jsonl").write_text("".join(f"{line.as_json()}\n" for line in lines), encoding="utf-8")
    expected = Predictions(["a\u2028film", ""], None, ["10", "9"], [0.9, 1.0], None, None, ("9", "10"), "out.jsonl")
    assert read_predictions(tmp_path / "out.jsonl") == expected


@pytest.mark.parametrize(
    "line",
    [
        "[1]",
        "[" * 100_000,
        '{"label": "good", "score": 0.5}',
        '{"text": "a", "label": "b", "score": 0.5, "true": 1}',
        '{"text": "a", "label": "b", "score": NaN}',
        '{"text": "a", "label": "b", "score": 1, "unknown": "1"}',
    ],
)
def test_a_line_that_is_none_is_named(line: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"predictions\.jsonl"):
        read_predictions(tmp_path / "predictions.jsonl")  # which is not there
    first, path = Prediction("a", "b", 0.5).as_json(), tmp_path / "predictions.jsonl"
    path.write_text(f"{first}\n{line}\n{first}\n")
    with pytest.raises(DataError) as caught:
        read_predictions(path)
    assert str(caught.value).startswith(f"{path}:2: ")
