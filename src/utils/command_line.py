"""Command lines from config dataclasses: `tyro` reads the fields and the sentence under each."""

import argparse
from collections.abc import Sequence
from typing import Any, TypeVar, cast

from src.utils.config import PRESETS, RECIPES, TrainConfig, with_options
from src.utils.errors import UsageError

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
    settings: dict[str, Any] = {}
    if named.recipe is not None:
        settings |= {"recipe": named.recipe} | _look_up(RECIPES, "--recipe", named.recipe)
    preset = named.preset or settings.get("preset")
    if preset is not None:
        settings = _look_up(PRESETS, "--preset", preset) | settings
    return parse(TrainConfig, arguments, program, with_options(default or TrainConfig(), settings))


def _look_up(table: dict[str, dict[str, Any]], option: str, name: str) -> dict[str, Any]:
    if name not in table:
        raise UsageError(f"{option} {name} is unknown; choose one of {', '.join(table)}")
    return table[name]
