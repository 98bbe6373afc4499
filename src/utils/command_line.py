"""Command lines from config dataclasses: `tyro` reads the fields and the sentence under each."""

import argparse
from collections.abc import Sequence
from typing import Any, TypeVar, cast

from src.utils.config import CONTINUED_PRETRAINING, PretrainConfig, TrainConfig, resolve
from src.utils.options import with_options

Config = TypeVar("Config")


def parse(config_class: type[Config], arguments: Sequence[str], program: str, default: Config | None = None) -> Config:
    """Parses command-line arguments into a config.

    Args:
        config_class: dataclass whose fields are the options.
        arguments: what follows the program's name.
        program: name shown in the usage line, e.g. "python -m src.train".
        default: values of options that are not given; the class's defaults if unset.

    Returns:
        The config.

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
    """Parses the options of a training, on top of the preset and the recipe they name.

    Args:
        arguments: what follows the program's name.
        program: name shown in the usage line.
        recipe: recipe to use where the arguments name none.
        default: values of all that is not given, in place of the class's defaults.

    Returns:
        The config; an option given wins over the recipe, the recipe over the preset.

    Raises:
        UsageError: an unknown preset or recipe, or values that contradict each other.
    """
    ahead = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    ahead.add_argument("--preset")
    ahead.add_argument("--recipe", default=recipe)
    named, _ = ahead.parse_known_args(list(arguments))
    settings = resolve(named.recipe, named.preset)
    return parse(TrainConfig, arguments, program, with_options(default or TrainConfig(), settings))


def parse_pretraining(arguments: Sequence[str], program: str, default: PretrainConfig | None = None) -> PretrainConfig:
    """Parses the options of a pre-training, on top of the preset they name, or of what suits the checkpoint they name.

    Args:
        arguments: what follows the program's name.
        program: name shown in the usage line.
        default: values of all that is not given, in place of the class's defaults.

    Returns:
        The config; an option given wins over the preset.

    Raises:
        UsageError: an unknown preset, or values that contradict each other.
    """
    ahead = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    ahead.add_argument("--preset")
    ahead.add_argument("--model-name-or-path")
    named, _ = ahead.parse_known_args(list(arguments))
    settings = resolve(None, named.preset)
    if named.model_name_or_path is not None and default is None:
        settings |= CONTINUED_PRETRAINING
    return parse(PretrainConfig, arguments, program, with_options(default or PretrainConfig(), settings))
