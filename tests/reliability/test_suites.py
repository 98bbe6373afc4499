"""Nothing is lost: a few tries of every suite, and as `deep` as many as the README's figures are of."""

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.benchmarks.readme import RELIABILITY, section
from tests.reliability import figures, suites
from tests.reliability.processes import workplace

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills processes as Linux does")


class Suite(NamedTuple):
    """Runs of one kind of trouble: how many tries of it ended well, and how many the quick and the deep test make."""

    act: Callable[[int, Path], tuple[int, int]]
    few: int
    many: int


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


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=workplace()) as path:
        yield Path(path)


@pytest.mark.parametrize("name", [name for name, suite in SUITES.items() if suite.few])
def test_nothing_is_lost_in_a_few_tries(name: str, folder: Path) -> None:
    good, tries = SUITES[name].act(SUITES[name].few, folder)
    assert good == tries == SUITES[name].few


@pytest.mark.deep
@pytest.mark.parametrize("name", SUITES)
def test_nothing_is_lost_in_many_tries(name: str, folder: Path) -> None:
    good, tries = SUITES[name].act(SUITES[name].many, folder)
    figures.record(name, good, tries, order=list(SUITES))
    assert good == tries >= SUITES[name].many


def test_the_figures_in_readme_are_those_on_record() -> None:
    found = figures.on_record()
    assert found.keys() == SUITES.keys()
    assert section(RELIABILITY, "reliability") == figures.table(found)
