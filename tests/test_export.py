"""The program that exports a model as ONNX or uploads it: files and numbers; what is refused leaves nothing behind."""

import json
import re
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock, create_autospec

import huggingface_hub
import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from safetensors.torch import load_file, save_file

from src.data.sources import open_corpus
from src.evaluation.predictor import Predictor, classify
from src.interop.onnx import OnnxModel
from src.utils.config import SENTIMENT_LABELS, SHIPPED_CHECKPOINT, DataConfig
from src.utils.files import MANIFEST, verify
from tests.conftest import Programs, TrainedRun

FILES = {"config.json", MANIFEST, "model.onnx", "model_int8.onnx", "tokenizer.json", "tokenizer_config.json"}
UPLOADED = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"}


@pytest.fixture
def ready_graph(exported: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the exporter's place, which needs seconds: the graph of the shipped model, whatever the model is."""

    def export(model: Any, f: Path, **options: Any) -> None:
        shutil.copy(exported.path / "model.onnx", f)

    monkeypatch.setattr(torch.onnx, "export", export)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the shipped model that a test may change."""
    path = shutil.copytree(SHIPPED_CHECKPOINT, tmp_path / "model")
    (path / MANIFEST).unlink()
    return path


def test_an_export_is_whole_and_small_and_libraries_say_nothing(exported: TrainedRun) -> None:
    assert {file.name for file in exported.path.iterdir()} == FILES
    verify(exported.path)
    assert exported.answer.err.splitlines() == [f"checkpoint  {SHIPPED_CHECKPOINT}"]
    assert (exported.path / "model_int8.onnx").stat().st_size < (exported.path / "model.onnx").stat().st_size / 3


def test_the_graphs_predict_as_the_model_does_and_their_accuracies_are_printed(exported: TrainedRun) -> None:
    predictor = Predictor.load(SHIPPED_CHECKPOINT, "cpu")
    split = open_corpus(DataConfig(dataset="sample"), ("validation",), SENTIMENT_LABELS).splits["validation"]
    dataset, labels = predictor.classifier.dataset(split.texts, split.labels), torch.tensor(split.labels)
    ours = predictor.logits(dataset)
    for name, kind in (("model.onnx", "float32"), ("model_int8.onnx", "int8")):
        found = classify(OnnxModel(exported.path / name), dataset, torch.device("cpu"))
        accuracy = float((found.argmax(-1) == labels).float().mean())
        difference = float((found - ours).abs().max())
        # Sums in another order, over many more texts than the program compares.
        assert difference < 5e-5 if kind == "float32" else 5e-5 < difference < 0.5
        assert abs(accuracy - float((ours.argmax(-1) == labels).float().mean())) < 0.02
        (printed,) = re.findall(rf"^{kind} +accuracy (.*?) %", exported.answer.out, flags=re.MULTILINE)
        assert printed == f"{100 * accuracy:.1f}"


@pytest.mark.parametrize(("name", "fact"), [("classifier.bias", "0.001"), ("classifier.weight", "model.safetensors")])
def test_a_failure_leaves_nothing(name: str, fact: str, programs: Programs, ready_graph: None, model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    if name == "classifier.bias":
        tensors[name][1] += 1e-3
    else:
        del tensors[name]
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    answer = programs.export(model, "--output", model.with_name("onnx"))
    assert (answer.code, answer.out) == (4, "") and fact in answer.error
    assert list(model.parent.iterdir()) == [model]


def test_data_that_cannot_be_read_is_found_before_the_export(programs: Programs, tmp_path: Path) -> None:
    options = ("--output", tmp_path / "onnx", "--quantize", "int8", "--dataset", tmp_path / "absent.csv")
    answer = programs.export(SHIPPED_CHECKPOINT, *options)
    assert answer.code == 3 and "absent.csv" in answer.error and list(tmp_path.iterdir()) == []


def test_what_is_no_export_is_never_replaced(programs: Programs, exported: TrainedRun, tmp_path: Path) -> None:
    shutil.copytree(exported.path, tmp_path / "onnx")
    (tmp_path / "onnx" / "diary.txt").write_text("dear diary")
    for output in (tmp_path / "onnx", tmp_path / "onnx" / "diary.txt", SHIPPED_CHECKPOINT):
        answer = programs.export(SHIPPED_CHECKPOINT, "--output", output, "--overwrite")
        assert answer.code == 2 and str(output) in answer.error
    assert (tmp_path / "onnx" / "diary.txt").read_text() == "dear diary"


def test_overwrite_replaces_an_export(programs: Programs, ready_graph: None, exported: TrainedRun, model: Path) -> None:
    output = shutil.copytree(exported.path, model.with_name("onnx"))
    answer = programs.export(model, "--output", output)
    assert answer.code == 2 and "--overwrite" in answer.error
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"long_text": "windows"}))
    answer = programs.export(model, "--output", output, "--overwrite")
    assert answer.code == 0 and "windows" in answer.err  # which a graph alone does not do
    assert {file.name for file in output.iterdir()} == FILES - {"model_int8.onnx"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What was asked of the hub; nothing of it reaches the world's, and no token of this machine is used."""
    hub = create_autospec(HfApi, instance=True, endpoint="https://hub.invalid")
    hub.create_repo.return_value = "https://hub.invalid/me/reviews"
    monkeypatch.setattr(huggingface_hub, "HfApi", Mock(return_value=hub))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_of_the_test")
    return hub


def test_an_upload_is_the_model_and_its_card_alone(hub: Any, programs: Programs, sample_run: TrainedRun) -> None:
    options = ("--push-to-hub", "me/reviews", "--private", "--license", "apache-2.0")
    answer = programs.export(sample_run.path, *options)
    assert (answer.code, answer.out) == (0, "https://hub.invalid/me/reviews\n"), answer.err
    hub.create_repo.assert_called_once_with("me/reviews", private=True, exist_ok=True)
    (repository, additions), _ = hub.create_commit.call_args
    contents = {}
    for addition in additions:
        with addition.as_file() as file:
            contents[addition.path_in_repo] = file.read()
    assert repository == "me/reviews"
    assert contents.keys() == UPLOADED  # run.json, which knows paths of this machine, stays here
    for name in UPLOADED - {"README.md"}:
        assert contents[name] == (sample_run.path / name).read_bytes()
    card: Any = ModelCard(contents["README.md"].decode())
    header = (card.data.license, card.data.language, card.data.pipeline_tag)
    assert header == ("apache-2.0", "en", "text-classification")
    assert 'model="me/reviews"' in card.text and str(sample_run.path.parent) not in card.content


@pytest.mark.parametrize("error", [huggingface_hub.errors.OfflineModeIsEnabled("off"), OSError("401\nUnauthorized")])
def test_a_hub_that_refuses_is_a_storage_error(error: Exception, hub: Any, programs: Programs) -> None:
    hub.create_repo.side_effect = error
    answer = programs.export(SHIPPED_CHECKPOINT, "--push-to-hub", "me/reviews")
    assert (answer.code, answer.out) == (6, "") and not hub.create_commit.called
    assert "https://hub.invalid/me/reviews" in answer.error and str(error).split()[-1] in answer.error


def test_without_a_token_it_is_said_where_one_is(hub: Any, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    answer = programs.export(SHIPPED_CHECKPOINT, "--push-to-hub", "me/reviews")
    assert (answer.code, answer.out) == (2, "") and "HF_TOKEN" in answer.error and not hub.create_repo.called


@pytest.mark.parametrize(
    ("file", "content"), [("README.md", "---\nlicense: [\n---\n# Mine\n"), ("README.md", None), ("config.json", "{}")]
)
def test_a_damaged_folder_stays_here(file: str, content: str | None, hub: Any, programs: Programs, model: Path) -> None:
    (model / file).unlink()
    if content is not None:
        (model / file).write_text(content)
    answer = programs.export(model, "--push-to-hub", "me/reviews")
    assert (answer.code, answer.out) == (4, "") and not hub.create_repo.called
    assert str(model / file) in answer.error
