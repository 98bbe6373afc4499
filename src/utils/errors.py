"""Errors that a user can mend: one line with what is wrong, where, and what to do, and an exit code."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

LONGEST_MESSAGE = 1000  # characters


class UserError(Exception):
    """A mistake the user can mend; control characters of its message are escaped, the middle of a long one left out."""

    exit_code = 1

    def __init__(self, message: str):
        half = LONGEST_MESSAGE // 2
        short = message if len(message) <= LONGEST_MESSAGE else f"{message[:half]} ... {message[-half:]}"
        super().__init__(printable(short))


class UsageError(UserError):
    """A wrong option or a configuration that contradicts itself."""

    exit_code = 2


class DataError(UserError):
    """A data source that cannot be reached or a row that cannot be used."""

    exit_code = 3


class CheckpointError(UserError):
    """A model folder that is missing, damaged, foreign or does not fit."""

    exit_code = 4


class DivergedError(UserError):
    """A training run whose loss or gradients stopped being finite."""

    exit_code = 5


class StorageError(UserError):
    """A disk that is full or may not be written to, or a hub that takes no upload."""

    exit_code = 6


class Interrupted(UserError):
    """A run that a signal asked to stop, after it saved its state."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


@contextmanager
def checkpoint_errors(file: Path) -> Iterator[None]:
    """Turns whatever the content of a model's file makes Python or a library raise into a CheckpointError."""
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        # A panic of `tokenizers` is no Exception, and its class cannot be imported.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"{file} cannot be used ({type(error).__name__}: {error}); restore it") from error


def printable(text: str) -> str:
    r"""Writes control, format and unassigned characters and odd spaces as `\n`, `\x1b`; hides an address's password."""
    text = re.sub(r"(?<=://)[^/\s@]+@", "", text)
    if text.isprintable():
        return text
    escapes = {ord(c): c.encode("unicode_escape").decode() for c in set(text) if not c.isprintable()}
    return text.translate(escapes)


def require_packages(what: str, *packages: str) -> None:
    """Raises a UsageError unless optional packages, named as in pip, are installed; `what` needs them."""
    if missing := [name for name in packages if find_spec(name) is None]:
        raise UsageError(f"{what} needs {', '.join(missing)}; pip install {' '.join(missing)}")


def counted(number: int, noun: str) -> str:
    """Writes a number with its noun: 1 layer, 2 layers."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
