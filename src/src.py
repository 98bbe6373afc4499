"""Where `src` is no package: to pip, and to `python src/train.py`, whose path has this folder and not its parent."""

from pathlib import Path
from typing import NoReturn

__path__ = [str(Path(__file__).parent)]  # makes it one


def build_wheel(*_: object) -> NoReturn:
    """Is what `pip install .` calls (PEP 517); installed, `src` would hide other projects' folders of that name."""
    raise SystemExit("this repository is not installed: clone it and, in its root, run python -m src.train")


build_sdist = build_editable = build_wheel
