"""The program that trains a classifier, at its door: what it prints, writes, refuses, and how it ends."""

import json
import os
from pathlib import Path

import pytest

from src.data.hub import existing_path
from src.utils.files import read_json
from tests.conftest import Programs, TrainedRun, contents, full_disk, succeed

ROWS = [
    (text, label) for label, word in ((0, "dull"), (1, "warm")) for text in (f"a {word} film {i}" for i in range(20))
]
CSV = "sentence,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A good file of 40 rows, of which 4 are set aside for validation."""
    path = tmp_path / "films.csv"
    path.write_text(CSV)
    return path


@pytest.fixture
def one_epoch(programs: Programs, data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "run"
    succeed(programs.train_small("--dataset", data, "--epochs", 1, "--output-dir", path))
    return path


# From the command to the folder


def test_a_run_leaves_everything_that_belongs_to_it(sample_run: TrainedRun) -> None:
    model = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "manifest.json"}
    about = {"README.md", "metrics.jsonl", "run.json", "evaluation-validation.json", "checkpoints"}
    assert {file.name for file in sample_run.path.iterdir()} == model | about
    state = {"training_state.safetensors", "training_state.json"}
    for checkpoint in (sample_run.path / "checkpoints").iterdir():
        assert {file.name for file in checkpoint.iterdir()} == model | state


def test_what_a_run_on_the_sample_tells(sample_run: TrainedRun) -> None:
    run, lines = read_json(sample_run.path / "run.json"), sample_run.answer.out.splitlines()
    accuracy = read_json(sample_run.path / "evaluation-validation.json")["accuracy"]
    assert lines[0].startswith(f"accuracy {100 * accuracy:.1f} %") and lines[-1] == str(sample_run.path)
    assert (run["data"]["name"], run["data"]["train"]) == ("sample", 640)
    assert (run["config"]["recipe"], run["config"]["optimization"]["epochs"]) == ("sample", 2)  # the option wins
    assert run["versions"].keys() >= {"python", "torch"} and "--dataset" in run["command"]
    assert "not on SST-2" in (sample_run.path / "README.md").read_text()


def test_the_same_seed_gives_the_same_file(programs: Programs, data: Path, one_epoch: Path, tmp_path: Path) -> None:
    files = [(one_epoch / "model.safetensors").read_bytes()]
    for seed in (0, 1):
        path = tmp_path / f"seed{seed}"
        succeed(programs.train_small("--dataset", data, "--epochs", 1, "--seed", seed, "--output-dir", path))
        files.append((path / "model.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


@pytest.mark.skipif("SST2_DIR" not in os.environ, reason="needs SST-2: set SST2_DIR to a folder that holds it")
def test_sst2_is_trained_on_from_a_folder(programs: Programs, tmp_path: Path) -> None:
    folder, path = existing_path(os.environ["SST2_DIR"]), tmp_path / "run"
    options = ("--dataset", folder, "--max-train-samples", 2000, "--epochs", 1, "--output-dir", path)
    succeed(programs.train_small(*options))
    run, evaluation = read_json(path / "run.json"), read_json(path / "evaluation-validation.json")
    assert (run["data"]["train"], run["data"]["validation"], evaluation["n"]) == (2000, 872, 872)
    assert "not on SST-2" not in (path / "README.md").read_text()
    answer = succeed(programs.inference("--checkpoint", path, "--json"))
    assert json.loads(answer.out)["accuracy"] == pytest.approx(evaluation["accuracy"])


# Folders and resuming


def test_an_existing_folder_is_refused_without_overwrite(programs: Programs, data: Path, one_epoch: Path) -> None:
    options = ("--dataset", data, "--epochs", 1, "--seed", 5, "--output-dir", one_epoch)
    before = contents(one_epoch)
    answer = programs.train_small(*options)
    assert (answer.code, answer.out) == (2, "") and str(one_epoch) in answer.error
    assert contents(one_epoch) == before
    succeed(programs.train_small(*options, "--overwrite"))
    assert read_json(one_epoch / "run.json")["config"]["run"]["seed"] == 5
    succeed(programs.train("--resume", one_epoch))


def test_resuming_needs_the_run_alone(programs: Programs, one_epoch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SST2_DIR", "/nowhere")  # what a training without --dataset would load
    answer = succeed(programs.train("--resume", one_epoch))
    assert answer.out.splitlines()[-1] == str(one_epoch)


def test_a_changed_setting_is_refused_by_name_but_device_and_threads(programs: Programs, one_epoch: Path) -> None:
    answer = programs.train("--resume", one_epoch, "--learning-rate", 1, "--seed", 3, "--device", "cpu")
    assert answer.code == 2
    assert "learning_rate" in answer.error and "seed 0 -> 3" in answer.error and "device" not in answer.error
    succeed(programs.train("--resume", one_epoch, "--device", "auto", "--num-threads", 1, "--save-every", 3))


def test_a_changed_setting_may_be_allowed_and_is_kept_from_then_on(programs: Programs, one_epoch: Path) -> None:
    more = ("--epochs", 3, "--ema-decay", 0.9, "--allow-config-change")  # an average that begins in the middle
    answer = succeed(programs.train("--resume", one_epoch, *more))
    assert "epochs 1 -> 3" in answer.err
    run = read_json(one_epoch / "run.json")
    assert run["config"]["optimization"]["epochs"] == 3 and run["finished"] is not None
    assert programs.train("--resume", one_epoch, "--epochs", 1).code == 2
    assert programs.train("--resume", one_epoch, "--hidden-size", 32, "--allow-config-change").code == 2


def test_settings_that_leave_nothing_to_train_are_refused(programs: Programs, one_epoch: Path) -> None:
    before = contents(one_epoch)
    for change in (("--batch-size", 7), ("--epochs", 1), ("--learning-rate", 1)):
        answer = programs.train("--resume", one_epoch, *change, "--allow-config-change")
        assert (answer.code, answer.out) == (2, "") and "--allow-config-change" in answer.error
    assert contents(one_epoch) == before


def test_the_defaults_learn_from_few_rows(programs: Programs, tmp_path: Path) -> None:
    words = ["bill", "paid", "refund", "parcel", "late", "door", "broken", "crack", "noise"]
    rows = [f"order {n} {words[n % 9]},{n % 9 // 3}" for n in range(90)]
    (tmp_path / "few.csv").write_text("text,label\n" + "\n".join(rows))
    answer = succeed(programs.train("--train-file", tmp_path / "few.csv", "--output-dir", tmp_path / "run"))
    config = read_json(tmp_path / "run" / "run.json")["config"]
    assert config["recipe"] == "sample" and config["optimization"]["epochs"] * 6 >= 400
    assert "accuracy 100.0 %" in answer.out


def test_a_model_that_predicts_one_class_is_told_of(programs: Programs, data: Path, tmp_path: Path) -> None:
    options = ("--dataset", data, "--epochs", 1, "--learning-rate", 1e-9, "--output-dir", tmp_path / "run")
    answer = succeed(programs.train_small(*options))
    assert "warning: the model predicts" in answer.err and "for all 4" in answer.err


# What ends with an error


def test_data_without_use_is_a_data_error_of_one_line_that_names_it(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("sentence,label\na film,1\ndull\n")
    for name, place in (("bad.csv", "bad.csv:3"), ("absent.csv", "absent.csv")):
        answer = programs.train_small("--train-file", tmp_path / name, "--output-dir", tmp_path / "run")
        assert (answer.code, answer.out, answer.err.count("\n")) == (3, "", 1) and place in answer.error
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_a_storage_error(programs: Programs, data: Path, tmp_path: Path) -> None:
    with full_disk(20_000):  # the model is larger than that
        answer = programs.train_small("--dataset", data, "--output-dir", tmp_path / "run", "--intermediate-size", 256)
    assert answer.code == 6 and str(tmp_path / "run") in answer.error
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_training_that_diverges_has_its_own_exit_code(programs: Programs, data: Path, tmp_path: Path) -> None:
    options = ("--dataset", data, "--output-dir", tmp_path / "run", "--learning-rate", 1e30, "--warmup-ratio", 0)
    answer = programs.train_small(*options)
    assert answer.code == 5 and "--learning-rate" in answer.error
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_dry_run_tells_and_writes_nothing(programs: Programs, data: Path, tmp_path: Path) -> None:
    options = ("--dataset", data, "--dry-run", "--epochs", 200, "--output-dir", tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    told = dict(line.split(maxsplit=1) for line in succeed(programs.train_small(*options)).out.splitlines())
    assert list(told) == ["settings", "data", "parameters", "memory", "step", "run"]
    assert "epochs 200" in told["settings"] and "train 36" in told["data"]
    assert sorted(tmp_path.rglob("*")) == before
