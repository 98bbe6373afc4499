"""What tests of several rooms share: the programs as functions, and two tiny trained runs."""

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import hypothesis
import pytest

from src import explain, export, inference, pretrain, report, train
from src.utils.cli import run_program, set_up_logging
from src.utils.config import REPOSITORY, SHIPPED_CHECKPOINT

# Before anything imports PyTorch: tests of tiny models want one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before anything imports the libraries that read it: no test reaches the hub.
os.environ["HF_HUB_OFFLINE"] = "1"
if not os.access(Path.home(), os.W_OK):  # libraries keep caches there, and some warn where they cannot
    os.environ["HOME"] = tempfile.mkdtemp(prefix="home-")
# A shell ignores Ctrl-C for what it starts in the background, and so would every program that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
set_up_logging()
# A busy machine is slow, and a checkout may be read-only.
hypothesis.settings.register_profile(
    "here", deadline=None, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("here")

SMALL = (
    *("--num-hidden-layers", "1", "--hidden-size", "16", "--num-attention-heads", "2", "--intermediate-size", "32"),
    *("--device", "cpu", "--num-threads", "1"),
)


@pytest.fixture(autouse=True)
def _arithmetic() -> None:
    """Sets back how PyTorch computes, which a program run in an earlier test has changed for the whole process."""
    import torch  # not above: only after OMP_NUM_THREADS

    torch.set_flush_denormal(False)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.enable_flash_sdp(True)


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps what `datasets` builds out of the user's home, which may not be writable."""
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@dataclass(frozen=True)
class Answer:
    """How a program ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The last line on standard error, which must be the only one that reports an error."""
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert errors == self.err.splitlines()[-1:], self.err
        return errors[0]

    @property
    def notices(self) -> list[str]:
        """What is on standard error beside the checkpoint's name."""
        return [line for line in self.err.splitlines() if not line.startswith("checkpoint  ")]


def succeed(answer: Answer) -> Answer:
    assert answer.code == 0, answer.err
    return answer


def contents(folder: Path) -> dict[Path, bytes]:
    """All files of a folder and the folders in it."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def all_metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, but for what differs from run to run."""
    speed = "train/tokens_per_second"
    return [{name: value for name, value in row.items() if name != speed} for row in all_metrics(folder)]


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can become larger than that."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class Programs:
    """The programs `python -m src.*` in this process: importing PyTorch anew costs seconds."""

    small = SMALL
    environment: ClassVar = {"WANDB_MODE": "disabled"}

    def train(self, *arguments: object) -> Answer:
        return _call(train.main, arguments)

    def train_small(self, *arguments: object) -> Answer:
        return _call(train.main, (*arguments, *SMALL))

    def pretrain(self, cache: Path, *arguments: object) -> Answer:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pretrain, "CACHE_DIR", cache)
            return _call(pretrain.main, arguments)

    def report(self, *arguments: object) -> Answer:
        return _call(report.main, (*arguments, "--device", "cpu"))

    def inference(self, *arguments: object, stdin: bytes = b"") -> Answer:
        return _call(inference.main, (*arguments, "--device", "cpu"), stdin)

    def export(self, *arguments: object) -> Answer:
        return _call(export.main, arguments)

    def explain(self, *arguments: object, stdin: bytes = b"") -> Answer:
        return _call(explain.main, (*arguments, "--device", "cpu"), stdin)


def _call(main: Callable[[list[str]], None], arguments: tuple[object, ...], stdin: bytes = b"") -> Answer:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["program", *map(str, arguments)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        for name, value in Programs.environment.items():
            patch.setenv(name, value)
        try:
            run_program(main)
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Answer(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class TrainedRun:
    """A finished training or export: its folder, and what the program printed."""

    path: Path
    answer: Answer


@pytest.fixture(scope="session")
def programs() -> Programs:
    return Programs()


@pytest.fixture(scope="session")
def sample_run(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """Two epochs on the bundled sample. Tests that write into the folder copy it."""
    path = tmp_path_factory.mktemp("runs") / "on-the-sample"
    answer = programs.train_small("--dataset", "sample", "--epochs", 2, "--output-dir", path)
    assert answer.code == 0, answer.err
    return TrainedRun(path, answer)


@pytest.fixture
def folder(sample_run: TrainedRun, tmp_path: Path) -> Path:
    """A copy of that model which a test may damage."""
    path = tmp_path / "model"
    return shutil.copytree(sample_run.path, path, ignore=shutil.ignore_patterns("checkpoints"))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """The shipped model as ONNX, in both precisions; by a process of its own, for what libraries print there."""
    path = tmp_path_factory.mktemp("exports") / "onnx"
    options = ("--output", path, "--quantize", "int8", "--dataset", "sample", "--num-threads", "1")
    command = [sys.executable, "-m", "src.export", SHIPPED_CHECKPOINT, *options]
    ended = subprocess.run(list(map(str, command)), cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return TrainedRun(path, Answer(ended.returncode, ended.stdout, ended.stderr))


@pytest.fixture(scope="session")
def pretrained_run(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """Pre-trained on documents that each repeat one word, which it learns. Tests that write into the folder copy it."""
    from tests.training.tiny_pretraining import arguments, write_texts

    folder = tmp_path_factory.mktemp("pretrained")
    options = arguments(max_steps=300, evaluate_every=100)
    text = write_texts(folder / "colours.txt", count=203, length=150)
    path = folder / "run"
    answer = programs.pretrain(folder / "cache", "--corpus", text, *options, "--output-dir", path)
    assert answer.code == 0, answer.err
    return TrainedRun(path, answer)
