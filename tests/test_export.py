import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from src.data.sources import open_corpus
from src.evaluation.predictor import Predictor, classify
from src.interop.onnx import OnnxModel
from src.utils.config import SHIPPED_CHECKPOINT, DataConfig
from src.utils.folder import MANIFEST, verify
from tests.conftest import Programs, TrainedRun

FILES = {"config.json", MANIFEST, "model.onnx", "model_int8.onnx", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture
def ready_graph(exported: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the exporter's place, which needs seconds: the graph of the shipped model, whatever the model is."""

    def export(model: Any, f: Path, **options: Any) -> None:
        shutil.copy(exported.path / "model.onnx", f)

    monkeypatch.setattr(torch.onnx, "export", export)


def test_an_export_is_whole_and_says_how_exact_and_how_good_it_is(exported: TrainedRun) -> None:
    assert {file.name for file in exported.path.iterdir()} == FILES
    verify(exported.path)
    first, second, difference, origin, *accuracies, agreement = exported.answer.out.splitlines()
    assert re.fullmatch(rf"{exported.path}/model.onnx: \d+.\d MB", first)
    assert re.fullmatch(rf"{exported.path}/model_int8.onnx: \d+.\d MB", second)
    assert 0 < float(difference.removeprefix("largest difference from the model's logits: ")) < 1e-5
    assert origin == "sample, split validation:"
    for line, kind in zip(accuracies, ("float32", "int8"), strict=True):
        assert re.fullmatch(rf"{kind} +accuracy \d+.\d % \(95 % interval .*, n = 220\)", line)
    assert re.fullmatch(r"both give the same answer to \d+ of 220 texts", agreement)
    assert (exported.path / "model_int8.onnx").stat().st_size < (exported.path / "model.onnx").stat().st_size / 3


def test_neither_exporter_nor_quantizer_says_a_word_to_the_user(exported: TrainedRun) -> None:
    assert exported.answer.err == f"checkpoint  {SHIPPED_CHECKPOINT}\n"


def accuracy(logits: Tensor, labels: list[int]) -> float:
    return float((logits.argmax(-1) == torch.tensor(labels)).float().mean())


def test_the_accuracies_printed_are_those_of_the_graphs(exported: TrainedRun) -> None:
    predictor = Predictor.load(SHIPPED_CHECKPOINT, "cpu")
    corpus = open_corpus(DataConfig(dataset="sample"), ("validation",), predictor.classifier.label_names)
    split = corpus.splits["validation"]
    dataset = predictor.dataset(split.texts, split.labels)
    ours = predictor.logits(dataset)
    for name, kind in (("model.onnx", "float32"), ("model_int8.onnx", "int8")):
        found = classify(OnnxModel(exported.path / name), dataset, torch.device("cpu"))
        (printed,) = re.findall(rf"^{kind} +accuracy (.*?) %", exported.answer.out, flags=re.MULTILINE)
        assert printed == f"{100 * accuracy(found, split.labels):.1f}"
        difference = float((found - ours).abs().max())
        assert difference < 1e-5 if kind == "float32" else 1e-5 < difference < 0.5


@pytest.mark.skipif("SST2_DIR" not in os.environ, reason="needs SST-2: set SST2_DIR to a folder that holds it")
@pytest.mark.slow
def test_onnx_and_the_pipeline_of_transformers_give_our_logits_for_all_of_sst2s_validation_sentences(
    exported: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import pipeline

    predictor = Predictor.load(SHIPPED_CHECKPOINT, "cpu")
    data = DataConfig(dataset=os.environ["SST2_DIR"])
    split = open_corpus(data, ("validation",), predictor.classifier.label_names).splits["validation"]
    dataset = predictor.dataset(split.texts, split.labels)
    ours = predictor.logits(dataset)
    assert ours.shape == (872, 2)
    onnx, int8 = (
        classify(OnnxModel(exported.path / name), dataset, torch.device("cpu"))
        for name in ("model.onnx", "model_int8.onnx")
    )
    answers = pipeline("text-classification", model=str(SHIPPED_CHECKPOINT), device="cpu")(
        split.texts, top_k=None, function_to_apply="none", truncation=True, batch_size=32
    )
    scores = [{answer["label"]: answer["score"] for answer in each} for each in answers]
    theirs = torch.tensor([[score[name] for name in predictor.classifier.label_names] for score in scores])
    with capsys.disabled():
        for name, found in (("ONNX", onnx), ("pipeline", theirs), ("int8", int8)):
            rate = 100 * accuracy(found, split.labels)
            print(f"\n{name}: {float((found - ours).abs().max()):.1e} from our logits, accuracy {rate:.1f} %", end=" ")
    torch.testing.assert_close(onnx, ours, rtol=0, atol=1e-5)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
    assert abs(accuracy(int8, split.labels) - accuracy(ours, split.labels)) < 0.01


# What is refused leaves nothing behind


def with_nudged_bias(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"][1] += 1e-3
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_a_graph_that_differs_from_the_model_is_not_kept(programs: Programs, ready_graph: None, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED_CHECKPOINT, tmp_path / "model")
    with_nudged_bias(tmp_path / "model")
    answer = programs.export(tmp_path / "model", "--output", tmp_path / "onnx")
    assert (answer.code, answer.out) == (4, "")
    assert "the ONNX graph's logits differ from the model's by 0.001" in answer.error
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def flipped_bit(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def masked_lm(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.")}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "is not a folder"),
        (flipped_bit, "model.safetensors is damaged: it differs from manifest.json"),
        (masked_lm, "model.safetensors holds no classifier"),
    ],
)
def test_an_unusable_model_is_a_checkpoint_error(
    damage: Callable[[Path], None], message: str, programs: Programs, tmp_path: Path
) -> None:
    shutil.copytree(SHIPPED_CHECKPOINT, tmp_path / "model")
    damage(tmp_path / "model")
    answer = programs.export(tmp_path / "model", "--output", tmp_path / "onnx")
    assert (answer.code, answer.out) == (4, "")
    assert message in answer.error and not (tmp_path / "onnx").exists()


def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    answer = programs.export(SHIPPED_CHECKPOINT, "--output", tmp_path / "onnx")
    assert answer.code == 2
    assert answer.error == "error: ONNX export needs onnxscript; pip install onnxscript"


def test_data_that_cannot_be_read_is_found_before_the_export(programs: Programs, tmp_path: Path) -> None:
    options = ("--output", tmp_path / "onnx", "--quantize", "int8", "--dataset", tmp_path / "absent.csv")
    answer = programs.export(SHIPPED_CHECKPOINT, *options)
    assert answer.code == 3 and "absent.csv" in answer.error
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_export_is_never_replaced(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear diary")
    for output in (tmp_path / "notes", tmp_path / "notes" / "diary.txt", SHIPPED_CHECKPOINT):
        answer = programs.export(SHIPPED_CHECKPOINT, "--output", output, "--overwrite")
        assert answer.code == 2 and "exists and holds more than an export" in answer.error
    assert (tmp_path / "notes" / "diary.txt").read_text() == "dear diary"


def test_an_export_is_replaced_only_where_that_was_asked_for(
    programs: Programs, ready_graph: None, exported: TrainedRun, tmp_path: Path
) -> None:
    shutil.copytree(exported.path, tmp_path / "onnx")
    answer = programs.export(SHIPPED_CHECKPOINT, "--output", tmp_path / "onnx")
    assert answer.code == 2 and "exists; choose another --output, or --overwrite" in answer.error
    answer = programs.export(SHIPPED_CHECKPOINT, "--output", tmp_path / "onnx", "--overwrite")
    assert answer.code == 0, answer.err
    assert {file.name for file in (tmp_path / "onnx").iterdir()} == FILES - {"model_int8.onnx"}


def test_of_a_model_that_reads_long_texts_in_windows_the_user_is_told(
    programs: Programs, ready_graph: None, tmp_path: Path
) -> None:
    shutil.copytree(SHIPPED_CHECKPOINT, tmp_path / "model")
    (tmp_path / "model" / MANIFEST).unlink()
    path = tmp_path / "model" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"long_text": "windows"}))
    answer = programs.export(tmp_path / "model", "--output", tmp_path / "onnx")
    assert answer.code == 0 and "the model reads them by windows" in answer.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give one of them"),
        (["--output", "x", "--push-to-hub", "me/model"], "give one of them"),
        (["a", "b", "--output", "x"], "2 model folders are named"),
        (["--output", "x", "--dataset", "sample"], "--quantize int8"),
        (["--output", "x", "--split", "test"], "--quantize int8"),
        (["--push-to-hub", "me/model", "--overwrite"], "go with --output"),
        (["--output", "x", "--license", "mit"], "go with --push-to-hub"),
        (["--output", "x", "--num-threads", "-1"], "num_threads = -1 must not be negative"),
    ],
)
def test_contradictory_options_are_usage_errors(options: list[str], message: str, programs: Programs) -> None:
    answer = programs.export(*options)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.error
