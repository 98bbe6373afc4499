"""The program that exports a model as ONNX: its files and their numbers; what is refused leaves nothing behind."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from src.data.sources import open_corpus
from src.evaluation.predictor import Predictor, classify
from src.interop.onnx import OnnxModel
from src.utils.config import SHIPPED_CHECKPOINT, DataConfig
from src.utils.files import MANIFEST, verify
from tests.conftest import Programs, TrainedRun

FILES = {"config.json", MANIFEST, "model.onnx", "model_int8.onnx", "tokenizer.json", "tokenizer_config.json"}


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


@pytest.mark.parametrize("data", ["sample", pytest.param("SST-2", marks=pytest.mark.slow)])
def test_the_graphs_answer_as_the_model_does_and_their_accuracies_are_printed(data: str, exported: TrainedRun) -> None:
    source = data if data == "sample" else os.environ.get("SST2_DIR")
    if source is None:
        pytest.skip("needs SST-2: set SST2_DIR to a folder that holds it")
    predictor = Predictor.load(SHIPPED_CHECKPOINT, "cpu")
    corpus = open_corpus(DataConfig(dataset=source), ("validation",), predictor.classifier.label_names)
    split = corpus.splits["validation"]
    dataset, labels = predictor.dataset(split.texts, split.labels), torch.tensor(split.labels)
    ours = predictor.logits(dataset)
    for name, kind in (("model.onnx", "float32"), ("model_int8.onnx", "int8")):
        found = classify(OnnxModel(exported.path / name), dataset, torch.device("cpu"))
        accuracy = float((found.argmax(-1) == labels).float().mean())
        difference = float((found - ours).abs().max())
        # Sums in another order, over many more texts than the program compares.
        assert difference < 5e-5 if kind == "float32" else 5e-5 < difference < 0.5
        assert abs(accuracy - float((ours.argmax(-1) == labels).float().mean())) < 0.02
        if data == "sample":
            (printed,) = re.findall(rf"^{kind} +accuracy (.*?) %", exported.answer.out, flags=re.MULTILINE)
            assert printed == f"{100 * accuracy:.1f}"


def test_a_graph_that_differs_from_the_model_is_not_kept(programs: Programs, ready_graph: None, model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors["classifier.bias"][1] += 1e-3
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    answer = programs.export(model, "--output", model.with_name("onnx"))
    assert (answer.code, answer.out) == (4, "") and "0.001" in answer.error
    assert list(model.parent.iterdir()) == [model]


def test_a_model_without_classifier_is_a_checkpoint_error(programs: Programs, model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.")}
    save_file(kept, model / "model.safetensors", {"format": "pt"})
    answer = programs.export(model, "--output", model.with_name("onnx"))
    assert (answer.code, answer.out) == (4, "") and str(model) in answer.error
    assert list(model.parent.iterdir()) == [model]


def test_data_that_cannot_be_read_is_found_before_the_export(programs: Programs, tmp_path: Path) -> None:
    options = ("--output", tmp_path / "onnx", "--quantize", "int8", "--dataset", tmp_path / "absent.csv")
    answer = programs.export(SHIPPED_CHECKPOINT, *options)
    assert answer.code == 3 and "absent.csv" in answer.error and list(tmp_path.iterdir()) == []


def test_what_is_no_export_is_never_replaced(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear diary")
    for output in (tmp_path / "notes", tmp_path / "notes" / "diary.txt", SHIPPED_CHECKPOINT):
        answer = programs.export(SHIPPED_CHECKPOINT, "--output", output, "--overwrite")
        assert answer.code == 2 and str(output) in answer.error
    assert (tmp_path / "notes" / "diary.txt").read_text() == "dear diary"


def test_an_export_is_replaced_only_where_that_was_asked_for(
    programs: Programs, ready_graph: None, exported: TrainedRun, tmp_path: Path
) -> None:
    shutil.copytree(exported.path, tmp_path / "onnx")
    answer = programs.export(SHIPPED_CHECKPOINT, "--output", tmp_path / "onnx")
    assert answer.code == 2 and "--overwrite" in answer.error
    answer = programs.export(SHIPPED_CHECKPOINT, "--output", tmp_path / "onnx", "--overwrite")
    assert answer.code == 0, answer.err
    assert {file.name for file in (tmp_path / "onnx").iterdir()} == FILES - {"model_int8.onnx"}


def test_of_a_model_that_reads_long_texts_in_windows_the_user_is_told(
    programs: Programs, ready_graph: None, model: Path
) -> None:
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"long_text": "windows"}))
    answer = programs.export(model, "--output", model.with_name("onnx"))
    assert answer.code == 0 and "windows" in answer.err


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ([], "--push-to-hub"),
        (["--output", "x", "--push-to-hub", "me/model"], "--push-to-hub"),
        (["a", "b", "--output", "x"], "2 model folders"),
        (["--output", "x", "--dataset", "sample"], "--quantize int8"),
        (["--output", "x", "--license", "mit"], "--push-to-hub"),
    ],
)
def test_contradictory_options_are_usage_errors(options: list[str], fact: str, programs: Programs) -> None:
    answer = programs.export(*options)
    assert (answer.code, answer.out) == (2, "") and fact in answer.error
