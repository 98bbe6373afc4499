"""What `pip install .` calls (PEP 517), which would put packages called `model` and `utils` among all others."""

from typing import NoReturn


def build_wheel(*_: object) -> NoReturn:
    """Refuses; the arguments are folders and settings of pip."""
    raise SystemExit("this repository is not installed: clone it and, in its root, run python -m src.train")


build_sdist = build_editable = build_wheel
