import errno
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest.mock import Mock

import pytest

from src.utils import files
from src.utils.errors import CheckpointError, StorageError

Maker = Callable[[Path], AbstractContextManager[Path]]
both = pytest.mark.parametrize("make", [files.new_folder, files.refreshed_folder])


def write(folder: Path, **contents: str) -> None:
    for name, content in contents.items():
        (folder / name).write_text(content)


def contents(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in sorted(folder.iterdir()) if file.name != files.MANIFEST}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    with files.new_folder(tmp_path / "model") as folder:
        write(folder, weights="0123456789", config="{}")
    return tmp_path / "model"


@both
def test_a_folder_appears_whole_with_its_manifest_and_nothing_beside_it(make: Maker, tmp_path: Path) -> None:
    target = tmp_path / "weights" / "run"
    with make(target) as folder:
        write(folder, a="1", b="22")
        (folder / "a").chmod(0o600)
        assert not (target / "a").exists()
    assert contents(target) == {"a": "1", "b": "22"}
    manifest = files.read_json(target / files.MANIFEST)
    assert {name: entry["bytes"] for name, entry in manifest.items()} == {"a": 1, "b": 2}
    assert [path.name for path in target.parent.iterdir()] == ["run"]
    files.verify(target, has_manifest=True)
    # Others may read it.
    assert [path.stat().st_mode & 0o777 for path in (target / "a", target / "b")] == [0o644, 0o644]
    assert target.stat().st_mode & 0o555 == 0o555


def test_a_refreshed_folder_keeps_other_files_and_folders(saved: Path) -> None:
    (saved / "metrics").write_text("epoch 1")
    (saved / "checkpoints").mkdir()
    with files.refreshed_folder(saved) as folder:
        write(folder, weights="new")
    (saved / "checkpoints").rmdir()
    assert contents(saved) == {"weights": "new", "config": "{}", "metrics": "epoch 1"}
    assert set(files.read_json(saved / files.MANIFEST)) == {"weights"}
    files.verify(saved)


@both
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["stop", "full"])
def test_a_failure_inside_leaves_the_old_folder_alone(make: Maker, error: BaseException, saved: Path) -> None:
    before = contents(saved)
    with pytest.raises((StorageError, KeyboardInterrupt)) as caught, make(saved) as folder:
        write(folder, weights="half")
        raise error
    assert isinstance(caught.value, StorageError) == isinstance(error, OSError)
    assert contents(saved) == before and [path.name for path in saved.parent.iterdir()] == ["model"]
    files.verify(saved)


@pytest.mark.parametrize("name", ["file", "file/run"])
@both
def test_a_file_in_the_way_is_a_storage_error_and_stays(make: Maker, name: str, tmp_path: Path) -> None:
    # Not chmod: root, who runs tests in containers, may write everywhere.
    (tmp_path / "file").write_text("precious")
    with pytest.raises(StorageError, match=str(tmp_path / "file")), make(tmp_path / name) as folder:
        write(folder, a="1")
    assert contents(tmp_path) == {"file": "precious"}


def test_a_cached_folder_is_made_once_again_if_damaged_and_what_was_killed_is_deleted(tmp_path: Path) -> None:
    (tmp_path / f"{files.UNFINISHED}0").mkdir()
    made = []
    for damage in (None, None, b"other", None):
        if damage is not None:
            (tmp_path / "made" / "a").write_bytes(damage)
        with files.cached_folder(tmp_path / "made") as folder:
            made.append(folder is not None)
            if folder is not None:
                write(folder, a="1")
    assert made == [True, False, True, False] and contents(tmp_path / "made") == {"a": "1"}
    assert [path.name for path in tmp_path.iterdir() if path.name != files.LOCK] == ["made"]
    with pytest.raises(CheckpointError, match="other"), files.cached_folder(tmp_path / "made"):
        raise CheckpointError("other")


# Verification


def test_only_our_own_folder_needs_a_manifest_and_other_files_are_nobodys_business(saved: Path) -> None:
    (saved / "notes").write_text("mine")
    (saved / files.CARD).write_text("a card, which people edit")
    files.verify(saved, has_manifest=True)
    (saved / files.MANIFEST).unlink()
    files.verify(saved)
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        files.verify(saved, has_manifest=True)


def test_any_flipped_bit_any_other_length_and_a_missing_file_is_found(saved: Path) -> None:
    good = (saved / "weights").read_bytes()
    number = int.from_bytes(good)
    flipped = [(number ^ 1 << bit).to_bytes(len(good)) for bit in range(8 * len(good))]
    for content in (*flipped, b"", good[:-1], good + b"0"):
        (saved / "weights").write_bytes(content)
        with pytest.raises(CheckpointError, match=str(saved / "weights")):
            files.verify(saved)
    (saved / "weights").unlink()
    with pytest.raises(CheckpointError, match=str(saved / "weights")):
        files.verify(saved)


# One file


@pytest.mark.parametrize(
    "content",
    [b"[1]", b'{"a": 1', b'{"a": "\xff"}', b"[" * 100_000, b'{"b": {"a": 1, "a": 1}}', None],
    ids=["no object", "cut off", "no UTF-8", "too deep", "a key twice", "missing"],
)
def test_what_is_no_json_object_is_refused(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    written = {"path": Path("na\u00efve"), "no UTF-8": os.fsdecode(b"n\xe9"), "nested": {"x": [1, None]}}
    files.write_json(file, written)
    assert files.read_json(file) == written | {"path": "na\u00efve"}
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CheckpointError, match=str(file)) as caught:
        files.read_json(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("midway"), ValueError),
        (OSError(28, "No space left on device"), StorageError),
        (BrokenPipeError(32, "Broken pipe"), BrokenPipeError),  # of standard output: no fault of the file
    ],
)
def test_a_file_appears_whole_or_not_at_all(error: Exception, told: type[Exception], tmp_path: Path) -> None:
    path = tmp_path / "results.txt"
    path.write_text("old")
    with pytest.raises(told), files.new_file(path) as stream:
        stream.write("half")
        raise error
    assert contents(tmp_path) == {"results.txt": "old"}
    with files.new_file(path) as stream:
        stream.write("new")
        assert path.read_text() == "old"
    assert contents(tmp_path) == {"results.txt": "new"}
    for absent in (tmp_path, tmp_path / "absent" / "x"):
        with pytest.raises(StorageError, match=str(absent)), files.new_file(absent):
            pass


def test_a_file_keeps_its_links_and_its_mode_and_replaces_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("old")
    (tmp_path / "results").chmod(0o640)
    (tmp_path / "link").symlink_to("results")
    with files.new_file(tmp_path / "link") as stream:
        stream.write("new")
    assert (tmp_path / "link").readlink() == Path("results") and contents(tmp_path)["results"] == "new"
    assert (tmp_path / "results").stat().st_mode & 0o777 == 0o640
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with files.new_file(tmp_path / "pipe") as stream:
        stream.write("through")
    assert os.read(reader, 10) == b"through" and (tmp_path / "pipe").is_fifo()
    os.close(reader)


def test_new_files_and_folders_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with files.new_folder(tmp_path / "model") as folder:
            write(folder, weights="1")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "model").rglob("*")} == {0}
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("number", "is_refused"), [(errno.EINVAL, False), (errno.EPERM, False), (errno.EIO, True)])
def test_fsync_may_be_missing(number: int, is_refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(number, "refused")))
    with pytest.raises(StorageError) if is_refused else nullcontext():
        files.write_json(tmp_path / "a.json", {})


def test_what_is_discarded_is_never_there_in_part(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (saved.parent / "link").symlink_to(saved)
    files.discard(saved.parent / "link")
    files.verify(saved, has_manifest=True)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            files.discard(saved)
    (left,) = saved.parent.iterdir()
    assert left.name.startswith(files.UNFINISHED)
    (saved.parent / f"{files.UNFINISHED}run.json").write_text("half")
    files.discard_unfinished(saved.parent)
    assert list(saved.parent.iterdir()) == []
    with pytest.raises(StorageError):
        files.discard(saved)


# Regular files


def test_a_file_may_be_as_large_as_the_limit_and_no_larger(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"12345")
    files.check_regular_file(file, 5)
    with pytest.raises(CheckpointError, match=f"{file} .*5 bytes.* 4"):
        files.check_regular_file(file, 4)
    # What is missing, or a folder, is left to whoever opens it.
    files.check_regular_file(tmp_path, 0)
    files.check_regular_file(tmp_path / "gone", 0)


# Names


def test_a_name_that_is_no_path_stays() -> None:
    for name in ("google-bert/bert-base-uncased", "x" * 300, "~nobody-of-this-name/model", "", "a\0b"):
        assert files.local_path(name) is None and files.absolute_model_path(name) == name


def test_a_folder_is_named_by_its_full_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("model", "./model", "model/../model", "~/model"):
        assert files.absolute_model_path(name) == str(tmp_path.resolve() / "model")
    assert (files.absolute_model_path("file"), files.absolute_model_path(None)) == ("file", None)


# Replacing


def test_a_folder_is_replaced_in_one_step_where_the_system_can(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux exchanges folders")
    monkeypatch.setattr(Path, "rename", Mock(side_effect=AssertionError))
    with files.new_folder(saved) as folder:
        write(folder, weights="new")
    assert contents(saved) == {"weights": "new"} and [path.name for path in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_folder_is_valid_while_files_are_replaced(steps: int, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = Path.replace, steps

    def replace(path: Path, target: Path) -> Path:
        nonlocal left
        if target.parent == saved:
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
        return real(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), files.refreshed_folder(saved) as folder:
        write(folder, weights="new", config="{ }")
        patch.setattr(Path, "replace", replace)
    new = {"config": "{ }", "weights": "new"}
    assert contents(saved) == {"config": "{}", "weights": "0123456789"} | dict(list(new.items())[: steps - 1])
    files.verify(saved, has_manifest=True)
    with files.refreshed_folder(saved) as folder:
        write(folder, **new)
    files.verify(saved, has_manifest=True)
    (saved / "config").write_text("{}")  # the old one counts no longer
    with pytest.raises(CheckpointError):
        files.verify(saved)


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = Path.rename, list[Path]()

    def rename(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(path, target)

    before = contents(saved)
    monkeypatch.setattr("src.utils.files._exchange", lambda *_: False)  # as on other systems
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(StorageError), files.new_folder(saved) as folder:
        write(folder, weights="new")
    assert len(calls) == 3 and contents(saved) == before and [path.name for path in saved.parent.iterdir()] == ["model"]
