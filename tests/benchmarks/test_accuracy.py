import json
import statistics
from pathlib import Path
from typing import Any

from matplotlib.image import imread

from tests.benchmarks import accuracy
from tests.benchmarks.accuracy import table
from tests.benchmarks.pictures import accuracy_picture, pretraining_picture
from tests.benchmarks.readme import BENCHMARKS, FRONT_PAGE, section

RUNS: list[dict[str, Any]] = [
    {"name": name, "seed": seed, "accuracy": accuracy, "seconds": 60.0 + seed, "parameters": 1234, "command": "`x`"}
    for name, accuracies in {"one": [0.81, 0.83, 0.85], "other": [0.9]}.items()
    for seed, accuracy in enumerate(accuracies)
]
CURVE: list[dict[str, float]] = [
    *({"step": step, "train/loss": 7 - step / 1000} for step in range(50, 2001, 50)),
    *({"step": step, "validation/loss": 6.5 - step / 1000, "validation/unigram_loss": 6.7} for step in (1000, 2000)),
]


def test_a_line_holds_mean_and_standard_deviation_of_a_recipes_runs() -> None:
    lines = table(RUNS, "what | accuracy").splitlines()
    assert lines[2] == f"| one | 83.0 ± {statistics.stdev([81, 83, 85]):.1f} % | 0, 1, 2 | 61 s | 1,234 | `x` |"
    assert lines[3] == "| other | 90.0 % | 0 | 60 s | 1,234 | `x` |"


def test_pictures_are_drawn_alike_every_time(tmp_path: Path) -> None:
    for name in ("first", "second"):
        accuracy_picture(tmp_path / f"{name}-accuracy.png", {"what | accuracy": RUNS})
        pretraining_picture(tmp_path / f"{name}-curve.png", {"one": CURVE, "other": CURVE[::2]})
    for kind in ("accuracy", "curve"):
        first, second = (tmp_path / f"{name}-{kind}.png" for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
        assert imread(first).std() > 0.05


def test_the_tables_are_made_from_the_runs_on_record() -> None:
    rows = [json.loads(line) for line in accuracy.RESULTS.read_text().splitlines()]
    assert section(BENCHMARKS, "accuracy") == accuracy.tables(rows)
    assert section(FRONT_PAGE, "results") == accuracy.front_page(rows)
