import json
from math import isnan
from pathlib import Path

import pytest

from src.evaluation.curves import Curve, read_history
from src.utils.config import REPOSITORY
from src.utils.errors import CheckpointError


def test_curves_are_what_was_recorded() -> None:
    path = REPOSITORY / "media" / "bert-imdb.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    history = read_history(path)
    assert (history.rows, history.broken) == (rows, 0)
    curve = history.curve("validation/loss")
    assert curve.steps == [row["step"] for row in rows if "validation/loss" in row] and len(curve.steps) == 20
    assert curve.values == [row["validation/loss"] for row in rows if "validation/loss" in row]
    assert history.curve("nothing") == Curve([], [])


def test_what_is_not_finite_is_a_gap_and_what_is_broken_is_counted(tmp_path: Path) -> None:
    lines = [
        '{"step": 1, "loss": null}',
        '{"step": 2, "loss": 0}',
        '{"step": 3, "loss": "high"}',
        "[]",
        '{"step": "4", "loss": 1}',
        "\xff",
        '{"step": 5,',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines), encoding="latin-1")
    history = read_history(tmp_path / "metrics.jsonl")
    assert history.broken == 4
    curve = history.curve("loss")
    assert curve.steps == [1, 2, 3] and curve.values[1] == 0
    assert isnan(curve.values[0]) and isnan(curve.values[2])
    with pytest.raises(CheckpointError):
        read_history(tmp_path)  # a folder
