"""What a user names: a path on this machine, or something elsewhere such as a hub id."""

from contextlib import suppress
from pathlib import Path


def local_path(name: str) -> Path | None:
    """Returns the path that a user's name is, "~" expanded, or None where there is none (a hub id, a mistake)."""
    path = Path(name).expanduser() if name.startswith("~/") else Path(name)
    with suppress(OSError):  # too long for a file name, or behind a door that is closed to us
        return path if name and path.exists() else None
    return None


def settled_model(name: str | None) -> str | None:
    """Names a model folder by its full path, so that a resumed run finds it from any folder; hub ids stay."""
    return name if name is None or (path := local_path(name)) is None or not path.is_dir() else str(path.resolve())
