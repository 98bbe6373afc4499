import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from src.data.hub import existing_path
from src.training.checkpoint import RunFolder
from src.utils import runs
from src.utils.config import REPOSITORY, SAMPLE_DIR
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


# From the command to the folder


def test_a_run_leaves_everything_that_belongs_to_it(sample_run: TrainedRun) -> None:
    model = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "manifest.json"}
    about = {"README.md", "metrics.jsonl", "run.json", "evaluation-validation.json", "checkpoints"}
    assert {file.name for file in sample_run.path.iterdir()} == model | about
    state = {"training_state.safetensors", "training_state.json"}
    for checkpoint in (sample_run.path / "checkpoints").iterdir():
        assert {file.name for file in checkpoint.iterdir()} == model | state


def test_the_evaluation_and_last_the_folder_are_all_that_is_printed(sample_run: TrainedRun) -> None:
    lines = sample_run.answer.out.splitlines()
    accuracy = read(sample_run.path / "evaluation-validation.json")["accuracy"]
    assert lines[0].startswith(f"accuracy {100 * accuracy:.1f} % (95 % interval ")
    assert lines[-1] == str(sample_run.path)
    assert "epoch" not in sample_run.answer.out


def test_a_run_on_the_sample_says_so_everywhere(sample_run: TrainedRun) -> None:
    assert read(sample_run.path / "run.json")["data"]["name"] == "sample"
    assert "not on SST-2" in (sample_run.path / "README.md").read_text()
    assert "training    640 examples (320 negative, 320 positive) of sample" in sample_run.answer.err


def test_the_sample_brings_its_recipe_which_options_win_over(sample_run: TrainedRun) -> None:
    config = read(sample_run.path / "run.json")["config"]
    assert "--recipe sample" in sample_run.answer.err
    assert (config["recipe"], config["optimization"]["batch_size"], config["optimization"]["epochs"]) == (
        "sample",
        16,
        2,
    )


def test_a_run_on_a_file_has_no_banner_and_no_recipe(one_epoch: Path) -> None:
    run = read(one_epoch / "run.json")
    assert (run["data"]["name"], run["config"]["recipe"]) == ("films.csv", None)
    assert (run["data"]["train"], run["data"]["validation"]) == (36, 4)
    assert "not on SST-2" not in (one_epoch / "README.md").read_text()


def test_the_same_seed_gives_the_same_file_and_another_seed_another(
    programs: Programs, data: Path, one_epoch: Path, tmp_path: Path
) -> None:
    files = [(one_epoch / "model.safetensors").read_bytes()]
    for seed in (0, 1):
        path = tmp_path / f"seed{seed}"
        succeed(programs.train_small("--dataset", data, "--epochs", 1, "--seed", seed, "--output-dir", path))
        files.append((path / "model.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


def test_help_answers_without_pytorch() -> None:
    program = "import sys; from src.train import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stdout.endswith("\nFalse\n")
    assert "--learning-rate" in result.stdout


# Folders and resuming


def test_an_existing_folder_is_refused_and_untouched(programs: Programs, data: Path, one_epoch: Path) -> None:
    before = {file: file.read_bytes() for file in one_epoch.rglob("*") if file.is_file()}
    answer = programs.train_small("--dataset", data, "--epochs", 1, "--output-dir", one_epoch)
    assert (answer.code, answer.out) == (2, "")
    assert f"{one_epoch} exists" in answer.error
    assert {file: file.read_bytes() for file in one_epoch.rglob("*") if file.is_file()} == before


def test_overwrite_begins_anew(programs: Programs, data: Path, one_epoch: Path) -> None:
    succeed(
        programs.train_small("--dataset", data, "--epochs", 1, "--seed", 5, "--output-dir", one_epoch, "--overwrite")
    )
    assert read(one_epoch / "run.json")["config"]["run"]["seed"] == 5


def test_a_run_begun_with_overwrite_can_be_resumed(programs: Programs, data: Path, one_epoch: Path) -> None:
    succeed(programs.train_small("--dataset", data, "--epochs", 1, "--output-dir", one_epoch, "--overwrite"))
    succeed(programs.train("--resume", one_epoch))


def test_resuming_needs_no_option_but_the_run_and_never_asks_for_other_data(
    programs: Programs, one_epoch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SST2_DIR", "/nowhere")  # what a training without --dataset would load
    answer = succeed(programs.train("--resume", one_epoch))
    assert "NOT SST-2" not in answer.err and "recipe" not in answer.err
    assert answer.out.splitlines()[-1] == str(one_epoch)


@pytest.mark.parametrize("option", ["--dataset", "--train-file"])
def test_the_command_that_began_a_run_resumes_it_in_the_same_words(
    option: str, programs: Programs, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    arguments = (option, data.name, "--epochs", 1, "--resume", "auto", "--output-dir", "run")
    succeed(programs.train_small(*arguments))
    answer = succeed(programs.train_small(*arguments))
    assert "resuming    " in answer.err


def test_a_changed_setting_is_refused_by_name_and_device_and_threads_may_change(
    programs: Programs, one_epoch: Path
) -> None:
    answer = programs.train("--resume", one_epoch, "--learning-rate", 1, "--seed", 3, "--device", "cpu")
    assert answer.code == 2
    before = read(one_epoch / "run.json")["config"]["optimization"]["learning_rate"]
    assert f"learning_rate {before} -> 1.0, seed 0 -> 3" in answer.error and "device" not in answer.error
    succeed(programs.train("--resume", one_epoch, "--device", "auto", "--num-threads", 1, "--save-every", 3))


def test_a_changed_setting_may_be_allowed_and_is_kept_from_then_on(programs: Programs, one_epoch: Path) -> None:
    answer = succeed(programs.train("--resume", one_epoch, "--epochs", 3, "--allow-config-change"))
    assert "changed     epochs 1 -> 3" in answer.err and "epoch 3, " in answer.err
    run = read(one_epoch / "run.json")
    assert run["config"]["optimization"]["epochs"] == 3 and run["finished"] is not None
    succeed(programs.train("--resume", one_epoch))
    answer = programs.train("--resume", one_epoch, "--epochs", 1)
    assert answer.code == 2 and "epochs 3 -> 1" in answer.error
    answer = succeed(programs.train("--resume", one_epoch, "--epochs", 1, "--allow-config-change"))
    answer = programs.train("--resume", one_epoch, "--hidden-size", 32, "--allow-config-change")
    assert answer.code == 4 and "belongs to another model" in answer.error


def test_an_overwrite_that_died_on_its_way_can_be_done_again(
    programs: Programs, data: Path, one_epoch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = ("--dataset", data, "--epochs", 1, "--output-dir", one_epoch, "--overwrite")
    for path in one_epoch.iterdir():  # everything but what tells that it is a run
        if path.name != "run.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (one_epoch / ".unfinished-checkpoints").mkdir()
    succeed(programs.train_small(*again))
    assert not list(one_epoch.glob(".unfinished*"))


def test_other_data_is_refused_by_name(programs: Programs, one_epoch: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text(CSV)
    answer = programs.train("--resume", one_epoch, "--dataset", tmp_path / "other.csv")
    assert answer.code == 2 and "train_file" in answer.error


def test_a_data_file_that_changed_since_is_refused(programs: Programs, data: Path, one_epoch: Path) -> None:
    data.write_text(CSV + "another warm film,1\n" * 10)
    answer = programs.train("--resume", one_epoch)
    assert answer.code == 2 and "other training size (36, now 45); restore the data" in answer.error


def test_as_many_other_texts_are_refused_too(programs: Programs, data: Path, one_epoch: Path) -> None:
    data.write_text(CSV.replace("warm", "cold", 1))
    answer = programs.train("--resume", one_epoch)
    assert answer.code == 2 and "was begun on data with other content" in answer.error


def test_an_average_of_weights_may_begin_in_the_middle(programs: Programs, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    succeed(programs.train_small("--dataset", data, "--epochs", 1, "--ema-decay", 0, "--output-dir", path))
    more = ("--resume", path, "--epochs", 2, "--ema-decay", 0.9, "--allow-config-change")
    answer = succeed(programs.train(*more))
    assert "ema_decay 0.0 -> 0.9" in answer.err


def test_a_damaged_newest_checkpoint_falls_back_with_a_notice(programs: Programs, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    succeed(programs.train_small("--dataset", data, "--epochs", 3, "--output-dir", path))
    model = (path / "model.safetensors").read_bytes()
    older, newest = sorted((path / "checkpoints").iterdir(), key=lambda folder: folder.stat().st_mtime)
    (newest / "training_state.json").write_text("{}")
    answer = succeed(programs.train("--resume", path))
    assert f"warning: {newest / 'training_state.json'} is damaged" in answer.err
    assert f"resuming    {older}" in answer.err
    assert (path / "model.safetensors").read_bytes() == model


def test_a_run_that_another_process_trains_is_left_alone(programs: Programs, one_epoch: Path) -> None:
    before = {path: path.read_bytes() for path in one_epoch.rglob("*") if path.is_file()}
    with RunFolder(one_epoch).lock():
        answer = programs.train("--resume", one_epoch)
    assert answer.code == 2 and f"another process trains in {one_epoch}" in answer.error
    assert {path: path.read_bytes() for path in one_epoch.rglob("*") if path.is_file()} == before
    succeed(programs.train("--resume", one_epoch))


def test_auto_resumes_the_newest_unfinished_run_under_weights(
    programs: Programs, one_epoch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "WEIGHTS_DIR", one_epoch.parent)
    (one_epoch / "run.json").write_text(json.dumps(read(one_epoch / "run.json") | {"finished": None}))
    answer = succeed(programs.train("--resume", "auto"))
    assert answer.out.splitlines()[-1] == str(one_epoch)
    assert read(one_epoch / "run.json")["finished"] is not None


def test_nothing_to_resume_is_a_checkpoint_error(programs: Programs, tmp_path: Path) -> None:
    answer = programs.train("--resume", tmp_path / "absent")
    assert answer.code == 4 and "holds no checkpoint to resume" in answer.error


def test_the_sample_never_overwrites_a_run_on_other_data(programs: Programs, one_epoch: Path) -> None:
    answer = programs.train_small("--dataset", "sample", "--epochs", 1, "--output-dir", one_epoch, "--overwrite")
    assert answer.code == 2 and "never overwrites" in answer.error
    assert read(one_epoch / "run.json")["data"]["name"] == "films.csv"


# What the user got wrong


BAD_FILES: dict[str, tuple[str, str | bytes, int]] = {
    "empty text": ("csv", CSV + b",1\n".decode(), 42),
    "blank text": ("csv", CSV + '" ",1\n', 42),
    "missing cell": ("csv", "sentence,label\na film,1\ndull\n", 3),
    "no label": ("csv", CSV + "so-so,-1\n", 42),
    "open quote": ("csv", CSV + '"never closed,1\n', 42),
    "not UTF-8": ("csv", CSV.encode() + b"caf\xe9,1\n", 42),
    "missing key": ("jsonl", '{"sentence": "a", "label": 1}\n{"sentence": "b"}\n', 2),
    "not JSON": ("jsonl", '{"sentence": "a", "label": 1}\n{"sentence": \n', 2),
    "number as text": ("jsonl", '{"sentence": "a", "label": 1}\n{"sentence": 5, "label": 0}\n', 2),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_row_is_a_data_error_that_names_file_and_line(name: str, programs: Programs, tmp_path: Path) -> None:
    suffix, content, line = BAD_FILES[name]
    path = tmp_path / f"bad.{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    answer = programs.train_small("--train-file", path, "--output-dir", tmp_path / "run")
    assert (answer.code, answer.out) == (3, "")
    assert f"{path}:{line}" in answer.error and answer.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_label_outside_the_training_set_is_a_data_error(programs: Programs, data: Path, tmp_path: Path) -> None:
    bad = tmp_path / "validation.csv"
    bad.write_text("sentence,label\na film,1\nso-so,2\n")
    answer = programs.train_small("--train-file", data, "--validation-file", bad, "--output-dir", tmp_path / "run")
    assert answer.code == 3 and f"{bad}:3: label '2' is none of negative, positive" in answer.error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no rows"),
        ("sentence,label\n", "holds no rows"),
        ("sentence,stars\na film,1\n", "no column label"),
        ("words,label\na film,1\n", "no column sentence"),
        ("sentence,label\na film,1\nanother film,1\n", "all labels are the same"),
    ],
)
def test_a_file_without_use_is_a_data_error_that_names_it(
    content: str, message: str, programs: Programs, tmp_path: Path
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    answer = programs.train_small(
        *("--train-file", path, "--validation-file", SAMPLE_DIR / "validation.jsonl"), "--output-dir", tmp_path / "run"
    )
    assert answer.code == 3 and message in answer.error and "bad.csv" in answer.error


@pytest.mark.parametrize("file", ["absent.csv", "films.xlsx"])
def test_a_file_that_cannot_be_read_is_a_data_error(file: str, programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "films.xlsx").write_bytes(b"PK\x03\x04")
    answer = programs.train_small("--train-file", tmp_path / file, "--output-dir", tmp_path / "run")
    assert answer.code == 3 and file in answer.error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--dataset sample --train-file x.csv", "name two sources"),
        ("--validation-file x.csv", "needs --train-file"),
        ("--overwrite --resume auto", "give one of them"),
        ("--hidden-size 30 --num-attention-heads 4", "num_attention_heads = 4 must divide hidden_size = 30"),
        ("--seq-len 1000", "seq_len = 1000 exceeds the 512 positions"),
        ("--epochs 0", "epochs = 0 must be at least 1"),
        ("--keep-last 0", "keep_last = 0 must be at least 1"),
        ("--learning-rate 0", "learning_rate = 0.0 must be above 0"),
        ("--word-dropout 1", "word_dropout = 1.0 must lie in [0, 1)"),
        ("--preset huge", "--preset huge is unknown; choose one of"),
        ("--recipe huge", "--recipe huge is unknown"),
        ("--dataset sample --device abacus --output-dir never-made", "--device abacus is unknown"),
    ],
)
def test_contradictory_options_are_usage_errors(options: str, message: str, programs: Programs) -> None:
    answer = programs.train(*options.split())
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.error


@pytest.mark.parametrize(
    ("options", "suggestion"),
    [("--epoch 3", "--epochs"), ("--learing-rate 1", "--learning-rate"), ("--epochs many", "--epochs")],
)
def test_a_mistyped_option_is_a_usage_error_that_suggests_the_right_one(
    options: str, suggestion: str, programs: Programs
) -> None:
    answer = programs.train(*options.split())
    assert (answer.code, answer.out) == (2, "")
    assert suggestion in answer.err.replace(options.split()[0] + ",", "")


def test_debug_shows_the_traceback(programs: Programs) -> None:
    with pytest.raises(Exception, match="epochs = 0"):
        programs.train("--epochs", 0, "--debug")


def test_an_output_folder_that_cannot_be_made_is_a_storage_error(
    programs: Programs, data: Path, tmp_path: Path
) -> None:
    answer = programs.train_small("--dataset", data, "--epochs", 1, "--output-dir", data / "run")
    assert answer.code == 6 and "cannot write" in answer.error


def test_a_full_disk_ends_with_its_own_exit_code_and_one_line(data: Path, tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"  # the model is larger than that
        "from src.train import main\nfrom src.utils.errors import run_program\nrun_program(main)\n"
    )
    options = ["--dataset", str(data), "--epochs", "1", "--output-dir", str(tmp_path / "run"), "--hidden-size", "64"]
    result = subprocess.run(
        [sys.executable, "-c", program, *options],
        cwd=REPOSITORY,
        env=os.environ | {"WANDB_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 6, result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: cannot write ")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_training_that_diverges_ends_with_its_own_exit_code_and_one_line(
    programs: Programs, data: Path, tmp_path: Path
) -> None:
    options = ("--dataset", data, "--output-dir", tmp_path / "run", "--learning-rate", 1e30, "--warmup-ratio", 0)
    answer = programs.train_small(*options)
    assert answer.code == 5 and "lower --learning-rate" in answer.error and "Traceback" not in answer.err
    answer = programs.train_small(*options, "--overwrite", "--batch-size", 4)  # more than three steps an epoch
    assert answer.code == 5 and "not finite 3 times in a row" in answer.error and "Traceback" not in answer.err
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_interrupted_before_the_first_step_is_130_without_a_traceback(programs: Programs, monkeypatch: Any) -> None:
    monkeypatch.setattr("src.data.sources.open_corpus", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    answer = programs.train("--dataset", "sample")
    assert (answer.code, answer.err) == (130, "interrupted\n")


@pytest.mark.skipif("SST2_DIR" not in os.environ, reason="needs SST-2: set SST2_DIR to a folder that holds it")
def test_sst2_is_trained_on_from_a_folder(programs: Programs, tmp_path: Path) -> None:
    folder = existing_path(os.environ["SST2_DIR"])
    assert folder is not None
    path = tmp_path / "run"
    options = ("--dataset", folder, "--max-train-samples", 2000, "--epochs", 1, "--output-dir", path)
    answer = succeed(programs.train_small(*options))
    assert "training    2,000 examples" in answer.err and "validation  872 examples" in answer.err
    run, evaluation = read(path / "run.json"), read(path / "evaluation-validation.json")
    assert (run["data"]["train"], run["data"]["validation"], evaluation["n"]) == (2000, 872, 872)
    assert "not on SST-2" not in (path / "README.md").read_text()
    shutil.rmtree(path / "checkpoints")
    answer = succeed(programs.inference("--checkpoint", path, "--json"))
    assert json.loads(answer.out)["accuracy"] == pytest.approx(evaluation["accuracy"])


# Without running


def test_a_dry_run_tells_and_writes_nothing(programs: Programs, data: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    answer = succeed(
        programs.train_small("--dataset", data, "--dry-run", "--epochs", 200, "--output-dir", tmp_path / "run")
    )
    told = dict(line.split(maxsplit=1) for line in answer.out.splitlines())
    assert list(told) == ["settings", "data", "parameters", "memory", "step", "run"]
    assert "epochs 200" in told["settings"] and "train 36" in told["data"]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_resumes_nothing(programs: Programs) -> None:
    answer = programs.train_small("--dry-run", "--resume", "auto")
    assert answer.code == 2 and "--dry-run says what a new run would be" in answer.err
