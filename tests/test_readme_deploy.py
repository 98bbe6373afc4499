"""The files that README shows for serving an exported model, run as they are beside an export."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.data.sources import open_corpus
from src.evaluation.predictor import Predictor
from src.utils.config import SHIPPED_CHECKPOINT, DataConfig
from tests.conftest import TrainedRun
from tests.test_readme import FILES

NO_TORCH = "import runpy, sys; sys.modules['torch'] = sys.modules['transformers'] = None; "


@pytest.fixture
def place(exported: TrainedRun, tmp_path: Path) -> Path:
    """A folder with the files of README, and the export where they look for it."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "bert-sst2-onnx").symlink_to(exported.path)
    return tmp_path


@pytest.fixture
def imported(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    names = [name.removesuffix(".py") for name in FILES]
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        del sys.modules[name]


def test_readme_shows_a_classifier_and_a_service() -> None:
    assert list(FILES) == ["classify.py", "service.py"]
    assert all(content.count("\n") < 30 for content in FILES.values())


def test_the_classifier_runs_without_pytorch(place: Path) -> None:
    program = NO_TORCH + "runpy.run_path('classify.py', run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", program], cwd=place, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0 and ended.stderr == "", ended.stderr
    answers = json.loads(ended.stdout.replace("'", '"'))
    assert [answer["label"] for answer in answers] == ["positive", "negative"]


def test_the_classifier_answers_as_ours_does(imported: dict[str, Any]) -> None:
    predictor = Predictor.load(SHIPPED_CHECKPOINT, "cpu")
    corpus = open_corpus(DataConfig(dataset="sample"), ("validation",), predictor.classifier.label_names)
    texts = [*corpus.splits["validation"].texts[::5], "a film that never ends " * 50]
    for found, expected in zip(imported["classify"].classify(texts), predictor.predict(texts), strict=True):
        assert found["label"] == expected.label
        assert found["score"] == pytest.approx(expected.score, abs=1e-5)


def test_the_service_answers_and_refuses_what_is_too_much(imported: dict[str, Any]) -> None:
    from fastapi.testclient import TestClient

    texts = ["a gripping film", "two hours I will never get back"]
    with TestClient(imported["service"].app) as client:
        answer = client.post("/classify", json={"texts": texts})
        assert answer.status_code == 200
        assert answer.json() == imported["classify"].classify(texts)
        for refused in ([], ["a film"] * 65, [""], ["." * 5_001], [7]):
            assert client.post("/classify", json={"texts": refused}).status_code == 422
        assert "/classify" in client.get("/openapi.json").json()["paths"]
