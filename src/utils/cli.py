"""Entry points: options from config dataclasses by `tyro`, and one line and an exit code for every error."""

import argparse
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import UnsupportedOperation
from types import FrameType
from typing import Any, TypeVar, cast

from src.utils.config import CONTINUED_PRETRAINING, PretrainConfig, TrainConfig, resolve, with_options
from src.utils.errors import Interrupted, StorageError, UserError, printable

Config = TypeVar("Config")
logger = logging.getLogger(__name__)
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def parse(config_class: type[Config], arguments: Sequence[str], program: str, default: Config | None = None) -> Config:
    """Parses command-line arguments into a config dataclass.

    Args:
        config_class: its fields are the options, the sentences under them the help.
        arguments: what follows the program's name.
        program: name shown in the usage line, e.g. "python -m src.train".
        default: values of options that are not given; the class's defaults if unset.

    Raises:
        SystemExit: 0 after `--help`, 2 for an unknown option (the nearest one is suggested) or an unusable value.
        UsageError: values that contradict each other.
    """
    import tyro

    markers = (tyro.conf.OmitArgPrefixes, tyro.conf.PositionalRequiredArgs)
    parsed: Any = tyro.cli(config_class, prog=program, args=list(arguments), default=default, config=markers)
    return cast(Config, parsed)


def parse_training(
    arguments: Sequence[str], program: str, recipe: str | None = None, default: TrainConfig | None = None
) -> TrainConfig:
    """Parses the options of a training; an option wins over --recipe (or `recipe`), that over --preset."""
    named = _named(arguments)
    settings = resolve(named.recipe or recipe, named.preset)
    return parse(TrainConfig, arguments, program, with_options(default or TrainConfig(), settings))


def parse_pretraining(arguments: Sequence[str], program: str, default: PretrainConfig | None = None) -> PretrainConfig:
    """Parses the options of a pre-training; an option wins over --preset and over what suits a checkpoint."""
    named = _named(arguments)
    settings = resolve(None, named.preset)
    if named.model_name_or_path is not None and default is None:
        settings |= CONTINUED_PRETRAINING
    return parse(PretrainConfig, arguments, program, with_options(default or PretrainConfig(), settings))


def _named(arguments: Sequence[str]) -> argparse.Namespace:
    ahead = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--preset", "--recipe", "--model-name-or-path"):
        ahead.add_argument(option)
    return ahead.parse_known_args(list(arguments))[0]


class _StandardError(logging.Handler):
    """Shows messages on standard error, escaped; whether anybody still reads them does not matter to a run."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one message."""
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
    package = logging.getLogger("src")
    package.handlers, package.propagate = [_StandardError()], False
    package.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING)


def run_program(main: Callable[[list[str]], None]) -> None:
    """Runs an entry point and turns every UserError, signal and full disk into one line and an exit code.

    Args:
        main: takes the command-line arguments without the program's name.
    """
    set_up_logging()
    arguments = sys.argv[1:]
    before = signal.signal(signal.SIGTERM, _exit)
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
        where = f" {error.filename}" if error.filename else ""
        logger.error(f"cannot write{where} ({error.strerror}); free space")
        sys.exit(StorageError.exit_code)
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # an exception, so that unfinished files are deleted


def _drop_standard_output() -> None:
    # Python would complain once more when it flushes standard output at its end.
    with suppress(UnsupportedOperation):  # in memory, so nobody flushes it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
