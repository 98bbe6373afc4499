"""Trouble from elsewhere: a process of several that dies, numbers that are none, a tracker that fails."""

import math
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch

from tests.reliability.child import raise_signal_in_step, set_environment
from tests.reliability.processes import Command, ended, when
from tests.test_torchrun import TRAIN, finish, process_of, start
from tests.training.test_loop import break_gradient, break_loss, break_loss_alone
from tests.training.tiny_training import all_tensors, setup
from tests.training.together import together
from tests.utils.test_distributed import spoil

UNREACHABLE = "http://127.0.0.1:9"
NO_ACCOUNT = {"WANDB_MODE": None, "WANDB_API_KEY": None, "WANDB_CONFIG_DIR": "/nowhere", "NETRC": "/nowhere/netrc"}
WANDB_FAILURES = ("killed", "missing", "no key", "unwritable", "no network")


def lost_processes(tries: int, folder: Path) -> tuple[int, int]:
    """SIGKILL of one of two processes under torchrun, at a random moment of the training."""
    straight, draw, good = folder / "straight", random.Random(tries), 0
    seconds = _seconds_of_training(straight)
    for attempt in range(tries):
        run, code = folder / str(attempt), 0
        while code == 0:  # it had ended already
            shutil.rmtree(run, ignore_errors=True)
            launcher = start("src.train", *TRAIN, "--output-dir", run)
            when((run / "run.json").exists)
            time.sleep(draw.uniform(0, seconds))
            with suppress(AssertionError, OSError):  # it has ended
                os.kill(process_of(launcher.pid, draw.randrange(2)), signal.SIGKILL)
            code = finish(launcher)[0]
        code, _, _ = finish(start("src.train", *TRAIN, "--output-dir", run, "--resume", "auto"))
        model = Path("model.safetensors")
        good += code == 0 and (run / model).read_bytes() == (straight / model).read_bytes()
    return good, tries


def _seconds_of_training(run: Path) -> float:
    launcher = start("src.train", *TRAIN, "--output-dir", run)
    when((run / "run.json").exists)
    started = time.monotonic()
    assert finish(launcher)[0] == 0
    return time.monotonic() - started


def numbers(tries: int, folder: Path) -> tuple[int, int]:
    """Steps with a loss or gradients that are none, of a process alone or of one of two: none changes a parameter."""
    found = [_changed_alone(breaks) for breaks in (break_loss, break_loss_alone, break_gradient)]
    for where in ("loss", "gradient"):
        found += [len(names) for names, diverged in together(2, spoil, where) if diverged]
    return found.count(0), 3 + 2 * 2


def _changed_alone(breaks: object) -> int:
    trainer, broken = setup(ema_decay=0.9).trainer, [False]
    breaks(trainer, broken)  # type: ignore[operator]
    batch = trainer.dataset.collate(range(9))
    trainer.training_step([batch])
    before, broken[0] = all_tensors(trainer, with_random_states=False), True
    report = trainer.training_step([batch])
    assert not (math.isfinite(report.loss) and math.isfinite(report.gradient_norm))
    return sum(
        not torch.equal(tensor, before[name]) for name, tensor in all_tensors(trainer, with_random_states=False).items()
    )


def trackers(tries: int, folder: Path) -> tuple[int, int]:
    """Weights & Biases failing in the first so many of the known ways: the run is complete nevertheless."""
    good = 0
    for failure in WANDB_FAILURES[:tries]:
        mode = "online" if failure in ("no key", "no network") else "offline"
        command = Command("train", folder / failure.replace(" ", "-"), ("--wandb", mode, "--epochs", "30"))
        code = ended(_watched(command, failure))
        good += code == 0 and "\nwandb: " in command.said() and "Traceback" not in command.said()
    return good, tries


def _watched(command: Command, failure: str) -> ForkServerProcess:
    environment = NO_ACCOUNT
    if failure == "unwritable":
        ended(command.start(raise_signal_in_step, signal.SIGTERM, 3))
        shutil.rmtree(command.run / "wandb", ignore_errors=True)
        (command.run / "wandb").write_text("in the way")
    if failure == "no network":
        environment = NO_ACCOUNT | {"WANDB_API_KEY": "0123456789" * 4, "WANDB_BASE_URL": UNREACHABLE}
    process = command.start(set_environment, environment, failure == "missing")
    if failure == "killed":
        when((command.run / "checkpoints" / "step-4").exists)
        os.kill(_service(process), signal.SIGKILL)
    return process


def _service(process: ForkServerProcess) -> int:
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        if b"wandb-core" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise AssertionError("wandb started no service")
