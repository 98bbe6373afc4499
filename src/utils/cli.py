"""Entry points: options from config dataclasses by `tyro`, and one line and an exit code for every error."""

import argparse
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import TextIOWrapper, UnsupportedOperation
from pathlib import Path
from typing import TypeVar, cast

from src.utils.config import PretrainConfig, TrainConfig, resolve, with_options
from src.utils.errors import Interrupted, StorageError, UsageError, UserError, printable

Config = TypeVar("Config")
TrainingConfig = TypeVar("TrainingConfig", TrainConfig, PretrainConfig)
logger = logging.getLogger(__name__)
# Names of options elsewhere, from which tyro guesses nothing or something else.
OTHER_NAMES = {"--lr": "--learning-rate", "--bs": "--batch-size", "--wd": "--weight-decay", "--max-length": "--seq-len"}
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def parse(config_class: type[Config], arguments: Sequence[str], program: str, default: Config | None = None) -> Config:
    """Parses command-line arguments into a config dataclass; exits with 0 after `--help`, with 2 on a wrong option."""
    import tyro

    markers = (tyro.conf.OmitArgPrefixes, tyro.conf.PositionalRequiredArgs)
    return cast(Config, tyro.cli(config_class, prog=program, args=list(arguments), default=default, config=markers))


def parse_training(
    arguments: Sequence[str], program: str, default: TrainingConfig, recipe: str | None = None
) -> TrainingConfig:
    """Parses the options of a training; one wins over --recipe (or `recipe`), --preset and `default`, in this order."""
    for name in OTHER_NAMES.keys() & {argument.partition("=")[0].replace("_", "-") for argument in arguments}:
        raise UsageError(f"there is no option {name}; it is called {OTHER_NAMES[name]} here")
    ahead = argparse.ArgumentParser(prog=program, add_help=False, allow_abbrev=False)
    ahead.add_argument("--preset")
    if isinstance(default, TrainConfig):
        ahead.add_argument("--recipe", default=recipe)
    named = vars(ahead.parse_known_args(list(arguments))[0])
    settings = resolve(named.get("recipe"), named["preset"])
    return parse(type(default), arguments, program, with_options(default, settings))


class _StandardError(logging.Handler):
    """Shows messages on standard error, escaped; whether anybody still reads them does not matter to a run."""

    def emit(self, record: logging.LogRecord) -> None:
        process = os.environ.get("RANK", "0")
        prefix = "" if process == "0" else f"process {process}: "
        prefix += f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        lines = (prefix + record.getMessage()).split("\n")
        try:
            if sys.stderr is not None:
                print("\n".join(map(printable, lines)), file=sys.stderr, flush=True)
        except (OSError, ValueError):  # a full disk, a pipe without a reader, a closed stream
            sys.stderr = None


def set_up_logging() -> None:
    """Shows the messages of this package on standard error; of several processes' only warnings and errors."""
    package = logging.getLogger(__name__.partition(".")[0])
    package.handlers, package.propagate = [_StandardError()], False
    package.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING)


def run_program(main: Callable[[list[str]], None]) -> None:
    """Runs an entry point; turns UserErrors, signals and a full disk into one line and an exit code."""
    set_up_logging()
    if sys.stdout is None:  # closed by the shell
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a console may lack a text's characters
    arguments = sys.argv[1:]
    # As an exception, so that unfinished files are deleted.
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        main(arguments)
        sys.stdout.flush()
    except UserError as error:
        if "--debug" in arguments:
            raise
        logger.log(logging.INFO if isinstance(error, Interrupted) else logging.ERROR, str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        logger.info("interrupted")
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of a pipe (`| head`) left
        _drop_standard_output()
        sys.exit(0)
    except OSError as error:
        if error.errno not in DISK_IS_FULL or "--debug" in arguments:
            raise
        _drop_standard_output()
        logger.error(f"cannot write {error.filename or 'standard output'} ({error.strerror}); free space")
        sys.exit(StorageError.exit_code)
    finally:
        signal.signal(signal.SIGTERM, before)


def _drop_standard_output() -> None:
    # Python would complain once more when it flushes standard output at its end.
    with suppress(UnsupportedOperation):  # in memory, so nobody flushes it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
