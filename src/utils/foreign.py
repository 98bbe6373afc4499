"""Files of unknown origin: what is checked of one before it is opened, and JSON that cannot say two things at once."""

import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any

from src.utils.errors import CheckpointError


def refuse_strange_file(path: Path, most_bytes: int) -> None:
    """Refuses a device, a pipe, a file that lies elsewhere or is larger than such a file ever is.

    What is missing or a folder passes: whoever opens it says so.

    Args:
        path: in a model folder. A link may not lead out of that folder, but for the hub's own cache, whose snapshots
            are links to the blobs beside them.
        most_bytes: limit of its size.

    Raises:
        CheckpointError: it is one of these.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path} cannot be read ({reason}); restore it") from None
    if stat.S_ISDIR(found.st_mode):
        return
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{path} is no ordinary file; restore it from where the model came")
    if path.is_symlink() and not _is_at_home(path):
        raise CheckpointError(f"{path} links to a file outside its folder; put the file itself there")
    if found.st_size > most_bytes:
        raise CheckpointError(
            f"{path} has {found.st_size:,} bytes, and such a file never more than {most_bytes:,}; restore it"
        )


def memory_bytes() -> int:
    """Returns how much memory this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes a JSON object of its pairs, as `object_pairs_hook` of `json.loads`.

    Args:
        pairs: keys and values.

    Returns:
        The object.

    Raises:
        ValueError: a key stands twice, so that readers could disagree about its value.
    """
    content = dict(pairs)
    if len(content) < len(pairs):
        repeated, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"key {repeated!r} stands twice")
    return content


def _is_at_home(link: Path) -> bool:
    folder, target = link.parent.resolve(), link.resolve()
    homes = [folder, *([folder.parent.parent / "blobs"] if folder.parent.name == "snapshots" else [])]
    return any(target.is_relative_to(home) for home in homes)
