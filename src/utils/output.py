"""Where results go: standard output, or a file that is whole or not there."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from src.utils.errors import StorageError


@contextmanager
def results(option: str, path: Path | None) -> Iterator[TextIO]:
    """Opens a stream for results.

    Args:
        option: the one that names the file, for messages.
        path: the file, written beside its place and renamed at the end; None: standard output.

    Yields:
        The stream.

    Raises:
        StorageError: the file cannot be written.
    """
    if path is None:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a console may lack a text's characters
        yield sys.stdout
        return
    # Beside it and renamed at the end: what goes wrong on the way leaves an old file as it was.
    unfinished = path.with_name(f".{path.name}.unfinished")
    with writing(option, path):
        stream = unfinished.open("w", encoding="utf-8")
    try:
        with writing(option, path):
            with stream:
                yield stream
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def writing(option: str, path: Path) -> Iterator[None]:
    """Turns what goes wrong while the file that an option names is written into a `StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, BrokenPipeError):  # of a network, or of standard output
            raise
        raise StorageError(f"cannot write {option} {path} ({error.strerror or error}); choose another") from error
