"""What may happen to a run, many times over, and how often nothing was lost by it.

Each suite takes a number of tries and an empty folder and returns how many of them ended well, and how many there were.
Well is: the run, gone on with by the same command, ends with the same files to the bit; or the damage is noticed.
"""

import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from src.training.checkpoint import RunFolder
from tests.reliability.child import CRASHED
from tests.reliability.processes import Command, ended, outcome
from tests.test_torchrun import TRAIN as TORCHRUN
from tests.test_torchrun import interrupted, together


def straight(program: str, folder: Path) -> tuple[Command, dict[str, Any], float]:
    """Runs a command once without any trouble; returns it, what it leaves, and the seconds it took."""
    command = Command(program, folder / program)
    process = command.start()
    started = time.monotonic()
    assert ended(process) == 0, command.said()
    return command, outcome(command.run), time.monotonic() - started


def ends_the_same(command: Command, wanted: dict[str, Any]) -> bool:
    """Goes on with a run and compares; makes room for the next try."""
    command.finish()
    same = outcome(command.run) == wanted
    shutil.rmtree(command.run)
    shutil.rmtree(command.folder / "cache", ignore_errors=True)
    return same


def signals(program: str, numbers: tuple[int, ...], tries: int, folder: Path) -> tuple[int, int]:
    """Signals in turn, at random moments: the exit code, a checkpoint that can be loaded, the same end."""
    command, wanted, seconds = straight(program, folder)
    shutil.rmtree(command.run)
    good, draw = 0, random.Random(program)
    for attempt in range(tries):
        number = numbers[attempt % len(numbers)]
        code = _struck(command, seconds, draw, number)
        run = RunFolder(command.run)
        loadable = not run.checkpoints() or run.newest_checkpoint() is not None
        expected = -number if number == signal.SIGKILL else 128 + number
        good += code == expected and "Traceback" not in command.said() and loadable and ends_the_same(command, wanted)
    return good, tries


def _struck(command: Command, seconds: float, draw: random.Random, number: int) -> int:
    """Starts runs until one is hit by a signal before its end; returns its exit code."""
    while True:
        process = command.start()
        time.sleep(draw.uniform(0, seconds))
        if process.pid is not None and process.exitcode is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)
        if (code := ended(process)) != 0:
            return code
        shutil.rmtree(command.run)  # it had ended already


def crashes(program: str, tries: int, folder: Path) -> tuple[int, int]:
    """An end before so many of the calls that change a file, evenly spread; 0: before every one of them.

    The later the end, the later is the step to go on from, or the same: what is on the disk once stays.
    """
    command, wanted, _ = straight(program, folder)
    count = _calls(program, folder)
    tries = tries or count
    shutil.rmtree(command.run)
    shutil.rmtree(command.folder / "cache", ignore_errors=True)
    good = reached = 0
    for attempt in range(tries):
        number = 1 + attempt * count // tries
        process = command.start((number, folder / "calls"))
        crashed, before, reached = ended(process) == CRASHED, reached, _newest_step(command.run)
        good += crashed and reached >= before and ends_the_same(command, wanted)
    return good, tries


def _calls(program: str, folder: Path) -> int:
    """Counts all calls of a run that change files of the run or of the cache."""
    command, number = Command(program, folder / "counted"), folder / "calls"
    assert ended(command.start((0, number))) == 0, command.said()
    shutil.rmtree(command.folder)
    return int(number.read_text())


def _newest_step(run: Path) -> int:
    """Finds the step that a run would go on from; 0: it would begin anew."""
    newest = RunFolder(run).newest_checkpoint()
    return 0 if newest is None else int(re.findall(r"\d+", newest.name)[0])


def damage(tries: int, folder: Path, spoil: Callable[[bytes, random.Random], bytes]) -> tuple[int, int]:
    """Damage to a file of the newest checkpoint: told in one line, and the checkpoint before it is found instead."""
    command, _, _ = straight("train", folder)
    run, draw = RunFolder(command.run), random.Random(tries)
    newest, before = run.checkpoints()
    good = 0
    for _ in range(tries):
        file = draw.choice(sorted(newest.iterdir()))
        whole = file.read_bytes()
        file.write_bytes(spoil(whole, draw))
        good += run.newest_checkpoint() == before
        file.write_bytes(whole)
    assert run.newest_checkpoint() == newest
    return good, tries


def flip_a_bit(content: bytes, draw: random.Random) -> bytes:
    position, spoilt = draw.randrange(8 * len(content)), bytearray(content)
    spoilt[position // 8] ^= 1 << position % 8
    return bytes(spoilt)


def cut_off(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def lost_processes(tries: int, folder: Path) -> tuple[int, int]:
    """SIGKILL of one of two processes under torchrun, after any step of the training."""
    together("src.train", *TORCHRUN, "--output-dir", folder / "straight")
    wanted, draw, good = (folder / "straight" / "model.safetensors").read_bytes(), random.Random(tries), 0
    for attempt in range(tries):
        place = folder / str(attempt)
        place.mkdir()
        interrupted(place, signal.SIGKILL, draw.randrange(2), draw.randint(1, 39))
        together("src.train", *TORCHRUN, "--output-dir", place / "run", "--resume", "auto")
        good += (place / "run" / "model.safetensors").read_bytes() == wanted
    return good, tries
