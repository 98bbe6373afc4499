"""The file of a run's metrics: one JSON object a line, in the order of the steps."""

import json
import os
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any

from src.utils.folder import replace_text, storage_errors
from src.utils.runs import read_rows


class MetricsFile:
    """Appends to metrics.jsonl, and takes back what a resumed run will do again.

    Args:
        path: of the file, which need not exist.
    """

    def __init__(self, path: Path):
        self.path = path
        self.unwritten = ""  # lines that the disk refused so far

    def append(self, row: Mapping[str, Any]) -> None:
        """Appends one line, behind those that could not be written before.

        Raises:
            StorageError: the disk refused; the line is kept for the next time.
        """
        # JSON knows no NaN or infinity, which a diverging run reports.
        finite = {name: None if value in (inf, -inf) or value != value else value for name, value in row.items()}
        self.unwritten += json.dumps(finite, allow_nan=False) + "\n"
        with storage_errors(self.path):
            end = self.path.stat().st_size if self.path.exists() else 0
            try:
                with self.path.open("a", encoding="utf-8") as stream:
                    stream.write(self.unwritten)
            except OSError:
                if self.path.is_file():
                    os.truncate(self.path, end)  # half a line would spoil the next one
                raise
        self.unwritten = ""

    def forget_after(self, step: int, without_evaluation: bool) -> None:
        """Drops what was logged after a checkpoint, and half a line of a crash.

        Args:
            step: of the checkpoint.
            without_evaluation: whether it was saved before the evaluation of that step, which is then done again.

        Raises:
            StorageError: the disk refused; the file is as it was.
        """
        rows = read_rows(self.path)[0] if self.path.exists() else []
        kept = [json.dumps(row) for row in rows if _is_before(row, step, without_evaluation)]
        replace_text(self.path, "".join(f"{line}\n" for line in kept))


def _is_before(row: Mapping[str, Any], step: int, without_evaluation: bool) -> bool:
    is_evaluation = any(name.startswith("validation/") for name in row)
    at: int = row["step"]
    return at < step or (at == step and not (is_evaluation and without_evaluation))
