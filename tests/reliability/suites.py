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

from src.training.run_folder import RunFolder
from src.training.state import TENSORS
from src.utils.errors import CheckpointError
from src.utils.folder import verify
from tests.reliability.child import CRASHED, crash_in_call, raise_signal_in_step
from tests.reliability.processes import Command, ended, outcome


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


def newest_step(run: Path) -> int:
    """Finds the step that a run would go on from; 0: it would begin anew."""
    newest = RunFolder(run).newest_checkpoint()
    return 0 if newest is None else int(re.findall(r"\d+", newest.name)[0])


def struck(command: Command, seconds: float, draw: random.Random, number: int) -> tuple[int, Path]:
    """Starts runs until one is hit by a signal before its end; returns its exit code and folder."""
    while True:
        process = command.start()
        time.sleep(draw.uniform(0, seconds))
        if process.pid is not None and process.exitcode is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)
        if (code := ended(process)) != 0:
            return code, command.run
        shutil.rmtree(command.run)  # it had ended already


def kills(program: str, tries: int, folder: Path) -> tuple[int, int]:
    """SIGKILL at random moments."""
    command, wanted, seconds = straight(program, folder)
    shutil.rmtree(command.run)
    good, draw = 0, random.Random(program)
    for _ in range(tries):
        code, _ = struck(command, seconds, draw, signal.SIGKILL)
        good += code == -signal.SIGKILL and ends_the_same(command, wanted)
    return good, tries


def signals(program: str, tries: int, folder: Path) -> tuple[int, int]:
    """SIGINT and SIGTERM in turn, at random moments: the exit code, a checkpoint that can be loaded, the same end."""
    command, wanted, seconds = straight(program, folder)
    shutil.rmtree(command.run)
    good, draw = 0, random.Random(program)
    for attempt in range(tries):
        number = (signal.SIGINT, signal.SIGTERM)[attempt % 2]
        code, run = struck(command, seconds, draw, number)
        clean = "Traceback" not in command.said()
        loadable = not RunFolder(run).checkpoints() or RunFolder(run).newest_checkpoint() is not None
        good += code == 128 + number and clean and loadable and ends_the_same(command, wanted)
    return good, tries


def stops(program: str, tries: int, folder: Path) -> tuple[int, int]:
    """SIGTERM in one step after the other."""
    command, wanted, _ = straight(program, folder)
    shutil.rmtree(command.run)
    good = 0
    for step in range(1, tries + 1):
        code = ended(command.start(raise_signal_in_step, signal.SIGTERM, step))
        newest = RunFolder(command.run).checkpoints()[0].name
        good += code == 128 + signal.SIGTERM and newest == f"step-{step}" and ends_the_same(command, wanted)
    return good, tries


def calls(program: str, folder: Path) -> list[str]:
    """Names all calls of a run, in their order, that change files of the run or of the cache."""
    command = Command(program, folder / "calls")
    names = folder / "names"
    process = command.start(crash_in_call, 0, command.folder, names)
    assert ended(process) == 0, command.said()
    shutil.rmtree(command.folder)
    return names.read_text().splitlines()


def crashes(program: str, tries: int, folder: Path) -> tuple[int, int]:
    """An end before so many of the calls that change a file, evenly spread; 0: before every one of them.

    The later the end, the later is the step to go on from, or the same: what is on the disk once stays.
    """
    command, wanted, _ = straight(program, folder)
    count = len(calls(program, folder))
    tries = tries or count
    shutil.rmtree(command.run)
    shutil.rmtree(command.folder / "cache", ignore_errors=True)
    good = reached = 0
    for attempt in range(tries):
        number = 1 + attempt * count // tries
        process = command.start(crash_in_call, number, command.folder, folder / "names")
        crashed, before, reached = ended(process) == CRASHED, reached, newest_step(command.run)
        good += crashed and reached >= before and ends_the_same(command, wanted)
    return good, tries


def crashes_of_resumed(tries: int, folder: Path) -> tuple[int, int]:
    """An end before one after the other of the first calls of a training that goes on behind a damaged checkpoint."""
    command, wanted, _ = straight("train", folder)
    shutil.rmtree(command.run)
    assert ended(command.start(raise_signal_in_step, signal.SIGTERM, 9)) == 128 + signal.SIGTERM
    (command.run / "checkpoints" / "step-9" / TENSORS).write_bytes(b"")
    stopped = command.run.rename(folder / "stopped")
    good = 0
    for number in range(1, tries + 1):
        shutil.copytree(stopped, command.run)
        process = command.start(crash_in_call, number, command.folder, folder / "names")
        good += ended(process) == CRASHED and ends_the_same(command, wanted)
    return good, tries


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
    """Changes one bit."""
    position, spoilt = draw.randrange(8 * len(content)), bytearray(content)
    spoilt[position // 8] ^= 1 << position % 8
    return bytes(spoilt)


def cut_off(content: bytes, draw: random.Random) -> bytes:
    """Leaves the beginning."""
    return content[: draw.randrange(len(content))]


def damaged_models(tries: int, folder: Path) -> tuple[int, int]:
    """A flipped bit in a delivered model: refused."""
    command, _, _ = straight("train", folder)
    names = sorted(
        {*RunFolder(command.run).checkpoints()[0].glob("*")} - {*command.run.glob("checkpoints/*/training*")}
    )
    good, draw = 0, random.Random(tries)
    for _ in range(tries):
        file = command.run / draw.choice(names).name
        whole = file.read_bytes()
        file.write_bytes(flip_a_bit(whole, draw))
        try:
            verify(command.run)
        except CheckpointError:
            good += 1
        file.write_bytes(whole)
    return good, tries
