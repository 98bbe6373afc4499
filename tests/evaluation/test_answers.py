import json
from dataclasses import replace
from pathlib import Path

import pytest

from src.data.sources import TextSplit
from src.evaluation.answers import Answers, answer_split, read_answers, write_answers
from src.evaluation.predictor import Predictor
from src.utils.errors import DataError
from tests.conftest import TrainedRun
from tests.evaluation.some_answers import FEW, drawn, in_pairs, unlabelled

TEXTS = ["A fine film.", "qwxyz zzyzx", "dull, and qwxyz"]


@pytest.fixture(scope="module")
def predictor(sample_run: TrainedRun) -> Predictor:
    return Predictor.load(sample_run.path, "cpu")


def test_answers_are_the_predictions(predictor: Predictor) -> None:
    answers = answer_split(predictor, TextSplit(TEXTS, [1, 0, 0], "made up"))
    predictions = predictor.predict(TEXTS)
    assert [answers.label_names[label] for label in answers.predicted] == [one.label for one in predictions]
    assert answers.scores == pytest.approx([one.score for one in predictions])
    assert answers.true == [1, 0, 0] and answers.right == [
        p == t for p, t in zip(answers.predicted, [1, 0, 0], strict=True)
    ]


def test_unknown_tokens_are_counted_as_the_tokenizer_writes_them(predictor: Predictor) -> None:
    answers = answer_split(predictor, TextSplit(TEXTS, [-1, -1, -1], "made up"))
    tokens = [predictor.classifier.tokenizer.encode(text).tokens for text in TEXTS]
    assert answers.unknown == [one.count("[UNK]") for one in tokens]
    assert answers.unknown[1] == 2
    assert answers.true is None and answers.right == []


def test_unknown_tokens_of_all_windows_are_counted(predictor: Predictor) -> None:
    in_windows = replace(predictor.classifier, seq_len=8, long_text="windows")
    split = TextSplit(["a film", "qwxyz " * 20], [0, 1], "made up")
    assert answer_split(Predictor(in_windows, predictor.device), split).unknown == [0, 20]


@pytest.mark.parametrize("answers", [FEW, unlabelled(), in_pairs(), drawn(), replace(FEW, unknown=None)])
def test_what_is_written_is_read_again(answers: Answers, tmp_path: Path) -> None:
    write_answers(tmp_path / "predictions.jsonl", answers)
    assert read_answers(tmp_path / "predictions.jsonl") == replace(answers, origin="predictions.jsonl")


def test_what_inference_wrote_is_read_without_blank_texts(tmp_path: Path) -> None:
    lines = [
        {"text": "a\u2028film", "label": "10", "score": 0.9},
        {"text": " ", "label": None, "score": None},
        {"text": "", "label": "9", "score": 1},
    ]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (tmp_path / "out.jsonl").write_text(content, encoding="utf-8")
    answers = read_answers(tmp_path / "out.jsonl")
    assert answers == Answers(["a\u2028film", ""], None, [1, 0], [0.9, 1.0], None, None, ("9", "10"), "out.jsonl")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", ":2: no prediction in JSON"),
        ("[1]", ":2: no prediction in JSON"),
        ('{"text": "a film", "score": 0.5}', ":2: no prediction in JSON"),
        ('{"label": "good", "score": 0.5}', ":2: text, text_pair, label and true have to be strings"),
        ('{"text": "a", "label": 1, "score": 0.5}', ":2: text, text_pair, label and true have to be strings"),
        ('{"text": "a", "label": "b", "score": 0.5, "true": 1}', "have to be strings"),
        ('{"text": "a", "label": "b", "score": NaN}', ":2: score = nan is no probability"),
        ('{"text": "a", "label": "b", "score": "1"}', ":2: score = 1 is no probability"),
        ('{"text": "a", "label": "b", "score": 1.5}', ":2: score = 1.5 is no probability"),
        ('{"text": "a", "label": "b", "score": 1, "unknown": -1}', ":2: unknown = -1 is no number of tokens"),
        ("[" * 100_000, ":2: no prediction in JSON"),
    ],
)
def test_a_line_that_is_none_is_named(line: str, complaint: str, tmp_path: Path) -> None:
    first = '{"text": "a", "label": "b", "score": 0.5}'
    (tmp_path / "predictions.jsonl").write_text(f"{first}\n{line}\n{first}\n")
    with pytest.raises(DataError, match=complaint):
        read_answers(tmp_path / "predictions.jsonl")


def test_a_file_without_predictions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    with pytest.raises(DataError, match="is no file"):
        read_answers(path)
    path.write_bytes(b"\xff\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_answers(path)
    path.write_text('{"text": "", "label": null, "score": null}\n')
    with pytest.raises(DataError, match="holds no predictions"):
        read_answers(path)
