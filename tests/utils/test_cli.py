import json
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from src.inference import InferenceConfig
from src.utils.cli import parse, parse_training, run_program, set_up_logging
from src.utils.config import PRESETS, RECIPES, REPOSITORY, PretrainConfig, TrainConfig, with_options
from src.utils.errors import CheckpointError, DataError, DivergedError, Interrupted, StorageError, UsageError, UserError
from tests.programs import PROGRAMS


def training(*arguments: str, default: TrainConfig | None = None, recipe: str | None = None) -> TrainConfig:
    return parse_training(arguments, "python -m src.train", default or TrainConfig(), recipe)


def pretraining(*arguments: str, default: PretrainConfig | None = None) -> PretrainConfig:
    return parse_training(arguments, "python -m src.pretrain", default or PretrainConfig())


def inference(*arguments: str) -> InferenceConfig:
    return parse(InferenceConfig, arguments, "python -m src.inference")


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(RECIPES, "test", {"preset": "small", "hidden_size": 192, "epochs": 9, "batch_size": 5})
    monkeypatch.setitem(RECIPES, "plain", {"hidden_dropout_prob": 0.3})
    return "test"


def test_texts_are_taken_as_they_are() -> None:
    for texts in ((), ("one", "two"), ("",), ("it's -- fine",)):
        assert inference(*texts).texts == inference(*texts, "--json").texts == texts


def test_a_preset_sets_the_shape_and_leaves_the_rest_of_the_default_given() -> None:
    assert training() == TrainConfig() and pretraining() == PretrainConfig()
    mini = {"preset": "mini"} | PRESETS["mini"]
    default = with_options(TrainConfig(), {"epochs": 4, "seed": 8})
    assert training("--preset=mini") == with_options(TrainConfig(), mini) and training(default=default) == default
    assert training("--preset", "mini", default=default) == with_options(default, mini)


def test_an_option_wins_over_a_preset_given_that_over_a_recipe_and_that_over_its_preset(recipe: str) -> None:
    def shape(*arguments: str) -> tuple[Any, ...]:
        config = training("--recipe", recipe, *arguments)
        model, optimization = config.model, config.optimization
        return config.preset, model.num_hidden_layers, model.hidden_size, optimization.epochs, optimization.batch_size

    small, medium = (PRESETS[name]["num_hidden_layers"] for name in ("small", "medium"))
    assert shape() == ("small", small, 192, 9, 5)
    assert shape("--preset", "medium") == ("medium", medium, 192, 9, 5)  # the recipe's other settings stay
    options = ("--hidden-size", "320", "--epochs", "2", "--num-hidden-layers", "3", "--num-attention-heads", "5")
    assert shape(*options) == ("small", 3, 320, 2, 5)


def test_a_recipe_of_the_program_yields_to_one_given(recipe: str) -> None:
    assert training(recipe="test").optimization.epochs == 9
    config = training("--recipe", "plain", recipe="test")
    assert config.recipe == "plain" and config.model.hidden_dropout_prob == 0.3
    assert config.optimization.epochs == TrainConfig().optimization.epochs


def test_a_pretraining_has_presets_and_defaults_too() -> None:
    wide = pretraining("--hidden-size", "320", "--preset", "tiny", "--num-attention-heads", "5")
    assert (wide.model.hidden_size, wide.model.num_hidden_layers, wide.model.num_attention_heads) == (320, 2, 5)
    default = with_options(PretrainConfig(), {"corpus": ("a.txt",), "max_steps": 7, "seed": 8} | PRESETS["nano"])
    assert pretraining("--seed", "9", default=default) == with_options(default, {"seed": 9})


@pytest.mark.parametrize("parsed", [training, pretraining])
def test_an_unknown_preset_or_recipe_is_refused_and_the_known_ones_are_listed(parsed: Any) -> None:
    known = {"--preset": PRESETS} | ({"--recipe": RECIPES} if parsed is training else {})
    for option, names in known.items():
        with pytest.raises(UsageError) as caught:
            parsed(option, "huge")
        assert all(name in str(caught.value) for name in (option, "huge", *names))


@pytest.mark.parametrize(
    ("parsed", "arguments", "named"),
    [
        (training, ("--learning-rat", "3"), "--learning-rate"),
        (inference, ("--checkpont", "x"), "--checkpoint"),
        (pretraining, ("--recipe", "sample"), "--recipe"),  # which a training alone has
        (training, ("--epochs", "many"), "--epochs"),
        (training, ("--epochs",), "--epochs"),
        (training, ("--tokenizer", "bytes"), "--tokenizer"),
        (training, ("--preset",), "--preset"),
    ],
)
def test_a_mistyped_option_or_an_unusable_value_exits_2_and_names_the_right_option(
    parsed: Any, arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(*arguments)
    shown = capsys.readouterr()
    assert caught.value.code == 2
    assert named in re.findall(r"--[\w-]+", shown.err) and shown.out == ""


HELP = """
import contextlib, importlib, io, json, sys

helped = {}
for program in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        try:
            importlib.import_module(program).main(["--help"])
        except SystemExit as ended:
            helped[program] = [ended.code, shown.getvalue(), list(sys.modules)]
print(json.dumps(helped))
"""
HEAVY = {"torch", "numpy", "tokenizers", "datasets", "wandb", "matplotlib", "sklearn", "transformers"}


def test_help_needs_no_library_that_takes_long_to_import() -> None:
    command = [sys.executable, "-c", HELP, *PROGRAMS]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    helped = json.loads(ended.stdout)
    assert helped.keys() == PROGRAMS.keys() and ended.stderr == ""
    for program, (code, shown, modules) in helped.items():
        assert code == 0 and f"python -m {program}" in shown and "--num-threads" in shown
        assert "tyro" in modules and HEAVY.isdisjoint(modules), program


# Ends of a program

CODES = {UsageError: 2, DataError: 3, CheckpointError: 4, DivergedError: 5, StorageError: 6}


def failing(error: BaseException) -> Callable[[list[str]], None]:
    def main(_: list[str]) -> None:
        raise error

    return main


@pytest.fixture
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["program"])


@pytest.mark.usefixtures("no_arguments")
def test_an_error_ends_the_program_with_its_code_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    ends: list[tuple[UserError, int, str]] = [(kind("this"), code, "error: this\n") for kind, code in CODES.items()]
    for number in (signal.SIGINT, signal.SIGTERM):  # what was asked for is no error
        ends.append((Interrupted("stopped", number), 128 + number, "stopped\n"))
    for error, code, shown in ends:
        with pytest.raises(SystemExit) as caught:
            run_program(failing(error))
        assert (caught.value.code, *capsys.readouterr()) == (code, "", shown)


@pytest.mark.usefixtures("no_arguments")
def test_a_mistake_of_the_program_is_not_hidden() -> None:
    before = signal.getsignal(signal.SIGTERM)
    for error in (ZeroDivisionError(), FileNotFoundError(2, "No such file or directory")):
        with pytest.raises(type(error)):
            run_program(failing(error))
    assert signal.getsignal(signal.SIGTERM) is before


PROGRAM = """
import os, signal, sys, time
from src.utils.cli import run_program
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


def test_a_standard_error_that_is_gone_ends_nothing() -> None:
    for closed in ("sys.stderr.close()", "sys.stderr = None", "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)"):
        ended = program(f"{closed}; import logging; logging.getLogger('src').warning('odd'); print('done')")
        assert (ended.returncode, ended.stdout) == (0, "done\n"), closed
