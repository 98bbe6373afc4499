"""Disks that are full, or may not be written to any more: real ones, in memory, which only their process sees."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from src.training.run_folder import RunFolder
from src.utils.config import REPOSITORY
from tests.reliability.processes import PATIENCE, Command, outcome

WEIGHTS = "model.safetensors"
APART = ("unshare", "--map-root-user", "--mount")
# $1 the disk's folder, $2 where its content goes when it goes, $3 its size, $4 a folder that is there when the disk may
# no longer be written to (or nothing), then the command. It runs twice: on the bad disk, and once there is room again.
ON_A_BAD_DISK = """
disk=$1 kept=$2 size=$3 moment=$4
shift 4
mount -t tmpfs -o "size=$size" tmpfs "$disk"
cp "$kept"/*.csv "$disk"
"$@" >"$kept/said" 2>&1 &
if [ -n "$moment" ]; then
    until [ -d "$moment" ]; do sleep 0.002; done
    until mount -o remount,ro "$disk" 2>/dev/null; do :; done
fi
wait $!
echo $? >"$kept/code"
cp -a "$disk/run" "$kept/bad"
mount -o remount,rw,size=64m "$disk"
"$@" >"$kept/resumed" 2>&1
cp -a "$disk/run" "$kept/good"
"""


@dataclass(frozen=True)
class Trouble:
    """How a run went on a bad disk.

    Args:
        code: its exit code.
        said: what it printed.
        bad: the run's folder as it was left.
        good: the folder after the same command ran once more, with room.
    """

    code: int
    said: str
    bad: Path
    good: Path

    @property
    def went_on(self) -> bool:
        """Whether it trained to its end, said so, and ended with the exit code of a disk."""
        lines = self.said.splitlines()
        return (
            self.code == 6
            and any(line.startswith("epoch 2, step 20/20: ") for line in lines)
            and lines[-1].startswith("error: cannot write ")
            and "training went on to its end" in lines[-1]
            and "Traceback" not in self.said
        )

    @property
    def old_is_whole(self) -> bool:
        """Whether the newest checkpoint it has, if any, is whole, and, if it may write, nothing unfinished is left."""
        run = RunFolder(self.bad)
        left = [] if "Read-only" in self.said else list(self.bad.rglob(".unfinished-*"))
        return run.newest_checkpoint() == next(iter(run.checkpoints()), None) and not left

    def is_made_up_for(self, straight: Path) -> bool:
        """Whether what it came to in the end is what a run without trouble comes to."""
        if not RunFolder(self.good).checkpoints():  # none ever fitted, but the model did
            return (self.good / WEIGHTS).read_bytes() == (straight / WEIGHTS).read_bytes()
        return outcome(self.good) == outcome(straight)


def can_be_had() -> bool:
    """Tells whether this system lets a process mount a disk of its own."""
    if shutil.which("unshare") is None:
        return False
    probe = [*APART, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, capture_output=True).returncode == 0


def trouble(folder: Path, size: str, moment: str = "") -> Trouble:
    """Trains on a disk of its own.

    Args:
        folder: an empty one.
        size: the disk's, e.g. "300k".
        moment: the disk can only be read as soon as this folder is in that of the run.
    """
    disk, kept = folder / "disk", folder / "kept"
    disk.mkdir(parents=True)
    kept.mkdir()
    command = Command("train", kept).arguments
    here = [part.replace(str(kept), str(disk)) for part in command]
    places = [str(disk), str(kept), size, str(disk / "run" / moment) if moment else ""]
    program = [sys.executable, "-m", "src.train", *here, "--wandb", "disabled"]
    subprocess.run(
        [*APART, "sh", "-c", ON_A_BAD_DISK, "sh", *places, *program], cwd=REPOSITORY, timeout=PATIENCE, check=True
    )
    return Trouble(int((kept / "code").read_text()), (kept / "said").read_text(), kept / "bad", kept / "good")


def full_disks(tries: int, folder: Path) -> tuple[int, int]:
    """Disks of sizes from nearly nothing to nearly enough."""
    return _survived(folder, [(f"{60 + 540 * attempt // tries}k", "") for attempt in range(tries)])


def read_only_disks(tries: int, folder: Path) -> tuple[int, int]:
    """A disk that can only be read from some moment on."""
    return _survived(folder, [("64m", f"checkpoints/step-{4 + 2 * (attempt % 5)}") for attempt in range(tries)])


def _survived(folder: Path, disks: list[tuple[str, str]]) -> tuple[int, int]:
    straight, good = Command("train", folder / "straight"), 0
    straight.finish()
    for number, (size, moment) in enumerate(disks):
        found = trouble(folder / str(number), size, moment)
        good += found.went_on and found.old_is_whole and found.is_made_up_for(straight.run)
    return good, len(disks)
