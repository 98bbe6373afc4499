"""The three programs under `torchrun`, as real processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from src.utils.config import REPOSITORY
from tests.conftest import SMALL, Programs, TrainedRun

pytestmark = pytest.mark.slow

TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
ENVIRONMENT |= {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
TRAIN = ("--dataset", "sample", "--epochs", "2", "--batch-size", "32", "--save-every", "7", *SMALL)
INTERRUPTED = """
import os, sys, time
from src.train import main
from src.training.trainer import Trainer
from src.utils.cli import run_program

number, sender, receiver, at = (int(word) for word in sys.argv.pop(1).split(","))
original = Trainer.training_step

def training_step(trainer, batches):
    report = original(trainer, batches)
    if trainer.progress.step == at and int(os.environ["RANK"]) == sender:
        os.kill(os.getppid() if receiver == -1 else os.getpid(), number)
        if receiver == -1:
            while not trainer.signal:  # until the launcher has passed it on
                time.sleep(0.01)
    return report

Trainer.training_step = training_step
run_program(main)
"""
LAUNCHER = -1


def torchrun(*arguments: object) -> tuple[int, str, str]:
    """Runs two processes of a program, or of a script."""
    if not str(arguments[0]).endswith(".py"):
        arguments = ("-m", *arguments)
    command = [sys.executable, *TWO, *map(str, arguments)]
    ended = subprocess.run(command, cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    return ended.returncode, ended.stdout, ended.stderr


def together(*arguments: object) -> tuple[str, str]:
    code, out, err = torchrun(*arguments)
    assert code == 0, err
    return out, err


def interrupted(folder: Path, number: signal.Signals, to: int, step: int) -> str:
    """Trains into `folder / "run"`, where after a step one process or the launcher gets a signal."""
    script = folder / "interrupted.py"
    script.write_text(INTERRUPTED, encoding="utf-8")
    signals = f"{int(number)},{max(to, 0)},{to},{step}"
    code, _, err = torchrun(script, signals, *TRAIN, "--output-dir", folder / "run")
    assert code != 0
    return err


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    path = tmp_path_factory.mktemp("torchrun") / "run"
    return path, *together("src.train", *TRAIN, "--output-dir", path)


def test_the_first_process_alone_writes_and_talks(straight: tuple[Path, str, str], sample_run: TrainedRun) -> None:
    path, out, err = straight
    assert {file.name for file in path.iterdir()} == {file.name for file in sample_run.path.iterdir()}
    assert out.splitlines()[-1] == str(path) and out.count("accuracy") == sample_run.answer.out.count("accuracy")
    assert err.count("training    640 examples") == 1 and "process 1" not in err
    steps = [row["step"] for row in map(json.loads, (path / "metrics.jsonl").read_text().splitlines())]
    assert steps == sorted(steps) and steps.count(steps[-1]) == 2
    states = load_file(path / "checkpoints" / f"step-{steps[-1]}" / "training_state.safetensors")
    assert not states["random.cpu.0"].equal(states["random.cpu.1"])


@pytest.mark.parametrize(
    ("number", "to"),
    [
        (signal.SIGINT, 1),
        pytest.param(signal.SIGTERM, LAUNCHER, marks=pytest.mark.deep),
        pytest.param(signal.SIGKILL, 1, marks=pytest.mark.deep),
    ],
)
def test_a_signal_ends_all_in_the_same_step_and_once_resumed_they_end_the_same(
    number: signal.Signals, to: int, straight: tuple[Path, str, str], tmp_path: Path
) -> None:
    err, path = interrupted(tmp_path, number, to, 10), tmp_path / "run"
    assert json.loads((path / "run.json").read_text())["finished"] is None
    newest = max(int(folder.name.removeprefix("step-")) for folder in (path / "checkpoints").iterdir())
    if number == signal.SIGKILL:
        assert newest == 7
    else:
        assert err.count("stopped in step") == 1 and f"stopped in step {newest};" in err
    together("src.train", "--resume", path)
    assert (path / "model.safetensors").read_bytes() == (straight[0] / "model.safetensors").read_bytes()


def test_other_numbers_of_processes_go_on(straight: tuple[Path, str, str], programs: Programs, tmp_path: Path) -> None:
    cut = shutil.copytree(straight[0], tmp_path / "cut")
    shutil.rmtree(max((cut / "checkpoints").iterdir(), key=lambda path: int(path.name[5:])))
    answer = programs.train("--resume", cut)
    assert answer.code == 0, answer.err
    assert "processes   resumed with 1, were 2" in answer.err


def test_prediction_of_a_file_is_shared_in_order(sample_run: TrainedRun, programs: Programs, tmp_path: Path) -> None:
    texts = [f"a {'good' if index % 3 else 'bad'} film number {index}" for index in range(2 * 8192 + 5)]
    texts[8192], texts[-1] = " ", ""  # in the chunk of the second process, and in the last one
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in texts))
    common = ("--checkpoint", sample_run.path, "--file", tmp_path / "texts.txt", "--json")
    out, err = together("src.inference", *common, "--output", tmp_path / "shared.jsonl", "--device", "cpu")
    assert out == "" and "warning: text 8193: blank" in err and "process 1" not in err
    assert programs.inference(*common, "--output", tmp_path / "alone.jsonl").code == 0
    shared, alone = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("shared", "alone")
    )
    assert [line["text"] for line in shared] == texts
    for ours, expected in zip(shared, alone, strict=True):
        # A number of threads or a library of its own per process may change a score's last digits.
        score = expected["score"] and pytest.approx(expected["score"], abs=1e-6)
        assert ours == expected | {"score": score, "scores": pytest.approx(expected["scores"], abs=1e-6)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.jsonl", "shared.jsonl", "texts.txt"]


@pytest.mark.deep
def test_what_cannot_be_shared_is_refused(sample_run: TrainedRun) -> None:
    code, out, err = torchrun("src.inference", "--checkpoint", sample_run.path, "a fine film")
    assert code != 0 and out == "" and "--file" in err
