"""Nothing is lost: a few tries of every suite, and as `deep` as many as the README's figures are of."""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from src.utils.files import read_json, write_json
from tests.benchmarks.readme import MEDIA, RELIABILITY, section, write_section
from tests.reliability import suites

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills processes as Linux does")


class Suite(NamedTuple):
    """Runs of one kind of trouble: how many tries of it ended well, and how many the quick and the deep test make."""

    act: Callable[[int, Path], tuple[int, int]]
    few: int
    many: int


RECORD = MEDIA / "reliability.json"
KILL, ENDS = (signal.SIGKILL,), (signal.SIGINT, signal.SIGTERM)
SUITES = {
    "SIGKILL at a random moment of a training": Suite(partial(suites.signals, "train", KILL), 3, 50),
    "SIGKILL at a random moment of a pre-training": Suite(partial(suites.signals, "pretrain", KILL), 3, 50),
    "an end before every call of a training that changes a file": Suite(partial(suites.crashes, "train"), 4, 0),
    "an end before every call of a pre-training that changes a file": Suite(partial(suites.crashes, "pretrain"), 4, 0),
    "SIGINT or SIGTERM at a random moment of a training": Suite(partial(suites.signals, "train", ENDS), 2, 50),
    "SIGINT or SIGTERM at a random moment of a pre-training": Suite(partial(suites.signals, "pretrain", ENDS), 2, 50),
    "a flipped bit in a checkpoint": Suite(partial(suites.damage, spoil=suites.flip_a_bit), 50, 200),
    "a checkpoint's file cut off": Suite(partial(suites.damage, spoil=suites.cut_off), 20, 100),
    "SIGKILL of one of two processes under torchrun": Suite(suites.lost_processes, 0, 10),
}


def table() -> str:
    """How many tries of each suite ended well, and how many there were."""
    found: dict[str, list[int]] = read_json(RECORD)
    lines = [f"| {name} | {found[name][0]:,} of {found[name][1]:,} |" for name in SUITES]
    return "\n".join(["| what happens | nothing lost |", "|---|---|", *lines]) + "\n"


@pytest.fixture
def folder() -> Iterator[Path]:
    # In memory if the system has such a folder: what is tested is the order of writes, not the speed of a disk.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as path:
        yield Path(path)


@pytest.mark.parametrize("name", [name for name, suite in SUITES.items() if suite.few])
def test_nothing_is_lost_in_a_few_tries(name: str, folder: Path) -> None:
    good, tries = SUITES[name].act(SUITES[name].few, folder)
    assert good == tries == SUITES[name].few


@pytest.mark.deep
@pytest.mark.parametrize("name", SUITES)
def test_nothing_is_lost_in_many_tries(name: str, folder: Path) -> None:
    good, tries = SUITES[name].act(SUITES[name].many, folder)
    write_json(RECORD, read_json(RECORD) | {name: [good, tries]})
    write_section(RELIABILITY, "reliability", table())
    assert good == tries >= SUITES[name].many


def test_the_figures_in_readme_are_those_on_record() -> None:
    assert section(RELIABILITY, "reliability") == table()
