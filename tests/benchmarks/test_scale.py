import json

from tests.benchmarks.readme import README
from tests.benchmarks.scale import RESULTS, table

FOUND = {
    "data": {"tiny": {"100": [2.0, 1.0, 1.5], "400": [6.3, 6.0, 7.0]}, "mini": {"100": [3.0, 3.0, 3.0]}},
    "steps": {"first": [9.0, 2.0, 4.0], "second": [3.0, 5.0, 1.0], "last": [1.0, 2.0, 3.0]},
    "file": {"sentences": 2000, "seconds": 4.0, "megabytes": 700.4},
    "processes": {
        "one process of two threads, batches of 8": [10.0, 30.0, 20.0],
        "two of one, batches of 8": [9.0, 15.0, 11.0],
    },
    "machine": "an abacus",
}


def test_growth_and_ratios_are_those_of_medians() -> None:
    assert table(FOUND).splitlines() == [
        "| what | measured |",
        "|---|---|",
        "| tiny, an epoch of 100 phrases | 1.5 s, 1.00 of proportional |",
        "| tiny, an epoch of 400 phrases | 6.3 s, 1.05 (0.79-1.50) of proportional |",
        "| mini, an epoch of 100 phrases | 3.0 s, 1.00 of proportional |",
        "| tiny, first third of an epoch | 4 real tokens/s, 1.00 of the first's |",
        "| tiny, second third of an epoch | 3 real tokens/s, 0.75 (0.25-2.50) of the first's |",
        "| tiny, last third of an epoch | 2 real tokens/s, 0.50 (0.11-1.00) of the first's |",
        "| tiny, a file of 2,000 sentences | 4 s (500 a second), peak memory 700 MB |",
        "| mini, one process of two threads, batches of 8 | 20 real tokens/s, 1.00 of one process's |",
        "| mini, two of one, batches of 8 | 11 real tokens/s, 0.55 (0.50-0.90) of one process's |",
        "",
        "(an abacus; of trainings medians of 5 runs, ranges over them.)",
    ]


def test_readme_has_the_table_that_was_measured() -> None:
    assert table(json.loads(RESULTS.read_text())) in README.read_text()
