from pathlib import Path

import pytest

from src.utils.errors import StorageError
from src.utils.output import results, writing


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "results.txt"
    path.write_text("old")
    with pytest.raises(ValueError, match="midway"), results("--output", path) as stream:
        stream.write("half")
        raise ValueError("midway")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with results("--output", path) as stream:
        stream.write("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_a_storage_error_that_names_option_and_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent" / "x"):
        with pytest.raises(StorageError, match=f"--html {path}"), results("--html", path):
            pass


def test_a_reader_of_standard_output_that_left_is_no_fault_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), writing("--html", tmp_path / "x"):
        raise BrokenPipeError(32, "Broken pipe")
