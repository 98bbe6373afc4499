"""Folders that are whole or not there: written aside, flushed, renamed, and listed in a manifest of SHA-256 sums."""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from src.utils.errors import CheckpointError, StorageError, notice
from src.utils.foreign import refuse_strange_file, without_duplicates

MANIFEST = "manifest.json"
CARD = "README.md"  # the model card, in no manifest: people edit it
UNFINISHED, REPLACED = ".unfinished-", ".replaced"
LOCK = ".lock"  # held by the process that trains in the folder
# As Python objects, JSON may take thirty times its size. A list of tens of thousands of classes stays below this.
LARGEST_JSON = 3_000_000


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Makes a folder that appears at `target` complete, or not at all.

    Args:
        target: must not exist yet, or is replaced as a whole. For a moment in between, its name has `REPLACED` behind
            it, which is where to look for it after a crash.

    Yields:
        A temporary folder beside it to write the files into.

    Raises:
        StorageError: the disk refused; `target` is as it was.
    """
    with _filled(target.parent) as temporary:
        yield temporary
        with storage_errors(target):
            _write_manifest(temporary)
            _put(temporary, target)
            _flush(target.parent)


@contextmanager
def refreshed_folder(target: Path) -> Iterator[Path]:
    """Replaces files in a folder that also holds others, which stay: each by a rename, the manifest last.

    Args:
        target: made if it does not exist.

    Yields:
        A temporary folder inside it to write the files into.

    Raises:
        StorageError: the disk refused.
    """
    with storage_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    with _filled(target) as temporary:
        yield temporary
        with storage_errors(target):
            _write_manifest(temporary)
            for file in sorted(temporary.iterdir(), key=lambda file: file.name == MANIFEST):
                file.replace(target / file.name)
            _flush(target)


def verify(folder: Path, has_manifest: bool = False) -> None:
    """Compares a folder with its manifest, but for the model card.

    Args:
        folder: to look at.
        has_manifest: whether it is our own for certain; a folder without a manifest (another program's) passes
            otherwise.

    Raises:
        CheckpointError: a file is missing, elsewhere, or its content changed.
    """
    if not has_manifest and not (folder / MANIFEST).exists():
        return
    for name, expected in read_json(folder / MANIFEST).items():
        if name == CARD:  # earlier versions listed it
            continue
        if name != Path(name).name:
            raise CheckpointError(f"{folder / MANIFEST} lists {name!r}, no file of this folder; restore the manifest")
        file = folder / name
        refuse_strange_file(file, most_bytes=sys.maxsize)
        if not file.is_file():
            raise CheckpointError(f"{file} is missing though {MANIFEST} lists it; restore the folder or train again")
        try:
            found = _sum(file)
        except OSError as error:
            raise CheckpointError(
                f"{file} cannot be read ({error.strerror}); restore the folder or train again"
            ) from None
        if found != expected:
            raise CheckpointError(f"{file} is damaged: it differs from {MANIFEST}; restore the folder or train again")


def is_whole(folder: Path) -> bool:
    """Tells whether a folder of the cache is there and undamaged; a damaged one is deleted, to be made again."""
    if not folder.exists():
        return False
    try:
        verify(folder, has_manifest=True)
        return True
    except CheckpointError as error:
        notice(f"warning: {error}; making it again")
        shutil.rmtree(folder)
        return False


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        CheckpointError: there is no such file, or it is no JSON object, or a key stands twice.
    """
    refuse_strange_file(path, LARGEST_JSON)
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=without_duplicates)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; is {path.parent} a model folder?") from None
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}); restore it") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds {type(content).__name__}, not a JSON object; restore it")
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON object, indented, in UTF-8; paths become strings."""
    path.write_text(_as_json(content), encoding="utf-8")


def replace_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON object as `write_json`, but as `replace_text`."""
    replace_text(path, _as_json(content))


def replace_text(path: Path, text: str) -> None:
    """Writes a file that is whole at any moment: the old one, or the new one.

    Raises:
        StorageError: the disk refused; the file is as it was.
    """
    unfinished = path.with_name(f"{UNFINISHED}{path.name}")
    with storage_errors(path):
        try:
            unfinished.write_text(text, encoding="utf-8")
            _flush(unfinished)
            unfinished.replace(path)
            _flush(path.parent)
        finally:
            unfinished.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Deletes a folder, of which there is never a part, or a file.

    Raises:
        StorageError: the disk refused.
    """
    with storage_errors(path):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return
        doomed = path.with_name(f"{UNFINISHED}{path.name}")
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        shutil.rmtree(doomed)


def discard_unfinished(folder: Path) -> None:
    """Deletes what a crash left of writing files and folders into this one, and of deleting them.

    Raises:
        StorageError: the disk refused.
    """
    with storage_errors(folder):
        for path in folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def _filled(parent: Path) -> Iterator[Path]:
    with storage_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=parent))
        temporary.chmod(0o755)  # mkdtemp's folders are for their owner alone
    try:
        with storage_errors(parent):
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def storage_errors(where: Path) -> Iterator[None]:
    """Turns a full or forbidden disk inside the context into one error.

    Args:
        where: what is being written.

    Raises:
        StorageError: in place of OSError and of safetensors' own error.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"cannot write {where} ({reason}); free space or permit it") from error


def _write_manifest(folder: Path) -> None:
    files = sorted(file for file in folder.iterdir() if file.name != MANIFEST)
    write_json(folder / MANIFEST, {file.name: _sum(file) for file in files if file.name != CARD})
    for file in [*files, folder / MANIFEST]:
        file.chmod(0o644)  # safetensors writes for the owner alone
        _flush(file)
    _flush(folder)


def _put(folder: Path, target: Path) -> None:
    replaced = target.with_name(f"{target.name}{REPLACED}")
    if target.is_dir():  # else a crash may have left the replaced one alone: it stays until the new one is there
        shutil.rmtree(replaced, ignore_errors=True)
        target.rename(replaced)
    try:
        folder.rename(target)
    except OSError:
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _as_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n"


def _sum(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
