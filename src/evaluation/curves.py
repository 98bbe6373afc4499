"""What metrics.jsonl holds, as curves over the steps of a training."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

from src.utils.runs import read_rows


@dataclass(frozen=True)
class Curve:
    """Values over optimiser steps; a value that was not finite is NaN."""

    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class History:
    """The rows of metrics.jsonl in order, and how many lines were none."""

    rows: list[dict[str, Any]]
    broken: int

    def curve(self, name: str) -> Curve:
        """Collects the values that were recorded under a name; empty where there are none."""
        rows = [row for row in self.rows if name in row]
        return Curve([row["step"] for row in rows], [_number(row, name) for row in rows])


def read_history(path: Path) -> History:
    """Reads metrics.jsonl, also the half line that a crash left.

    Raises:
        CheckpointError: the file cannot be read.
    """
    return History(*read_rows(path))


def _number(row: Mapping[str, Any], name: str) -> float:
    return float(row[name]) if isinstance(row[name], int | float) else nan
