"""The program that reports a run: its page and pictures, from whatever is there of the run."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from src.utils.errors import Interrupted
from tests.conftest import Answer, Programs, TrainedRun, succeed
from tests.evaluation.some_predictions import Page
from tests.training.tiny_training import after_each_step, begin

CURVES, PREDICTIONS = {"loss", "accuracy"}, {"confusion", "reliability", "confidence", "length", "words"}


def change_run(folder: Path, **changes: Any) -> None:
    run = json.loads((folder / "run.json").read_text()) | changes
    (folder / "run.json").write_text(json.dumps(run))


def charts_and_text(answer: Answer) -> tuple[set[str], str]:
    """The charts that were drawn, each for light and dark pages, and the text of the page that shows them."""
    page = Path(succeed(answer).out.strip())
    parsed = Page(page.read_text(encoding="utf-8"))
    names = {path.stem for path in page.parent.glob("*.png")}
    charts = {name.removesuffix("-dark") for name in names}
    assert names == charts | {f"{chart}-dark" for chart in charts}
    assert len(parsed.found("img")) == len(charts)
    return charts, "\n".join(parsed.text)


def test_a_report_shows_what_the_run_recorded_and_what_its_model_predicts(programs: Programs, folder: Path) -> None:
    command = ["/home/me/bert/src/train.py", "--dataset", "my reviews", "--epochs", "2"]
    change_run(folder, command=command)
    answer = programs.report(folder, "--picture", folder / "all.png")
    assert answer.err == f"picture     {folder / 'all.png'}\n"
    charts, text = charts_and_text(answer)
    assert charts == CURVES | PREDICTIONS
    evaluation = json.loads(programs.inference("--checkpoint", folder, "--json").out)
    low, high = evaluation["interval"]
    assert f"{evaluation['accuracy']:.1%} (95% interval {low:.1%} to {high:.1%})" in text
    mistakes = evaluation["n"] - sum(evaluation["confusion"][label][label] for label in (0, 1))
    assert f" {mistakes} mistakes" in text
    assert "python -m src.train --dataset 'my reviews' --epochs 2" in text
    assert "learning_rate\n0.0005" in text
    with Image.open(folder / "all.png") as picture:
        picture.verify()

    first = folder / "report"
    (folder / "model.safetensors").unlink()
    options = ("--predictions", first / "predictions.jsonl", "--output-dir", folder / "again")
    assert charts_and_text(programs.report(folder, *options))[0] == charts
    assert all((folder / "again" / path.name).read_bytes() == path.read_bytes() for path in first.glob("*.png"))
    assert not (folder / "again" / "predictions.jsonl").exists()


def test_a_pre_training_has_curves_alone(programs: Programs, pretrained_run: TrainedRun, tmp_path: Path) -> None:
    run = begin(tmp_path / "run", epochs=3)
    after_each_step(run, lambda step: signal.raise_signal(signal.SIGINT) if step == 8 else None)
    with pytest.raises(Interrupted):
        run.train()
    for path in (pretrained_run.path, tmp_path / "run"):
        answer = programs.report(path, "--output-dir", tmp_path / f"report-{path.name}")
        charts, text = charts_and_text(answer)
        assert charts == CURVES and answer.err.strip() in text and "mistakes" not in text
    assert "interrupted" in text
    (tmp_path / "run" / "metrics.jsonl").unlink()
    assert programs.report(tmp_path / "run").code == 4


def test_texts_without_labels_show_confidence_alone(programs: Programs, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "a fine film"}\n{"text": "dull"}\n')
    answer = programs.report(folder, "--dataset", tmp_path / "texts.jsonl")
    assert charts_and_text(answer)[0] == CURVES | {"confidence"} and "texts.jsonl" in answer.err


def test_data_out_of_reach_leaves_the_curves_unless_it_was_named(programs: Programs, folder: Path) -> None:
    config = json.loads((folder / "run.json").read_text())["config"]
    change_run(folder, config=config | {"data": config["data"] | {"dataset": str(folder / "gone")}})
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 9, "train/loss": "<script>"}\nhalf a li')
    answer = programs.report(folder)
    assert charts_and_text(answer)[0] == CURVES
    damaged, reason = answer.err.splitlines()
    assert "metrics.jsonl" in damaged and "gone" in reason
    assert programs.report(folder, "--dataset", folder / "gone").code == 3
    (folder / "metrics.jsonl").unlink()
    assert programs.report(folder).code == 3


def test_what_cannot_be_reported_is_a_line_and_its_exit_code(programs: Programs, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("absent", "empty"):
        answer = programs.report(tmp_path / name)
        assert answer.code == 4 and str(tmp_path / name) in answer.error
    assert programs.report(folder, "--predictions", "some.jsonl", "--dataset", "sample").code == 2
    assert programs.report(folder, "--predictions", tmp_path / "absent.jsonl").code == 3
    assert programs.report(folder, "--output-dir", folder / "config.json" / "report").code == 6
    change_run(folder, data=["no", "mapping"])
    assert programs.report(folder).code == 4
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert programs.report(folder).code == 4
