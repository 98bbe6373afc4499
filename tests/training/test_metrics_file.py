import json
from pathlib import Path

import pytest

from src.training.metrics_file import MetricsFile
from src.utils.errors import StorageError


@pytest.fixture
def file(tmp_path: Path) -> MetricsFile:
    return MetricsFile(tmp_path / "metrics.jsonl")


def rows(file: MetricsFile) -> list[object]:
    return [json.loads(line) for line in file.path.read_text().splitlines()]


def test_rows_come_in_their_order_and_what_is_not_finite_is_null(file: MetricsFile) -> None:
    file.append({"step": 1, "loss": 0.5})
    file.append({"step": 2, "loss": float("nan"), "norm": float("inf")})
    assert rows(file) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": None, "norm": None}]


def test_half_a_row_that_a_full_disk_took_is_taken_back(file: MetricsFile) -> None:
    resource = pytest.importorskip("resource")
    file.append({"step": 1})
    size, limits = file.path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, limits[1]))
    try:
        with pytest.raises(StorageError):
            file.append({"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert rows(file) == [{"step": 1}]
    file.append({"step": 3})
    assert rows(file) == [{"step": 1}, {"step": 2}, {"step": 3}]


def test_what_was_logged_after_a_checkpoint_is_forgotten(file: MetricsFile) -> None:
    for row in ({"step": 1}, {"step": 2}, {"step": 2, "validation/loss": 0.1}, {"step": 3}):
        file.append(row)
    with file.path.open("a") as stream:
        stream.write('{"step": 4, "tr')
    file.forget_after(2, without_evaluation=False)
    assert rows(file) == [{"step": 1}, {"step": 2}, {"step": 2, "validation/loss": 0.1}]
    file.forget_after(2, without_evaluation=True)
    assert rows(file) == [{"step": 1}, {"step": 2}]


def test_lines_that_are_no_rows_are_forgotten(file: MetricsFile) -> None:
    for line in ("123", '{"loss": 1}', '{"step": "7"}', '{"step": 1', "\xff", "[" * 100_000):
        file.path.write_bytes(b'{"step": 1}\n' + line.encode("latin-1") + b'\n{"step": 9}\n')
        file.forget_after(5, without_evaluation=False)
        assert rows(file) == [{"step": 1}]
