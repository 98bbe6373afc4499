"""Disks that are full: real ones, in memory, which only their process sees."""

import shutil
import subprocess
import sys
from pathlib import Path

from src.training.run_folder import RunFolder
from src.utils.config import REPOSITORY
from tests.reliability.processes import Command

WEIGHTS = "model.safetensors"
APART = ("unshare", "--map-root-user", "--mount")
# $1 the disk's folder, $2 where its content goes when it goes, $3 its size, then the command. It runs twice: on the
# full disk, and once there is room again.
ON_A_FULL_DISK = """
disk=$1 kept=$2 size=$3
shift 3
mount -t tmpfs -o "size=$size" tmpfs "$disk"
cp "$kept"/*.csv "$disk"
"$@" >"$kept/said" 2>&1
echo $? >"$kept/code"
cp -a "$disk/run" "$kept/bad"
mount -o remount,size=64m "$disk"
"$@" >"$kept/resumed" 2>&1
cp -a "$disk/run" "$kept/good"
"""


def can_be_had() -> bool:
    """Tells whether this system lets a process mount a disk of its own."""
    if shutil.which("unshare") is None:
        return False
    probe = [*APART, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, capture_output=True).returncode == 0


def full_disks(tries: int, folder: Path) -> tuple[int, int]:
    """Disks of sizes from nearly nothing to nearly enough."""
    straight = Command("train", folder / "straight")
    straight.finish()
    wanted = (straight.run / WEIGHTS).read_bytes()
    sizes = [60 + 540 * attempt // tries for attempt in range(tries)]
    return sum(_is_survived(folder / str(size), f"{size}k", wanted) for size in sizes), tries


def _is_survived(folder: Path, size: str, wanted: bytes) -> bool:
    """Trains on a disk of its own: its error has its exit code, what was saved is whole, and the model is made up for.

    Args:
        folder: an empty one.
        size: the disk's, e.g. "300k".
        wanted: the model in the end.
    """
    disk, kept = folder / "disk", folder / "kept"
    disk.mkdir(parents=True)
    kept.mkdir()
    here = [part.replace(str(kept), str(disk)) for part in Command("train", kept).arguments]
    program = [sys.executable, "-m", "src.train", *here, "--wandb", "disabled"]
    command = [*APART, "sh", "-c", ON_A_FULL_DISK, "sh", str(disk), str(kept), size, *program]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    run, said = RunFolder(kept / "bad"), (kept / "said").read_text()
    return (
        (kept / "code").read_text() == "6\n"
        and said.splitlines()[-1].startswith("error: ")
        and "Traceback" not in said
        and run.newest_checkpoint() == next(iter(run.checkpoints()), None)
        and not list(run.path.rglob(".unfinished-*"))
        and (kept / "good" / WEIGHTS).read_bytes() == wanted
    )
