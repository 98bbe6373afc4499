"""Options as dataclasses: one value by its name, all values as a dictionary, and what is said of a wrong one."""

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from src.utils.errors import UsageError

Config = TypeVar("Config")


def with_options(config: Config, options: dict[str, Any]) -> Config:
    """Replaces fields of a config and of the groups nested in it.

    Args:
        config: a dataclass of options, perhaps with groups of them nested in it.
        options: field name to value; names are unique across groups.

    Returns:
        A new config of the same type, checked again.

    Raises:
        UsageError: a value contradicts another one, or no group has a field of that name.
    """
    remaining = dict(options)
    changed: Config = _replace_nested(config, remaining)
    if remaining:
        raise UsageError(f"there is no setting named {', '.join(remaining)}; see python -m src.train --help")
    return changed


def options_of(config: Any) -> dict[str, Any]:
    """Flattens a config into option name to value, the inverse of `with_options`."""
    options: dict[str, Any] = {}
    for f in fields(config):
        value = getattr(config, f.name)
        options |= options_of(value) if is_dataclass(value) else {f.name: value}
    return options


def changed_options(config: Any) -> dict[str, Any]:
    """Picks, by name, the options that are not the defaults of the config's class."""
    defaults = options_of(type(config)())
    return {name: value for name, value in options_of(config).items() if value != defaults[name]}


def saved_config(default: Config, saved: dict[str, Any]) -> Config:
    """Rebuilds the config of a run from what `dataclasses.asdict` and JSON made of it.

    Args:
        default: a config of the same type, for what is not saved.
        saved: the nested dictionary; paths are strings, tuples are lists.

    Returns:
        The config; settings that are unknown by now are left out, new ones have their default.
    """
    groups = {name: group for name, group in saved.items() if isinstance(group, dict)}
    flat = {name: value for group in (saved, *groups.values()) for name, value in group.items()}
    options = {name: flat[name] for name in options_of(default) if name in flat}
    paths = ("output_dir", "train_file", "validation_file")
    options |= {name: Path(options[name]) for name in paths if options.get(name) is not None}
    return with_options(
        default, {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    )


def _replace_nested(config: Any, remaining: dict[str, Any]) -> Any:
    own = {f.name: remaining.pop(f.name) for f in fields(config) if f.name in remaining}
    groups = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in own}
    nested = {name: _replace_nested(group, remaining) for name, group in groups.items() if is_dataclass(group)}
    return replace(config, **own, **nested)


def require(holds: bool, name: str, value: object, rule: str) -> None:
    """Refuses an option's value by name unless it keeps to the rule.

    Raises:
        UsageError: it does not.
    """
    if not holds:
        raise UsageError(f"{name} = {value} {rule}")
