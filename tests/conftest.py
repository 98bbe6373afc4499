"""What tests of several rooms share: the two programs as functions, and one tiny trained run."""

import io
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from src import inference, train
from src.utils.errors import run_program

# Before anything imports PyTorch: one thread gives the same bits everywhere, and tests of tiny models want no more.
os.environ["OMP_NUM_THREADS"] = "1"

SMALL = (
    *("--num-hidden-layers", "1", "--hidden-size", "16", "--num-attention-heads", "2", "--intermediate-size", "32"),
    *("--device", "cpu", "--num-threads", "1"),
)


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


class Programs:
    """`python -m src.train` and `python -m src.inference` in this process: importing PyTorch anew costs seconds."""

    small = SMALL
    environment: ClassVar = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}

    def train(self, *arguments: object) -> Answer:
        return _call(train.main, arguments)

    def train_small(self, *arguments: object) -> Answer:
        return _call(train.main, (*arguments, *SMALL))

    def inference(self, *arguments: object, stdin: bytes = b"") -> Answer:
        return _call(inference.main, (*arguments, "--device", "cpu"), stdin)


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
    """A finished training: its folder, and what the program printed."""

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
