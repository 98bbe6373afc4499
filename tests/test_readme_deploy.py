"""The files that README shows for serving an exported model, run as they are beside an export."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.evaluation.predictor import Predictor
from src.utils.config import SAMPLE_DIR, SHIPPED_CHECKPOINT
from tests.conftest import TrainedRun
from tests.test_readme import FILES

NO_TORCH = "import runpy, sys; sys.modules['torch'] = sys.modules['transformers'] = None; "


@pytest.fixture
def place(exported: TrainedRun, tmp_path: Path) -> Path:
    """A folder with the files of README, and the export where they look for it."""
    assert list(FILES) == ["classify.py", "service.py"]
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


def test_the_classifier_runs_without_pytorch(place: Path) -> None:
    program = NO_TORCH + "runpy.run_path('classify.py', run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", program], cwd=place, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0 and ended.stderr == "", ended.stderr
    answers = json.loads(ended.stdout.replace("'", '"'))
    assert [answer["label"] for answer in answers] == ["positive", "negative"]


def test_the_classifier_answers_as_ours_does(imported: dict[str, Any]) -> None:
    lines = (SAMPLE_DIR / "validation.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [*(json.loads(line)["sentence"] for line in lines[::5]), "a film that never ends " * 50]
    expected = Predictor.load(SHIPPED_CHECKPOINT, "cpu").predict(texts)
    for found, ours in zip(imported["classify"].classify(texts), expected, strict=True):
        assert found["label"] == ours.label
        assert found["score"] == pytest.approx(ours.score, abs=1e-5)  # sums in another order


def test_the_service_answers_and_refuses_what_is_too_much(imported: dict[str, Any]) -> None:
    from fastapi.testclient import TestClient

    texts = ["a gripping film", "two hours I will never get back"]
    with TestClient(imported["service"].app) as client:
        answer = client.post("/classify", json={"texts": texts})
        assert (answer.status_code, answer.json()) == (200, imported["classify"].classify(texts))
        for refused in ([], ["a film"] * 65, [""], ["." * 5_001], [7]):
            assert client.post("/classify", json={"texts": refused}).status_code == 422
