"""Where a run starts: in a new folder, which must not be taken, or from a checkpoint, under unchanged settings.

Either way the folder is this process's alone from then on.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.training.run_folder import RunFolder
from src.utils.config import SAMPLE, WEIGHTS_DIR, PretrainConfig, RunConfig, TrainConfig
from src.utils.errors import CheckpointError, UsageError, notice
from src.utils.folder import UNFINISHED, read_json, storage_errors, verify
from src.utils.options import options_of
from src.utils.runs import CHECKPOINTS, RUN, newest_unfinished_run, task_of, whole_run

# A resumed run may change these: where it runs and what it reports. On another device or number of threads it goes on
# just as well, but no longer bit for bit.
FREE_TO_CHANGE = {
    "output_dir", "overwrite", "resume", "allow_config_change", "save_every", "keep_last", "evaluate_every", "device",
    "num_threads", "wandb", "wandb_project", "debug",
}  # fmt: skip


def find_checkpoint(run: RunConfig, task: str) -> tuple[RunFolder, Path] | None:
    """Finds where a run goes on.

    Args:
        run: its --resume and --output-dir.
        task: what the program trains; runs of the other program are not its own.

    Returns:
        The folder and its checkpoint to go on from; None: begin anew.

    Raises:
        CheckpointError: the run or checkpoint that --resume names, or all checkpoints of a run, cannot be used.
        UsageError: --output-dir names another folder than --resume.
    """
    if run.resume == "never":
        return None
    if run.resume != "auto":
        found = _named_checkpoint(Path(run.resume), task)
        if run.output_dir is not None and run.output_dir.resolve() != found[0].path.resolve():
            raise UsageError(f"a resumed run stays in {found[0].path}; drop --output-dir {run.output_dir}")
        return found
    folder = run.output_dir or newest_unfinished_run(task)
    if folder is None or not RunFolder(folder).checkpoints():
        notice("resuming    nothing: there is no unfinished run with a checkpoint; this run begins anew")
        return None
    return _named_checkpoint(folder, task)


def new_run(run: RunConfig, model: str, data_name: str) -> RunFolder:
    """Decides which folder a new run uses; nothing is written yet.

    Args:
        run: its --output-dir, --overwrite and --resume.
        model: a word for what is trained; a new folder's name ends with it.
        data_name: what a new folder's name begins with: the corpus, or "pretrained".

    Returns:
        The folder.

    Raises:
        UsageError: the folder is taken.
    """
    if run.output_dir is None:
        name = f"{Path(data_name).stem}-{model}-{time.strftime('%Y%m%d-%H%M%S')}-seed{run.seed}"
        taken = sum(path.name.startswith(name) for path in WEIGHTS_DIR.glob("*"))
        return RunFolder(WEIGHTS_DIR / (f"{name}-{taken + 1}" if taken else name))
    _refuse_taken(run, run.output_dir)
    _refuse_sample_over_other_data(run.output_dir, data_name)
    return RunFolder(run.output_dir)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps a folder for this process while the context lasts; of one that was killed nothing stays held.

    Args:
        folder: made if it does not exist.

    Raises:
        UsageError: another process holds it.
        StorageError: the disk refused.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(f"another process trains in {folder}; wait for its end, or stop it") from None
    except OSError:
        pass  # some network file systems lock no folders
    try:
        yield
    finally:
        os.close(descriptor)


def look_again(config: TrainConfig | PretrainConfig, folder: RunFolder, checkpoint: Path | None) -> None:
    """Makes sure that a folder is as it was found, now that no other process can change it.

    Args:
        config: all settings.
        folder: what `find_checkpoint` or `new_run` found; held by this process.
        checkpoint: to go on from; None: begin anew.

    Raises:
        UsageError: the folder was free and is taken by now, or its run has gone on.
    """
    if checkpoint is None:
        _refuse_taken(config.run, folder.path)
        gone_on = bool(folder.checkpoints()) and not config.run.overwrite
    elif Path(config.run.resume).name == checkpoint.name:  # named by the user, be it the newest or not
        gone_on = not checkpoint.exists()
    else:
        gone_on = folder.newest_checkpoint() != checkpoint
    if gone_on:
        raise UsageError(f"another process has just trained in {folder.path}; start again to go on from where it is")


def refuse_changes(saved: TrainConfig | PretrainConfig, config: TrainConfig | PretrainConfig) -> None:
    """Refuses to resume a run under settings that would make it another run, unless that is what is wanted.

    Raises:
        UsageError: a setting differs; all that do are named.
    """
    before, now = options_of(saved), options_of(config)
    changed = [name for name in now if name not in FREE_TO_CHANGE and before[name] != now[name]]
    if not changed:
        return
    differences = ", ".join(f"{name} {before[name]} -> {now[name]}" for name in changed)
    if not config.run.allow_config_change:
        raise UsageError(
            f"a resumed run keeps its settings, but these changed: {differences}; drop the options, or add "
            "--allow-config-change"
        )
    notice(f"changed     {differences}")


def _refuse_sample_over_other_data(path: Path, data_name: str) -> None:
    if data_name != SAMPLE or not (path / RUN).exists():
        return
    with whole_run(path):
        before = read_json(path / RUN)["data"]["name"]
    if before != SAMPLE:
        raise UsageError(f"{path} holds a run on {before}, which a run on the sample never overwrites; rename one")


def _refuse_taken(run: RunConfig, path: Path) -> None:
    # A run that died before it had written anything left at most something unfinished.
    if not path.exists() or (path.is_dir() and all(file.name.startswith(UNFINISHED) for file in path.iterdir())):
        return
    if not (path / RUN).is_file():
        raise UsageError(f"{path} exists and holds no run, so it is never deleted; choose another --output-dir")
    ended_before_its_first_checkpoint = run.resume == "auto" and read_json(path / RUN).get("finished") is None
    if not run.overwrite and not ended_before_its_first_checkpoint:
        raise UsageError(f"{path} exists; choose another --output-dir, --resume auto to go on, or --overwrite")


def _named_checkpoint(path: Path, task: str) -> tuple[RunFolder, Path]:
    folder, checkpoint = _checkpoint(path)
    if (found := task_of(folder.read_run())) != task:
        raise UsageError(f"{folder.path} is a run of {found}, not of {task}; resume it with the program that began it")
    return folder, checkpoint


def _checkpoint(path: Path) -> tuple[RunFolder, Path]:
    if path.parent.name == CHECKPOINTS and path.name.startswith("step-"):
        verify(path, has_manifest=True)
        return RunFolder(path.parent.parent), path
    checkpoint = RunFolder(path).newest_checkpoint()
    if checkpoint is None:
        raise CheckpointError(f"{path} holds no checkpoint to resume; name a run's folder or its checkpoints/step-N")
    return RunFolder(path), checkpoint
