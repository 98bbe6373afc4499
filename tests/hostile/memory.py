"""How much memory something takes at its height, as the kernel counts it: what libraries take is counted too."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

STATUS, PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Growth:
    bytes: int = 0


@contextmanager
def peak_growth() -> Iterator[Growth]:
    """Measures how far the resident memory rises above what it was at the beginning."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)  # what was freed and kept would hide as much as is taken
    try:
        PEAK.write_text("5")  # forget the peak so far
    except OSError:
        pytest.skip("needs Linux, which tells a process its peak of memory")
    before, growth = _read("VmRSS"), Growth()
    yield growth
    growth.bytes = _read("VmHWM") - before


def _read(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])
