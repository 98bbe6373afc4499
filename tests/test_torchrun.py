"""The three programs under `torchrun`, as real processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from src.training.checkpoint import RunFolder
from src.utils.config import REPOSITORY
from tests.conftest import SMALL, Programs, TrainedRun

pytestmark = pytest.mark.slow

TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(REPOSITORY),
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "disabled",
}
TRAIN = ("--dataset", "sample", "--epochs", "12", "--batch-size", "32", "--save-every", "7", *SMALL)


def start(*arguments: object) -> "subprocess.Popen[str]":
    """Starts two processes of a program, or of a script."""
    if not str(arguments[0]).endswith(".py"):
        arguments = ("-m", *arguments)
    command = [sys.executable, *TWO, *map(str, arguments)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=REPOSITORY, env=ENVIRONMENT, **streams)  # type: ignore[call-overload]


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def together(*arguments: object) -> tuple[str, str]:
    code, out, err = finish(start(*arguments))
    assert code == 0, err
    return out, err


def process_of(launcher: int, rank: int) -> int:
    """Finds the process id of one of those a torchrun started."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={rank}\0" in Path(f"/proc/{child}/environ").read_text():
            return int(child)
    raise AssertionError(f"no process of rank {rank}")


def when(ready: Callable[[], bool]) -> None:
    """Waits until something has happened."""
    end = time.monotonic() + 100
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)


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
    assert steps == sorted(steps) and len([row for row in steps if row == steps[-1]]) == 2
    states = load_file(path / "checkpoints" / f"step-{steps[-1]}" / "training_state.safetensors")
    assert not states["random.cpu"].equal(states["random.cpu.1"])


def test_a_run_that_lost_a_process_ends_the_same_once_resumed(straight: tuple[Path, str, str], tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    launcher = start("src.train", *TRAIN, "--output-dir", lost)
    when((lost / "checkpoints" / "step-7").exists)
    os.kill(process_of(launcher.pid, 1), signal.SIGKILL)
    assert finish(launcher)[0] != 0 and json.loads((lost / "run.json").read_text())["finished"] is None
    _, err = together("src.train", "--resume", lost)
    assert "processes   " not in err  # as many as began it
    assert (lost / "model.safetensors").read_bytes() == (straight[0] / "model.safetensors").read_bytes()


def test_another_number_of_processes_goes_on_and_says_so(
    straight: tuple[Path, str, str], programs: Programs, tmp_path: Path
) -> None:
    cut = shutil.copytree(straight[0], tmp_path / "cut")
    newest = max((cut / "checkpoints").iterdir(), key=lambda path: int(path.name[5:]))
    shutil.rmtree(newest)
    answer = programs.train("--resume", cut)
    assert answer.code == 0, answer.err
    assert "processes   2 began this, 1 go on: just as well, but no longer bit for bit" in answer.err


@pytest.mark.parametrize("only_to", [None, 0, 1])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_in_the_same_step_after_saving(
    number: signal.Signals, only_to: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    launcher = start("src.train", *TRAIN, "--epochs", "500", "--save-every", "1000000", "--output-dir", path)
    when((path / "metrics.jsonl").exists)
    os.kill(launcher.pid if only_to is None else process_of(launcher.pid, only_to), number)
    _, _, err = finish(launcher)
    newest = max(int(folder.name[5:]) for folder in (path / "checkpoints").iterdir())
    assert err.count("stopped in step") == 1 and f"stopped in step {newest};" in err


def test_all_leave_where_another_process_trains_in_the_folder(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run").lock():
        code, _, err = finish(start("src.train", *TRAIN, "--output-dir", tmp_path / "run"))
    assert code == 1 and f"error: another process trains in {tmp_path / 'run'};" in err
    assert "RuntimeError" not in err and "exitcode  : 2" in err  # torchrun may end the second before it has said so
    assert not (tmp_path / "run").exists()


def test_pre_training_too(tmp_path: Path) -> None:
    from tests.training.tiny_pretraining import arguments, write_texts

    text = write_texts(tmp_path / "colours.txt")
    path, script = tmp_path / "run", tmp_path / "pretrain.py"
    script.write_text(
        "from pathlib import Path\n"
        "from src import pretrain\n"
        "from src.utils.errors import run_program\n"
        f"pretrain.CACHE_DIR = Path({str(tmp_path / 'cache')!r})\n"
        "run_program(pretrain.main)\n"
    )
    out, err = together(script, "--corpus", text, *arguments(max_steps=8), "--output-dir", path)
    assert out.count("masked tokens named") == 1 and err.count("tokenizing") == 1
    assert json.loads((path / "run.json").read_text())["finished"]


def test_prediction_of_a_file_is_shared_and_keeps_its_order(
    sample_run: TrainedRun, programs: Programs, tmp_path: Path
) -> None:
    texts = [f"a {'good' if index % 3 else 'bad'} film number {index}" for index in range(3 * 8192 + 5)]
    texts[8192], texts[-1] = " ", ""  # remarks of the second process and of the last chunk
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in texts))
    common = ("--checkpoint", sample_run.path, "--file", tmp_path / "texts.txt", "--json")
    out, err = together("src.inference", *common, "--output", tmp_path / "shared.jsonl", "--device", "cpu")
    assert out == "" and "process 1: text 8193: blank, no label" in err
    assert programs.inference(*common, "--output", tmp_path / "alone.jsonl").code == 0
    shared, alone = ((tmp_path / f"{name}.jsonl").read_text().splitlines() for name in ("shared", "alone"))
    assert shared == alone and [json.loads(line)["text"] for line in shared] == texts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.jsonl", "shared.jsonl", "texts.txt"]


def test_what_cannot_be_shared_is_refused(sample_run: TrainedRun) -> None:
    code, out, err = finish(start("src.inference", "--checkpoint", sample_run.path, "a fine film"))
    assert code != 0 and out == "" and "error: several processes share --file, and write --output" in err
