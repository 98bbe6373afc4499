import json
from dataclasses import replace
from pathlib import Path

import pytest

from src.data.sources import TextSplit
from src.evaluation.predictions import Predictions, predict_split, read_predictions, write_predictions
from src.evaluation.predictor import Predictor
from src.utils.errors import DataError
from tests.conftest import TrainedRun
from tests.evaluation.some_predictions import FEW, drawn, in_pairs, unlabelled

TEXTS = ["A fine film.", "qwxyz zzyzx", "dull, and qwxyz"]


@pytest.fixture(scope="module")
def predictor(sample_run: TrainedRun) -> Predictor:
    return Predictor.load(sample_run.path, "cpu")


def test_a_split_has_the_predictions_of_the_predictor_and_counts_unknown_tokens(predictor: Predictor) -> None:
    predictions = predict_split(predictor, TextSplit(TEXTS, [1, 0, 0], "made up"))
    expected = predictor.predict(TEXTS)
    assert [predictions.label_names[label] for label in predictions.predicted] == [one.label for one in expected]
    assert predictions.scores == pytest.approx([one.score for one in expected])
    assert predictions.true == [1, 0, 0]
    assert predictions.right == [found == true for found, true in zip(predictions.predicted, [1, 0, 0], strict=True)]
    tokens = [predictor.classifier.tokenizer.encode(text).tokens for text in TEXTS]
    assert predictions.unknown == [one.count("[UNK]") for one in tokens] and predictions.unknown[1] == 2
    unlabelled = predict_split(predictor, TextSplit(TEXTS, [-1, -1, -1], "made up"))
    assert unlabelled.true is None and unlabelled.right == []


def test_unknown_tokens_of_all_windows_are_counted(predictor: Predictor) -> None:
    in_windows = replace(predictor.classifier, seq_len=8, long_text="windows")
    split = TextSplit(["a film", "qwxyz " * 20], [0, 1], "made up")
    assert predict_split(Predictor(in_windows, predictor.device), split).unknown == [0, 20]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    for predictions in (FEW, unlabelled(), in_pairs(), drawn(), replace(FEW, unknown=None)):
        write_predictions(tmp_path / "predictions.jsonl", predictions)
        assert read_predictions(tmp_path / "predictions.jsonl") == replace(predictions, origin="predictions.jsonl")


def test_what_inference_wrote_is_read_without_blank_texts(tmp_path: Path) -> None:
    lines = [
        {"text": "a\u2028film", "label": "10", "score": 0.9},
        {"text": " ", "label": None, "score": None},
        {"text": "", "label": "9", "score": 1},
    ]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (tmp_path / "out.jsonl").write_text(content, encoding="utf-8")
    predictions = read_predictions(tmp_path / "out.jsonl")
    assert predictions == Predictions(
        ["a\u2028film", ""], None, [1, 0], [0.9, 1.0], None, None, ("9", "10"), "out.jsonl"
    )


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("[1]", "JSON"),
        ("[" * 100_000, "JSON"),
        ('{"label": "good", "score": 0.5}', "text"),
        ('{"text": "a", "label": "b", "score": 0.5, "true": 1}', "true"),
        ('{"text": "a", "label": "b", "score": NaN}', "nan"),
        ('{"text": "a", "label": "b", "score": 1.5}', "1.5"),
        ('{"text": "a", "label": "b", "score": 1, "unknown": -1}', "-1"),
    ],
)
def test_a_line_that_is_none_is_named(line: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"predictions\.jsonl"):
        read_predictions(tmp_path / "predictions.jsonl")  # which is not there
    first, path = '{"text": "a", "label": "b", "score": 0.5}', tmp_path / "predictions.jsonl"
    path.write_text(f"{first}\n{line}\n{first}\n")
    with pytest.raises(DataError) as caught:
        read_predictions(path)
    assert f"{path}:2" in str(caught.value) and named in str(caught.value)
