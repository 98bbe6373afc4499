"""The program that trains a classifier, at its door: what it prints, writes, refuses, and how it ends."""

import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from src.data.hub import existing_path
from src.training.checkpoint import RunFolder
from tests.conftest import Answer, Programs, TrainedRun

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


def succeed(answer: Answer) -> Answer:
    assert answer.code == 0, answer.err
    return answer


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# From the command to the folder


def test_a_run_leaves_everything_that_belongs_to_it(sample_run: TrainedRun) -> None:
    model = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "manifest.json"}
    about = {"README.md", "metrics.jsonl", "run.json", "evaluation-validation.json", "checkpoints"}
    assert {file.name for file in sample_run.path.iterdir()} == model | about
    state = {"training_state.safetensors", "training_state.json"}
    for checkpoint in (sample_run.path / "checkpoints").iterdir():
        assert {file.name for file in checkpoint.iterdir()} == model | state


def test_what_a_run_on_the_sample_tells(sample_run: TrainedRun) -> None:
    run, lines = read(sample_run.path / "run.json"), sample_run.answer.out.splitlines()
    accuracy = read(sample_run.path / "evaluation-validation.json")["accuracy"]
    assert lines[0].startswith(f"accuracy {100 * accuracy:.1f} %") and lines[-1] == str(sample_run.path)
    assert (run["data"]["name"], run["data"]["train"]) == ("sample", 640)
    assert (run["config"]["recipe"], run["config"]["optimization"]["epochs"]) == ("sample", 2)  # the option wins
    assert "not on SST-2" in (sample_run.path / "README.md").read_text()


def test_the_same_seed_gives_the_same_file_and_another_seed_another(
    programs: Programs, data: Path, one_epoch: Path, tmp_path: Path
) -> None:
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
    run, evaluation = read(path / "run.json"), read(path / "evaluation-validation.json")
    assert (run["data"]["train"], run["data"]["validation"], evaluation["n"]) == (2000, 872, 872)
    assert "not on SST-2" not in (path / "README.md").read_text()
    answer = succeed(programs.inference("--checkpoint", path, "--json"))
    assert json.loads(answer.out)["accuracy"] == pytest.approx(evaluation["accuracy"])


# Folders and resuming


def test_an_existing_folder_is_refused_and_untouched_unless_it_may_be_overwritten(
    programs: Programs, data: Path, one_epoch: Path
) -> None:
    options = ("--dataset", data, "--epochs", 1, "--seed", 5, "--output-dir", one_epoch)
    before = contents(one_epoch)
    answer = programs.train_small(*options)
    assert (answer.code, answer.out) == (2, "") and str(one_epoch) in answer.error
    assert contents(one_epoch) == before
    succeed(programs.train_small(*options, "--overwrite"))
    assert read(one_epoch / "run.json")["config"]["run"]["seed"] == 5
    succeed(programs.train("--resume", one_epoch))


def test_resuming_needs_no_option_but_the_run_and_never_asks_for_other_data(
    programs: Programs, one_epoch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SST2_DIR", "/nowhere")  # what a training without --dataset would load
    answer = succeed(programs.train("--resume", one_epoch))
    assert answer.out.splitlines()[-1] == str(one_epoch)


def test_the_command_that_began_a_run_resumes_it_in_the_same_words(
    programs: Programs, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    arguments = ("--train-file", data.name, "--epochs", 1, "--resume", "auto", "--output-dir", "run")
    succeed(programs.train_small(*arguments))
    assert "run/checkpoints/step-" in succeed(programs.train_small(*arguments)).err


def test_a_changed_setting_is_refused_by_name_and_device_and_threads_may_change(
    programs: Programs, one_epoch: Path
) -> None:
    answer = programs.train("--resume", one_epoch, "--learning-rate", 1, "--seed", 3, "--device", "cpu")
    assert answer.code == 2
    assert "learning_rate" in answer.error and "seed 0 -> 3" in answer.error and "device" not in answer.error
    succeed(programs.train("--resume", one_epoch, "--device", "auto", "--num-threads", 1, "--save-every", 3))


def test_a_changed_setting_may_be_allowed_and_is_kept_from_then_on(programs: Programs, one_epoch: Path) -> None:
    more = ("--epochs", 3, "--ema-decay", 0.9, "--allow-config-change")  # an average that begins in the middle
    answer = succeed(programs.train("--resume", one_epoch, *more))
    assert "epochs 1 -> 3" in answer.err
    run = read(one_epoch / "run.json")
    assert run["config"]["optimization"]["epochs"] == 3 and run["finished"] is not None
    assert programs.train("--resume", one_epoch, "--epochs", 1).code == 2
    assert programs.train("--resume", one_epoch, "--hidden-size", 32, "--allow-config-change").code == 2


def test_settings_that_leave_nothing_to_train_are_refused_and_the_run_stays(
    programs: Programs, one_epoch: Path
) -> None:
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
    config = read(tmp_path / "run" / "run.json")["config"]
    assert config["recipe"] == "sample" and config["optimization"]["epochs"] * 6 >= 400
    assert "accuracy 100.0 %" in answer.out


def test_a_model_that_predicts_one_class_is_told_of(programs: Programs, data: Path, tmp_path: Path) -> None:
    options = ("--dataset", data, "--epochs", 1, "--learning-rate", 1e-9, "--output-dir", tmp_path / "run")
    answer = succeed(programs.train_small(*options))
    assert "warning: the model predicts" in answer.err and "for all 4" in answer.err


def test_data_that_changed_since_is_refused(programs: Programs, data: Path, one_epoch: Path) -> None:
    data.write_text(CSV.replace("warm", "cold", 1))
    answer = programs.train("--resume", one_epoch)
    assert answer.code == 2 and "data" in answer.error


def test_a_run_that_another_process_trains_is_left_alone(programs: Programs, one_epoch: Path) -> None:
    before = contents(one_epoch)
    with RunFolder(one_epoch).lock():
        answer = programs.train("--resume", one_epoch)
    assert answer.code == 2 and str(one_epoch) in answer.error
    assert contents(one_epoch) == before


def test_nothing_to_resume_is_a_checkpoint_error(programs: Programs, tmp_path: Path) -> None:
    answer = programs.train("--resume", tmp_path / "absent")
    assert answer.code == 4 and str(tmp_path / "absent") in answer.error


# What ends with an error


@pytest.mark.parametrize(
    ("file", "content", "fact"),
    [
        ("bad.csv", "sentence,label\na film,1\ndull\n", "bad.csv:3"),
        ("bad.jsonl", '{"sentence": "a", "label": 1}\n{"sentence": \n', "bad.jsonl:2"),
        ("bad.csv", "sentence,label\na film,1\nanother film,1\n", "bad.csv"),  # teaches nothing
        ("absent.csv", None, "absent.csv"),
    ],
)
def test_data_without_use_is_a_data_error_of_one_line_that_names_it(
    file: str, content: str | None, fact: str, programs: Programs, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / file).write_text(content)
    answer = programs.train_small("--train-file", tmp_path / file, "--output-dir", tmp_path / "run")
    assert (answer.code, answer.out) == (3, "")
    assert fact in answer.error and answer.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ("--dataset sample --train-file x.csv", ["--dataset", "--train-file"]),
        ("--dry-run --resume auto", ["--dry-run", "--resume"]),
        ("--hidden-size 30 --num-attention-heads 4", ["num_attention_heads = 4", "hidden_size = 30"]),
        ("--epochs 0", ["epochs = 0"]),
        ("--preset huge", ["--preset huge", "tiny"]),
        ("--dataset sample --device abacus --output-dir never-made", ["--device abacus"]),
        ("--learing-rate 1", ["--learning-rate"]),
    ],
)
def test_options_that_cannot_be_are_usage_errors(options: str, facts: list[str], programs: Programs) -> None:
    answer = programs.train(*options.split())
    assert (answer.code, answer.out) == (2, "")
    assert all(fact in answer.err for fact in facts)


def test_an_output_folder_that_cannot_be_made_is_a_storage_error(programs: Programs, data: Path) -> None:
    answer = programs.train_small("--dataset", data, "--epochs", 1, "--output-dir", data / "run")
    assert answer.code == 6 and str(data) in answer.error


def test_a_full_disk_is_a_storage_error(programs: Programs, data: Path, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # the model is larger than that
    try:
        answer = programs.train_small(
            *("--dataset", data, "--epochs", 1, "--output-dir", tmp_path / "run", "--intermediate-size", 256)
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert answer.code == 6 and str(tmp_path / "run") in answer.error
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_training_that_diverges_ends_with_its_own_exit_code_and_one_line(
    programs: Programs, data: Path, tmp_path: Path
) -> None:
    options = ("--dataset", data, "--output-dir", tmp_path / "run", "--learning-rate", 1e30, "--warmup-ratio", 0)
    answer = programs.train_small(*options)
    assert answer.code == 5 and "--learning-rate" in answer.error
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_interrupted_before_the_first_step_is_130_without_a_traceback(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.data.sources.open_corpus", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    answer = programs.train("--dataset", "sample")
    assert answer.code == 130 and answer.err.count("\n") == 1


def test_a_dry_run_tells_and_writes_nothing(programs: Programs, data: Path, tmp_path: Path) -> None:
    options = ("--dataset", data, "--dry-run", "--epochs", 200, "--output-dir", tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    told = dict(line.split(maxsplit=1) for line in succeed(programs.train_small(*options)).out.splitlines())
    assert list(told) == ["settings", "data", "parameters", "memory", "step", "run"]
    assert "epochs 200" in told["settings"] and "train 36" in told["data"]
    assert sorted(tmp_path.rglob("*")) == before
