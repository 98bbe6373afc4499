"""Files and folders that are complete or absent: written under another name, flushed, renamed, in a manifest."""

import ctypes
import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock
from safetensors import SafetensorError

from src.utils.errors import CheckpointError, StorageError

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
CARD = "README.md"  # the model card, in no manifest: people edit it
UNFINISHED = ".unfinished-"
LOCK = ".lock"  # held by the process that trains in the folder
# In memory, JSON may take thirty times its size. A list of tens of thousands of classes stays below this.
LARGEST_JSON = 3_000_000
# Errors of file systems that cannot flush, and of Windows for folders.
CANNOT_FLUSH = (errno.EINVAL, errno.EPERM, errno.EACCES, errno.ENOTSUP)


@contextmanager
def storage_errors(where: Path) -> Iterator[None]:
    """Turns a full or forbidden disk into a StorageError that names what is being written."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if isinstance(error, BrokenPipeError):  # standard output was closed
            raise
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"cannot write {where} ({reason}); free space, allow it, or choose another path") from error


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Gives a folder to write files into, which then replaces `target` as a whole, with a manifest, or not at all."""
    with storage_errors(target), _temporary_folder(target.parent) as temporary:
        yield temporary
        _write_manifest(temporary)
        if not (target.is_dir() and _exchange(temporary, target)):
            old = _unfinished(target.parent)
            if target.is_dir():
                target.rename(old)
            try:
                temporary.rename(target)
            finally:
                if old.exists() and not target.exists():
                    old.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        flush(target.parent)


def _exchange(folder: Path, other: Path) -> bool:
    """Swaps the names of two folders in one step; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    current, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of the system's headers
    return rename is not None and rename(current, os.fsencode(folder), current, os.fsencode(other), exchange) == 0


@contextmanager
def refreshed_folder(target: Path) -> Iterator[Path]:
    """Gives a folder to write files into, which then replace those of `target` one by one, the manifest last.

    Meanwhile the manifest of `target` allows each file to be the old or the new one.
    """
    with storage_errors(target), _temporary_folder(target) as temporary:
        yield temporary
        _write_manifest(temporary)
        if (target / MANIFEST).exists():
            old, new = read_json(target / MANIFEST), read_json(temporary / MANIFEST)
            allowed = {name: [*_digests(old.get(name, [])), *_digests(new.get(name, []))] for name in old | new}
            write_json(target / MANIFEST, allowed)
        for file in sorted(temporary.iterdir(), key=lambda file: file.name == MANIFEST):
            file.replace(target / file.name)
        flush(target)


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    new = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    for folder in new:
        flush(folder.parent)
    temporary = _unfinished(parent)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unfinished(parent: Path) -> Path:
    return parent / f"{UNFINISHED}{secrets.token_hex(8)}"


def _write_manifest(folder: Path) -> None:
    write_json(folder / MANIFEST, {file.name: _digest(file) for file in sorted(folder.iterdir()) if file.name != CARD})
    for file in folder.iterdir():
        with suppress(PermissionError):  # some file systems have no modes
            shutil.copymode(folder / MANIFEST, file)  # safetensors writes for the owner alone
        flush(file)
    flush(folder)


def _digests(entry: Any) -> list[Any]:
    return entry if isinstance(entry, list) else [entry]


def _digest(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def flush(path: Path) -> None:
    """Waits until a file, or the list of names in a folder, is on the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_FLUSH:
            raise


def discard(path: Path) -> None:
    """Deletes a file, a link or a folder; its name never stands for a part of it."""
    with storage_errors(path), _temporary_folder(path.parent) as temporary:
        path.rename(temporary / path.name)


def discard_unfinished(folder: Path) -> None:
    """Deletes the unfinished files and folders that a killed process left in a folder."""
    with storage_errors(folder):
        for path in folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def new_file(target: Path) -> Iterator[TextIO]:
    """Opens a text file that then replaces `target` as a whole, or not at all; writes to devices and pipes directly."""
    with storage_errors(target):
        if target.exists() and not target.is_file():
            with target.open("w", encoding="utf-8") as stream:
                yield stream
            return
        target = target.resolve()  # a link stays a link
        unfinished = _unfinished(target.parent)
        try:
            with unfinished.open("x", encoding="utf-8", errors="backslashreplace") as stream:
                with suppress(FileNotFoundError, PermissionError):
                    shutil.copymode(target, unfinished)
                yield stream
            flush(unfinished)
            unfinished.replace(target)
            flush(target.parent)
        finally:
            unfinished.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON object as `new_file` does; paths in it become strings."""
    with new_file(path) as stream:
        stream.write(json.dumps(content, indent=2, default=str) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object in which no key occurs twice; CheckpointError if there is none."""
    check_regular_file(path, LARGEST_JSON)
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=without_duplicates)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; is {path.parent} a model folder?") from None
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}); restore it") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds {type(content).__name__}, not a JSON object; restore it")
    return content


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Builds the objects of `json.loads` (`object_pairs_hook`); ValueError if a key occurs twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        repeated, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"key {repeated!r} occurs twice")
    return content


def verify(folder: Path, has_manifest: bool = False) -> None:
    """Compares a folder with its manifest; without `has_manifest` there may be none, as other programs write none."""
    if not has_manifest and not (folder / MANIFEST).exists():
        return
    for name, expected in read_json(folder / MANIFEST).items():
        file = folder / name
        if name != file.name:
            raise CheckpointError(f"{folder / MANIFEST} lists {name!r}, no file of this folder; restore the manifest")
        check_regular_file(file)
        try:
            is_same = _digest(file) in _digests(expected)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file} cannot be read ({error}); restore it or train again") from None
        if not is_same:
            raise CheckpointError(f"{file} is damaged: it differs from {MANIFEST}; restore it or train again")


@contextmanager
def cached_folder(folder: Path) -> Iterator[Path | None]:
    """Gives a folder to fill as `new_folder` does, or None where an undamaged one exists; other processes wait."""
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / LOCK).acquire()
    with lock:
        discard_unfinished(folder.parent)
        if folder.exists() and _is_whole(folder):
            yield None
            return
        with new_folder(folder) as unfinished:
            yield unfinished


def _is_whole(folder: Path) -> bool:
    try:
        verify(folder, has_manifest=True)
        return True
    except CheckpointError as error:
        logger.warning(f"{error}; making it again")
        return False


def check_regular_file(path: Path, max_bytes: int = sys.maxsize) -> None:
    """Refuses a file of a model folder that is a device or pipe, a link out of the folder, or too large."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # opening it raises the error
        return
    if stat.S_ISDIR(found.st_mode):
        return
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{path} is not a regular file; restore it from where the model came")
    folder = path.parent.resolve()
    # The hub's cache links from a snapshot to its blobs.
    homes = [folder, *([folder.parent.parent / "blobs"] if folder.parent.name == "snapshots" else [])]
    if path.is_symlink() and not any(path.resolve().is_relative_to(home) for home in homes):
        raise CheckpointError(f"{path} links to a file outside its folder; put the file itself there")
    if found.st_size > max_bytes:
        raise CheckpointError(f"{path} has {found.st_size:,} bytes, more than the {max_bytes:,} allowed; restore it")


def local_path(name: str) -> Path | None:
    """Returns the existing path that a name stands for, "~" expanded, or None if nothing is there."""
    path = Path(name).expanduser() if name.startswith("~/") else Path(name)
    with suppress(OSError):  # too long for a file name, or in a folder that may not be read
        return path if name and path.exists() else None
    return None


def absolute(path: Path) -> Path:
    """Makes a path absolute without following a link at its end, because its target may have no suffix."""
    return path.parent.resolve() / path.name


def absolute_model_path(name: str | None) -> str | None:
    """Makes the path of a model folder absolute, so that a resumed run finds it from any folder; hub ids stay."""
    return name if name is None or (path := local_path(name)) is None or not path.is_dir() else str(path.resolve())
