"""Runs of the programs in processes of their own, to be killed: forked from one that has imported PyTorch already."""

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from src.training.checkpoint import RunFolder
from tests.conftest import SMALL
from tests.reliability.child import work
from tests.training import tiny_pretraining, tiny_training
from tests.training.together import FORKS

PATIENCE = 600.0  # seconds
# Whatever draws, averages or is chosen, so that a resumed run has the most to remember. 9 steps an epoch, 2 epochs.
TRAIN = (
    *("--epochs", "2", "--batch-size", "4", "--save-every", "2", "--evaluate-every", "5", "--keep", "best"),
    *("--word-dropout", "0.2", "--hidden-dropout-prob", "0.1", "--ema-decay", "0.9"),
    *("--learning-rate", "3e-3", "--initializer-range", "0.2", "--min-frequency", "1", *SMALL),
)
PRETRAIN = tuple(
    tiny_pretraining.arguments(**tiny_pretraining.ALL_RANDOMNESS, max_steps=16, save_every=3, evaluate_every=5)
)


@dataclass(frozen=True)
class Command:
    """One of the programs with data, options and a folder for its run; running it again goes on."""

    program: str  # "train" or "pretrain"
    folder: Path  # of the data, the cache and the run

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def arguments(self) -> list[str]:
        """What follows the program's name; data is written when first asked for."""
        data = self.folder / ("films.csv" if self.program == "train" else "colours.txt")
        self.folder.mkdir(exist_ok=True)
        if not data.exists() and self.program == "train":
            _write_films(data)
        elif not data.exists():
            tiny_pretraining.write_texts(data)
        source, options = ("--dataset", TRAIN) if self.program == "train" else ("--corpus", PRETRAIN)
        return [source, str(data), *options, "--output-dir", str(self.run), "--resume", "auto"]

    def start(self, crash: tuple[int, Path] | None = None) -> ForkServerProcess:
        """Starts a process, perhaps one that crashes in a call, and returns once it has begun."""
        log = self.folder / "log"
        arguments = self.arguments
        log.unlink(missing_ok=True)
        process = FORKS.Process(target=work, args=(self.program, arguments, log, crash))
        process.start()
        when(lambda: log.exists() or process.exitcode is not None)
        return process

    def finish(self) -> None:
        assert ended(self.start()) == 0, self.said()

    def said(self) -> str:
        return (self.folder / "log").read_text()


def _write_films(path: Path) -> None:
    split = tiny_training.sentences(40, seed=1)
    rows = (f"{text},{label}\n" for text, label in zip(split.texts, split.labels, strict=True))
    path.write_text("sentence,label\n" + "".join(rows))


def ended(process: ForkServerProcess) -> int:
    """Waits for a process; returns its exit code, negative after a signal it did not handle."""
    process.join(PATIENCE)
    assert process.exitcode is not None, "it hangs"
    code = process.exitcode
    process.close()
    return code


def when(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.001)


def outcome(run: Path) -> dict[str, Any]:
    """All that a run leaves, but for times, and for checkpoints before the last one: a stop adds one."""
    newest = RunFolder(run).checkpoints()[0].name
    names = sorted(str(file.relative_to(run)) for file in run.rglob("*") if file.is_file())
    names = [name for name in names if not re.match(rf"checkpoints/(?!{newest}/)step-\d+/", name)]
    weights = {name: _sum(run / name) for name in names if name.endswith(".safetensors")}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("train/tokens_per_second", None)
    finished = json.loads((run / "run.json").read_text())["finished"] is not None
    evaluation = json.loads((run / "evaluation-validation.json").read_text())
    return {"names": names, "weights": weights, "rows": rows, "finished": finished, "evaluation": evaluation}


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
