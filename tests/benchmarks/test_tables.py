"""What stands in READMEs and in media/ is what was measured."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from src.utils.files import read_json
from tests.benchmarks import accuracy, mutation, readme, scale, small_data, speed
from tests.benchmarks.pictures import accuracy_picture, pretraining_picture

RUNS: list[dict[str, Any]] = [
    {"name": name, "seed": seed, "accuracy": accuracy, "seconds": 60.0 + seed, "parameters": 1234, "command": "`x`"}
    for name, accuracies in {"one": [0.81, 0.83, 0.85], "other": [0.9]}.items()
    for seed, accuracy in enumerate(accuracies)
]
CURVE: list[dict[str, float]] = [
    *({"step": step, "train/loss": 7 - step / 1000} for step in range(50, 2001, 50)),
    *({"step": step, "validation/loss": 6.5 - step / 1000, "validation/unigram_loss": 6.7} for step in (1000, 2000)),
]


@pytest.mark.parametrize(
    ("page", "name", "table"),
    [
        (readme.BENCHMARKS, "accuracy", lambda: accuracy.tables(accuracy.recorded())),
        (readme.FRONT_PAGE, "results", lambda: accuracy.front_page(accuracy.recorded())),
        (readme.BENCHMARKS, "speed", lambda: speed.summary(read_json(speed.RESULTS))),
        (readme.FRONT_PAGE, "speed", lambda: speed.front_page(read_json(speed.RESULTS))),
        (readme.BENCHMARKS, "small data", lambda: small_data.table(small_data.records())),
        (readme.BENCHMARKS, "scale", lambda: scale.table(read_json(scale.RESULTS))),
        (readme.TESTS, "mutation", lambda: mutation.table(read_json(mutation.RESULTS))),
    ],
)
def test_a_table_is_made_from_the_record(page: Path, name: str, table: Callable[[], str]) -> None:
    assert readme.section(page, name) == table()


def test_a_section_replaces_the_one_before_and_nothing_else() -> None:
    page = "a\n<!-- speed -->\nold\n<!-- /speed -->\nb\n<!-- scale -->\nkept\n<!-- /scale -->"
    assert readme.with_section(page, "speed", "new\n") == page.replace("old", "new")


def test_a_line_holds_mean_and_standard_deviation_of_a_recipes_runs() -> None:
    lines = accuracy.table(RUNS, "what | accuracy").splitlines()
    assert lines[2] == f"| one | 83.0 ± {statistics.stdev([81, 83, 85]):.1f} % | 0, 1, 2 | 61 s | 1,234 | `x` |"
    assert lines[3] == "| other | 90.0 % | 0 | 60 s | 1,234 | `x` |"


def test_pictures_are_drawn(tmp_path: Path) -> None:
    accuracy_picture(tmp_path / "accuracy.png", {"what | accuracy": RUNS})
    pretraining_picture(tmp_path / "curve.png", {"one": CURVE, "other": CURVE[::2]})
    assert all(imread(path).std() > 0.05 for path in tmp_path.iterdir())


def test_mutation_verdicts_count_every_end_of_the_tests() -> None:
    codes = {"a": 1, "b": 0, "c": 33, "d": 3, "e": -24, "f": None, "g": 5, "h": 34}
    assert mutation.verdicts(codes) == {"mutants": 6, "killed": 3, "alive": ["b", "c", "g"]}


def test_every_file_that_is_mutated_is_mirrored_by_tests() -> None:
    files = list(mutation.mutated_files())
    assert len(files) >= 15
    for name in files:
        assert mutation.mirrored(name), name
