from pathlib import Path

import pytest

from src.utils.errors import CheckpointError
from src.utils.foreign import refuse_strange_file


def test_a_file_may_be_as_large_as_the_limit_and_no_larger(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"12345")
    refuse_strange_file(file, 5)
    with pytest.raises(CheckpointError, match=f"{file} .*5 bytes.* 4"):
        refuse_strange_file(file, 4)
    # What is missing, or a folder, is left to whoever opens it.
    refuse_strange_file(tmp_path, 0)
    refuse_strange_file(tmp_path / "gone", 0)


def test_links_may_lead_about_in_their_folder_only(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "a").write_text("x")
    (folder / "in").symlink_to("below/a")
    (folder / "there").symlink_to("../out")
    (folder / "twice").symlink_to("there")
    refuse_strange_file(folder / "in", 9)
    for name in ("there", "twice"):
        with pytest.raises(CheckpointError, match=str(folder / name)):
            refuse_strange_file(folder / name, 9)
    (tmp_path / "door").symlink_to(folder)
    refuse_strange_file(tmp_path / "door" / "in", 9)  # a folder may be reached by a link
