"""Makes this folder the package `src` for `python src/train.py`, which puts the folder, not its parent, on the path."""

from pathlib import Path

__path__ = [str(Path(__file__).parent)]
