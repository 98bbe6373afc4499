"""The program that reports a run: its page and pictures, from whatever is there of the run."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from PIL import Image

from src.utils.errors import Interrupted
from tests.conftest import SMALL, Answer, Programs, TrainedRun
from tests.evaluation.test_report_page import Page
from tests.training.tiny_training import after_each_step, begin

CURVES, ANSWERS = {"loss", "accuracy"}, {"confusion", "reliability", "scores", "length", "words"}


@pytest.fixture
def folder(sample_run: TrainedRun, tmp_path: Path) -> Path:
    """A copy of the trained model that a test may damage."""
    path = tmp_path / "model"
    shutil.copytree(sample_run.path, path, ignore=shutil.ignore_patterns("checkpoints"))
    return path


def succeed(answer: Answer) -> Path:
    assert answer.code == 0, answer.err
    page = Path(answer.out.strip())
    assert page.name == "report.html"
    return page


def pictures(folder: Path) -> set[str]:
    """The charts of a folder, each of which has to be there for light and for dark, valid and legible."""
    names = {path.stem for path in folder.glob("*.png")}
    for name in names:
        with Image.open(folder / f"{name}.png") as picture:
            picture.verify()
            assert (picture.format, picture.size) == ("PNG", (960, 630))
    charts = {name.removesuffix("-dark") for name in names}
    assert names == charts | {f"{chart}-dark" for chart in charts}
    return charts


def text_of(page: Path) -> str:
    parsed = Page(page.read_text(encoding="utf-8"))
    assert len(parsed.found("img")) == len(pictures(page.parent))
    return "\n".join(parsed.text)


@pytest.fixture(scope="module")
def reported(programs: Programs, sample_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and its report with a picture of all charts."""
    run = tmp_path_factory.mktemp("reported") / "run"
    shutil.copytree(sample_run.path, run, ignore=shutil.ignore_patterns("checkpoints"))
    picture = run.with_name("all.png")
    answer = programs.report(run, "--picture", picture)
    assert answer.err == f"picture     {picture}\n"
    return run, succeed(answer)


def test_a_report_shows_what_the_run_recorded_and_what_its_model_answers(
    programs: Programs, reported: tuple[Path, Path]
) -> None:
    run, page = reported
    assert page == run / "report" / "report.html"
    assert pictures(page.parent) == CURVES | ANSWERS
    evaluation = json.loads(programs.inference("--checkpoint", run, "--json").out)
    low, high = (100 * end for end in evaluation["interval"])
    shown = text_of(page)
    assert f"{100 * evaluation['accuracy']:.1f} % (95 % interval {low:.1f}-{high:.1f})" in shown
    mistakes = evaluation["n"] - sum(evaluation["confusion"][label][label] for label in (0, 1))
    assert f" {mistakes} mistakes" in shown
    assert "program --dataset sample" in shown
    with Image.open(run.with_name("all.png")) as picture:
        picture.verify()


def test_saved_predictions_make_the_same_pictures_without_a_model(
    programs: Programs, reported: tuple[Path, Path], folder: Path
) -> None:
    first = reported[1].parent
    (folder / "model.safetensors").unlink()
    again = succeed(programs.report(folder, "--predictions", first / "predictions.jsonl")).parent
    assert pictures(again) == CURVES | ANSWERS
    assert all((again / path.name).read_bytes() == path.read_bytes() for path in first.glob("*.png"))
    assert not (again / "predictions.jsonl").exists()


def test_a_pre_training_has_curves_alone(programs: Programs, pretrained_run: TrainedRun, tmp_path: Path) -> None:
    answer = programs.report(pretrained_run.path, "--output-dir", tmp_path)
    page = succeed(answer)
    assert pictures(tmp_path) == CURVES
    assert answer.err.strip() in text_of(page) and answer.err.count("\n") == 1
    assert "mistakes" not in text_of(page)


def test_an_interrupted_run_has_curves_alone(programs: Programs, tmp_path: Path) -> None:
    run = begin(tmp_path / "run", epochs=3)
    after_each_step(run, lambda step: signal.raise_signal(signal.SIGINT) if step == 8 else None)
    with pytest.raises(Interrupted):
        run.train()
    answer = programs.report(tmp_path / "run")
    page = succeed(answer)
    assert pictures(page.parent) == CURVES
    assert str(tmp_path / "run") in answer.err and "interrupted" in text_of(page)
    (tmp_path / "run" / "metrics.jsonl").unlink()
    assert programs.report(tmp_path / "run").code == 4


def test_three_classes_of_pairs_are_reported(programs: Programs, tmp_path: Path) -> None:
    words = {"follows": "film", "contradicts": "no", "neither": "rain"}
    rows = [
        {"sentence": f"the film {number % 4}", "second": f"{word} <b>{number % 5}</b>", "label": label}
        for number in range(40)
        for label, word in words.items()
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--train-file", tmp_path / "pairs.jsonl", "--text-pair-column", "second", "--epochs", 1)
    assert programs.train(*options, "--output-dir", tmp_path / "run", *SMALL).code == 0
    page = succeed(programs.report(tmp_path / "run"))
    assert pictures(page.parent) == CURVES | ANSWERS
    lines = (page.parent / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == 12 and set(json.loads(lines[0])) == {"text", "text_pair", "label", "score", "true", "unknown"}
    assert "<b>" not in page.read_text() and "<b>" in text_of(page)


def test_texts_without_labels_show_confidence_alone(programs: Programs, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "a fine film"}\n{"text": "dull"}\n')
    answer = programs.report(folder, "--dataset", tmp_path / "texts.jsonl")
    page = succeed(answer)
    assert pictures(page.parent) == CURVES | {"scores"}
    assert "texts.jsonl" in answer.err


def test_data_out_of_reach_leaves_the_curves_unless_it_was_named(programs: Programs, folder: Path) -> None:
    run = json.loads((folder / "run.json").read_text())
    run["config"]["data"]["dataset"] = str(folder / "gone")
    (folder / "run.json").write_text(json.dumps(run))
    answer = programs.report(folder)
    assert pictures(succeed(answer).parent) == CURVES
    assert "gone" in answer.err and answer.err.count("\n") == 1
    assert programs.report(folder, "--dataset", folder / "gone").code == 3
    (folder / "metrics.jsonl").unlink()
    assert programs.report(folder).code == 3


def test_what_cannot_be_reported_is_one_line_and_its_exit_code(
    programs: Programs, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("absent", "empty"):
        answer = programs.report(tmp_path / name)
        assert answer.code == 4 and str(tmp_path / name) in answer.error
    assert programs.report(folder, "--predictions", "some.jsonl", "--dataset", "sample").code == 2
    assert programs.report(folder, "--predictions", tmp_path / "absent.jsonl").code == 3
    assert programs.report(folder, "--output-dir", folder / "config.json" / "report").code == 6
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert programs.report(folder).code == 4


def test_hostile_names_and_metrics_do_no_harm(programs: Programs, folder: Path) -> None:
    run = json.loads((folder / "run.json").read_text())
    run |= {"command": ["x", "</td><script>alert(1)</script>"], "data": ["no", "mapping"], "model": None}
    (folder / "run.json").write_text(json.dumps(run))
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 9, "train/loss": "<script>"}\nhalf a li')
    (folder / "model.safetensors").unlink()
    answer = programs.report(folder)
    page = succeed(answer)
    assert "metrics.jsonl" in answer.err.splitlines()[0]
    assert "<script>" not in page.read_text() and "<script>" in text_of(page)
