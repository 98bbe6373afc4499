import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest

from src.utils.config import REPOSITORY
from src.utils.errors import (
    CheckpointError,
    DataError,
    DivergedError,
    Interrupted,
    StorageError,
    UsageError,
    UserError,
    notice,
    printable,
    run_program,
)

CODES = {UsageError: 2, DataError: 3, CheckpointError: 4, DivergedError: 5, StorageError: 6}


def failing(error: BaseException) -> Callable[[list[str]], None]:
    def main(_: list[str]) -> None:
        raise error

    return main


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["program"])


def test_an_error_ends_the_program_with_its_code_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    errors: list[tuple[UserError, int]] = [(kind("what; do this"), code) for kind, code in CODES.items()]
    signals = ((signal.SIGINT, 130), (signal.SIGTERM, 143))
    errors += [(Interrupted("what; do this", number), code) for number, code in signals]
    for error, code in errors:
        with pytest.raises(SystemExit) as caught:
            run_program(failing(error))
        shown = capsys.readouterr()
        assert (caught.value.code, shown.err, shown.out) == (code, "error: what; do this\n", "")


def test_a_mistake_of_the_program_is_not_hidden() -> None:
    before = signal.getsignal(signal.SIGTERM)
    for error in (ZeroDivisionError(), FileNotFoundError(2, "No such file or directory")):
        with pytest.raises(type(error)):
            run_program(failing(error))
    assert signal.getsignal(signal.SIGTERM) is before


PROGRAM = """
import os, signal, sys, time
from src.utils.errors import *

def main(arguments):
{body}

run_program(main)
"""


def program(body: str, *arguments: str, stdout: int = subprocess.PIPE) -> "subprocess.CompletedProcess[str]":
    code = PROGRAM.format(body=textwrap.indent(body, "    "))
    # Buffered, as users' Python is: what is printed may meet the pipe's end only when the program does.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True)


def test_a_user_sees_one_line_and_with_debug_the_traceback() -> None:
    body = "raise DataError('reviews.csv:3: blank line; remove it')"
    plain, debug = program(body), program(body, "--debug")
    assert (plain.returncode, plain.stdout, plain.stderr) == (3, "", "error: reviews.csv:3: blank line; remove it\n")
    assert debug.returncode != 0 and "Traceback" in debug.stderr and "reviews.csv:3" in debug.stderr


@pytest.mark.parametrize(("name", "code", "said"), [("SIGINT", 130, "interrupted\n"), ("SIGTERM", 143, "")])
def test_a_signal_ends_the_program_with_its_code_and_lets_it_clean_up(name: str, code: int, said: str) -> None:
    ended = program(f"try: os.kill(os.getpid(), signal.{name}); time.sleep(600)\nfinally: print('cleaned')")
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "cleaned\n", said)


@pytest.mark.parametrize("lines", [1, 100_000], ids=["met at the end", "met midway"])
def test_a_reader_that_left_the_pipe_is_no_error_and_a_full_disk_is_a_storage_error_in_one_line(lines: int) -> None:
    reader, pipe = os.pipe()
    os.close(reader)
    outputs = [(pipe, 0, "")]
    if os.path.exists("/dev/full"):  # noqa: PTH110  (a disk that is always full)
        outputs.append((os.open("/dev/full", os.O_WRONLY), 6, r"error: .*No space left on device.*\n"))
    for output, code, said in outputs:
        ended = program(f"for _ in range({lines}): print('a line')", stdout=output)
        os.close(output)
        assert ended.returncode == code and re.fullmatch(said, ended.stderr)


def test_every_character_is_shown_or_escaped_alone_and_among_all() -> None:
    every = [chr(code) for code in range(0x3000)] + ["\ud800", "\udfff", "\ue000", "\U000e0001", "\U0010ffff"]
    assert [printable(c) for c in every] == [
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in every
    ]
    assert printable("".join(every)) == "".join(map(printable, every))


def test_an_error_is_one_line_of_which_the_middle_is_left_out_if_it_is_long(capsys: pytest.CaptureFixture[str]) -> None:
    notice("left unused: a\x1b[2J\nb\ud800\r")  # a notice may have lines, but commands nothing
    assert capsys.readouterr() == ("", "left unused: a\\x1b[2J\nb\\ud800\\r\n")
    message = str(DataError(f"a.csv:2: {'x' * 10_000}; mend the row"))
    assert str(DataError("a.csv: no column \x1b[2J\nx")) == "a.csv: no column \\x1b[2J\\nx"
    assert message.startswith("a.csv:2: xxx") and message.endswith("xxx; mend the row") and len(message) < 1100
    assert str(DataError("x" * 1000)) == "x" * 1000
