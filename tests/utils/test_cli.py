import logging
import os
import re
import signal
import subprocess
import sys
from typing import Any

import pytest

from src.utils.cli import parse_training, run_program, set_up_logging
from src.utils.config import PRESETS, RECIPES, REPOSITORY, PretrainConfig, TrainConfig, with_options
from src.utils.errors import CheckpointError, DataError, DivergedError, Interrupted, StorageError, UsageError, UserError
from tests.programs import PROGRAMS


def training(*arguments: str, default: TrainConfig | None = None, recipe: str | None = None) -> TrainConfig:
    return parse_training(arguments, "python -m src.train", default or TrainConfig(), recipe)


def pretraining(*arguments: str, default: PretrainConfig | None = None) -> PretrainConfig:
    return parse_training(arguments, "python -m src.pretrain", default or PretrainConfig())


@pytest.mark.parametrize(
    ("parsed", "default"),
    [
        (training, with_options(TrainConfig(), {"epochs": 4, "seed": 8})),
        (pretraining, with_options(PretrainConfig(), {"corpus": ("a.txt",), "max_steps": 7} | PRESETS["nano"])),
    ],
)
def test_options_and_presets_change_the_default_given_and_leave_the_rest(parsed: Any, default: Any) -> None:
    assert parsed() == type(default)() and parsed(default=default) == default
    small = {"preset": "small"} | PRESETS["small"]
    assert parsed("--preset=small", default=default) == with_options(default, small)
    assert parsed("--seed", "9", default=default) == with_options(default, {"seed": 9})


def test_options_win_over_presets_and_those_over_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "given", {"preset": "small", "hidden_size": 192, "epochs": 9})
    monkeypatch.setitem(RECIPES, "program's", {"epochs": 7, "batch_size": 5})

    def shape(*arguments: str) -> tuple[Any, ...]:
        config = training(*arguments, recipe="program's")
        assert config.optimization.batch_size == (64 if "--recipe" in arguments else 5)
        return config.preset, config.model.num_hidden_layers, config.model.hidden_size, config.optimization.epochs

    nano, small, medium = (PRESETS[name]["num_hidden_layers"] for name in ("nano", "small", "medium"))
    given = ("--recipe", "given")
    assert shape() == ("nano", nano, PRESETS["nano"]["hidden_size"], 7)
    assert shape(*given) == ("small", small, 192, 9)
    assert shape(*given, "--preset", "medium") == ("medium", medium, 192, 9)  # the recipe's other settings stay
    assert shape(*given, "--hidden-size", "320", "--num-attention-heads", "5") == ("small", small, 320, 9)


@pytest.mark.parametrize("parsed", [training, pretraining])
def test_a_name_that_other_programs_have_for_an_option_is_answered_with_ours(parsed: Any) -> None:
    for theirs, ours in (("--lr=3", "--learning-rate"), ("--bs", "--batch-size"), ("--max_length", "--seq-len")):
        with pytest.raises(UsageError, match=ours):
            parsed(theirs, "3")


HEAVY = {"torch", "numpy", "tokenizers", "datasets", "wandb", "matplotlib", "sklearn", "transformers"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_needs_no_library_that_takes_long_to_import(name: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", name, "--help"]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    imported = set(re.findall(r"\| +(\w+)$", ended.stderr, flags=re.MULTILINE))
    assert f"python -m {name}" in ended.stdout and "--num-threads" in ended.stdout
    assert "tyro" in imported and HEAVY.isdisjoint(imported)


# Ends of a program

CODES = {UsageError: 2, DataError: 3, CheckpointError: 4, DivergedError: 5, StorageError: 6}
ENDS: list[tuple[UserError, int, str]] = [(kind("what; do this"), code, "error: ") for kind, code in CODES.items()]
# What was asked for is no error.
ENDS += [(Interrupted("what; do this", number), 128 + number, "") for number in (signal.SIGINT, signal.SIGTERM)]


def end_with(error: BaseException) -> None:
    def main(_: list[str]) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["program"])
        run_program(main)


def test_an_error_ends_the_program_with_its_code_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for error, code, prefix in ENDS:
        with pytest.raises(SystemExit) as caught:
            end_with(error)
        assert (caught.value.code, *capsys.readouterr()) == (code, "", f"{prefix}what; do this\n")


def test_a_mistake_of_the_program_is_not_hidden() -> None:
    before = signal.getsignal(signal.SIGTERM)
    for error in (ZeroDivisionError(), FileNotFoundError(2, "No such file or directory")):
        with pytest.raises(type(error)):
            end_with(error)
    assert signal.getsignal(signal.SIGTERM) is before


def program(body: str, *arguments: str, stdout: int = subprocess.PIPE) -> "subprocess.CompletedProcess[str]":
    imports = "import logging, os, signal, sys, time; from src.utils.cli import *; from src.utils.errors import *"
    code = f"{imports}; run_program(lambda _: exec({body!r}))"
    # Buffered, as users' Python is: what is printed may meet the pipe's end only when the program does.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True)


KILL = "try: os.kill(os.getpid(), signal.{}); time.sleep(600)\nfinally: print('done')"
WARN = "{}; logging.getLogger('src').warning('odd'); print('done')"


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (KILL.format("SIGINT"), 130, "interrupted\n"),
        (KILL.format("SIGTERM"), 143, ""),
        (WARN.format("sys.stderr.close()"), 0, ""),
        (WARN.format("sys.stderr = None"), 0, ""),
        ("sys.stdout = None; run_program(lambda _: print('lost')); sys.stdout = sys.__stdout__; print('done')", 0, ""),
        (WARN.format("os.dup2(os.open('/dev/full', os.O_WRONLY), 2)"), 0, ""),
    ],
)
def test_signals_let_a_program_clean_up_and_a_lost_standard_error_ends_none(body: str, code: int, said: str) -> None:
    ended = program(body)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "done\n", said)


def test_with_debug_an_error_shows_its_traceback() -> None:
    ended = program("raise DataError('reviews.csv:3: blank line; remove it')", "--debug")
    assert ended.returncode != 0 and "Traceback" in ended.stderr and "reviews.csv:3" in ended.stderr


@pytest.mark.parametrize("lines", [1, 100_000], ids=["met at the end", "met midway"])
def test_a_reader_that_left_the_pipe_is_no_error_and_a_full_disk_is_a_storage_error_in_one_line(lines: int) -> None:
    reader, pipe = os.pipe()
    os.close(reader)
    full = os.open("/dev/full", os.O_WRONLY)  # a disk that is always full
    for output, code, said in ((pipe, 0, ""), (full, 6, r"error: .*No space left on device.*\n")):
        ended = program(f"for _ in range({lines}): print('a line')", stdout=output)
        os.close(output)
        assert ended.returncode == code and re.fullmatch(said, ended.stderr)


@pytest.mark.parametrize(("process", "info"), [("0", "left unused: a\\x1b[2J\nb\n"), ("1", "")])
def test_messages_are_escaped_and_those_of_other_processes_than_the_first_are_warnings(
    process: str, info: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", process)
    set_up_logging()
    logger = logging.getLogger("src.utils")
    logger.info("left unused: a\x1b[2J\nb")  # a message may have lines, but commands nothing
    logger.warning("odd")
    prefix = "" if process == "0" else "process 1: "
    assert capsys.readouterr() == ("", f"{info}{prefix}warning: odd\n")
    monkeypatch.undo()
    set_up_logging()
