import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from src.evaluation.predictor import Prediction, Predictor, classify
from src.interop.huggingface import load_classifier
from src.utils.config import REPOSITORY, SHIPPED_CHECKPOINT, LongText
from src.utils.errors import CheckpointError, DataError, UsageError
from tests.conftest import TrainedRun

TEXTS = [
    "A gripping film from its first scene to its last.",
    "dull",
    "The plot is thin, the jokes are old, and nobody in it seems to want to be there.",
    "A film.",
    "good " * 40,
]


@pytest.fixture(scope="module")
def predictor(sample_run: TrainedRun) -> Predictor:
    """A predictor with large random weights: after two epochs a tiny model says the same of every text."""
    classifier = load_classifier(sample_run.path)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in classifier.model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.5)
    return Predictor(classifier, torch.device("cpu"))


def by_hand(predictor: Predictor, ids: list[int], types: list[int] | None = None) -> torch.Tensor:
    with torch.inference_mode():
        token_types = None if types is None else torch.tensor([types])
        logits: torch.Tensor = predictor.model(torch.tensor([ids]), None, token_types)
    return logits[0]


def assert_is(found: Prediction, logits: torch.Tensor, predictor: Predictor) -> None:
    assert found.score == pytest.approx(float(logits.softmax(-1).max()), abs=1e-5)
    assert found.label == predictor.classifier.label_names[int(logits.argmax())]
    expected = dict(zip(predictor.classifier.label_names, logits.softmax(-1).tolist(), strict=True))
    assert found.scores == pytest.approx(expected, abs=1e-5)


def test_three_lines_are_enough_and_a_single_text_is_no_list(sample_run: TrainedRun, tmp_path: Path) -> None:
    predictor = Predictor.load(str(sample_run.path))
    (prediction,) = predictor.predict(["a gripping film"])
    assert prediction.text == "a gripping film" and prediction.label in ("negative", "positive")
    with pytest.raises(TypeError, match="list"):
        predictor.predict("good")
    with pytest.raises(CheckpointError, match="absent"):
        Predictor.load(tmp_path / "absent")
    with pytest.raises(UsageError, match="--device abacus"):
        Predictor.load(sample_run.path, "abacus")


def test_score_is_the_probability_of_the_label_in_the_order_of_the_texts(predictor: Predictor) -> None:
    pandas = pytest.importorskip("pandas")
    order = [3, 0, 4, 2]
    shuffled = pandas.Series(TEXTS).iloc[order]
    for texts, wanted in ((iter(TEXTS), TEXTS), (shuffled, [TEXTS[index] for index in order])):
        predictions = predictor.predict(texts)
        assert [one.text for one in predictions] == wanted
        for one in predictions:
            assert_is(one, by_hand(predictor, predictor.classifier.tokenizer.encode(one.text).ids), predictor)
    with pytest.raises(TypeError, match="DataFrame"):
        predictor.predict(pandas.DataFrame({"text": TEXTS}))


@pytest.mark.parametrize(
    ("texts", "pairs", "fact"),
    [
        (["a", None], None, "text 2: None"),
        (["a", math.nan], None, "text 2: nan"),
        (["a", "b"], ["c", 1], "second text 2: 1"),
        (["a", "b"], ["c"], "2 texts and 1 second texts"),
    ],
)
def test_texts_that_are_none_are_refused_with_their_place(
    texts: list[Any], pairs: list[Any] | None, fact: str, predictor: Predictor
) -> None:
    with pytest.raises(DataError, match=fact):
        predictor.predict(texts, pairs)


@pytest.mark.parametrize("tokens", [1, 60, 10_000])
def test_a_text_scores_the_same_in_whatever_batch(
    tokens: int, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [text[start:] for text in TEXTS for start in range(0, 24, 5)]
    dataset = predictor.classifier.dataset(texts)
    wanted = torch.cat([predictor.logits(predictor.classifier.dataset([text])) for text in texts])
    monkeypatch.setattr("src.evaluation.predictor.TOKENS_PER_BATCH", {"cpu": tokens})
    try:
        for training in (True, False):  # which is left as it was
            predictor.model.train(training)
            found = classify(predictor.model, dataset, predictor.device)
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
            assert predictor.model.training == training
    finally:
        predictor.model.eval()


def test_a_forked_process_predicts_as_its_parent() -> None:
    program = f"""
import os, signal, sys
from src.evaluation.predictor import Predictor
predictor = Predictor.load({str(SHIPPED_CHECKPOINT)!r}, "cpu")
predict = lambda: [one.label for one in predictor.predict(["a gripping film", "a dull one"] * 500)]
found = predict()
if os.fork() == 0:
    signal.alarm(60)
    os._exit(predict() != found)
sys.exit(os.wait()[1] != 0)
"""
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, env=environment, check=True)


def test_blank_texts_keep_their_place_and_get_no_label(predictor: Predictor) -> None:
    predictions = predictor.predict(["", "good", " \t\n", "bad", "\u2003"])
    (good,) = predictor.predict(["good"])
    assert [one.label is None for one in predictions] == [True, False, True, False, True]
    assert predictions[2] == Prediction(" \t\n", None, None)
    assert predictions[1] == replace(
        good, score=predictions[1].score, scores=predictions[1].scores
    )  # which another batch may round
    assert predictions[1].score == pytest.approx(good.score, abs=1e-6)
    assert predictor.predict([]) == [] and predictor.predict([" "]) == [Prediction(" ")]
    blank, known = predictor.predict([" ", "good"], ["dull", "a film"])  # of pairs the first text counts
    (alone,) = predictor.predict(["good"], ["a film"])
    assert blank == Prediction(" ", None, None, pair="dull") and known == replace(
        alone, score=known.score, scores=known.scores
    )
    assert known.score == pytest.approx(alone.score, abs=1e-6)


def test_unknown_and_truncated_texts_are_marked(predictor: Predictor) -> None:
    unknown, known, cut = predictor.predict(["qwxyz zzyzx", "qwxyz film", "film " * 100])
    assert (unknown.unknown, known.unknown, cut.unknown) == (True, False, False)
    assert (unknown.truncated, known.truncated, cut.truncated) == (False, False, True)
    assert cut.score == pytest.approx(predictor.predict(["film " * 62])[0].score, abs=1e-5)
    assert predictor.predict(["a fine \udcff film"])[0].label is not None  # half a surrogate pair


def test_a_long_text_has_the_mean_logits_of_its_windows_or_those_of_beginning_and_end(predictor: Predictor) -> None:
    def predict(long_text: LongText) -> Prediction:
        classifier = replace(predictor.classifier, long_text=long_text, seq_len=8)
        return Predictor(classifier, predictor.device).predict([TEXTS[1], TEXTS[2]])[1]

    cls, *words, sep = predictor.classifier.tokenizer.encode(TEXTS[2]).ids
    windows = [[cls, *words[start : start + 6], sep] for start in range(0, len(words), 6)]
    assert len(windows) > 2
    found = predict("windows")
    assert_is(found, torch.stack([by_hand(predictor, window) for window in windows]).mean(0), predictor)
    assert not found.truncated
    found = predict("head-tail")
    assert_is(found, by_hand(predictor, [cls, *words[:3], *words[-3:], sep]), predictor)
    assert found.truncated


def test_logits_that_are_not_finite_are_an_error(sample_run: TrainedRun) -> None:
    classifier = load_classifier(sample_run.path)
    torch.nn.init.constant_(classifier.model.classifier.bias, torch.nan)
    with pytest.raises(CheckpointError, match="finite"):
        Predictor(classifier, torch.device("cpu")).predict(["good"])


def test_a_pair_is_read_in_two_segments(predictor: Predictor) -> None:
    pairs = [TEXTS[0], TEXTS[3], ""]
    found = predictor.predict(TEXTS[:3], pairs)
    for text, pair, prediction in zip(TEXTS, pairs, found, strict=False):
        encoding = predictor.classifier.tokenizer.encode(text, pair)
        assert_is(prediction, by_hand(predictor, encoding.ids, encoding.type_ids), predictor)
    swapped = predictor.predict(pairs[:2], TEXTS[:2])
    assert swapped[1].score != pytest.approx(found[1].score, abs=1e-4)


def test_a_line_has_three_cells_and_json_is_one_line_whatever_the_text_holds() -> None:
    assert Prediction("a\tb\x1b[2J\u202e", "good", 0.98765).as_line() == "good\t0.9877\ta\\tb\\x1b[2J\\u202e"
    assert Prediction(" ").as_line() == "-\t\t "
    assert Prediction("a", "b", 0.5, pair="c").as_line() == "b\t0.5000\ta\tc"
    scores = {"good": 0.75, "bad": 0.25}
    line = Prediction('a "film"\n\u2028', "good", 0.75, pair="c", scores=scores).as_json()
    assert line.splitlines() == [line]
    answer = {"label": "good", "score": 0.75, "scores": scores}
    assert json.loads(line) == {"text": 'a "film"\n\u2028', "text_pair": "c"} | answer
    assert json.loads(Prediction("").as_json()) == {"text": "", "label": None, "score": None, "scores": {}}
