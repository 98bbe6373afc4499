"""Where a run starts: in a new folder, which must not be taken, or from a checkpoint, under unchanged settings."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.training.checkpoint import RunFolder
from src.utils.config import SAMPLE, WEIGHTS_DIR, PretrainConfig, RunConfig, TrainConfig
from src.utils.errors import CheckpointError, UsageError, notice
from src.utils.folder import LOCK, UNFINISHED, read_json, verify
from src.utils.options import options_of
from src.utils.runs import CHECKPOINTS, RUN, newest_unfinished_run, task_of, whole_run

# A resumed run may change these: where it runs and what it reports. On another device or number of threads it goes on
# just as well, but no longer bit for bit.
FREE_TO_CHANGE = {
    "output_dir", "overwrite", "resume", "allow_config_change", "save_every", "keep_last", "evaluate_every", "device",
    "num_threads", "wandb", "wandb_project", "debug", "compile",
}  # fmt: skip


@contextmanager
def checkpoint_to_resume(run: RunConfig, task: str) -> Iterator[tuple[RunFolder, Path] | None]:
    """Finds the checkpoint that --resume asks for, and locks its run's folder.

    Args:
        run: its --resume and --output-dir.
        task: what the program trains; runs of the other program are not its own.

    Yields:
        The folder and the checkpoint; None: a new run.

    Raises:
        CheckpointError: the run or checkpoint that --resume names, or every checkpoint of a run, cannot be used.
        UsageError: --output-dir names another folder than --resume, or another process trains there.
    """
    folder = _folder_to_resume(run, task)
    if folder is None:
        yield None
        return
    with folder.lock():
        checkpoint = _named(Path(run.resume)) or folder.newest_checkpoint()
        if checkpoint is None:
            raise CheckpointError(f"{folder.path} holds no checkpoint to resume; name a run's folder or a checkpoint")
        if (found := task_of(folder.read_run())) != task:
            raise UsageError(f"{folder.path} is a run of {found}, not of {task}; resume it with its own program")
        yield folder, checkpoint


def _folder_to_resume(run: RunConfig, task: str) -> RunFolder | None:
    if run.resume == "never":
        return None
    if run.resume == "auto":
        path = run.output_dir or newest_unfinished_run(task)
        if path is None or not RunFolder(path).checkpoints():
            notice("resuming    nothing: there is no unfinished run with a checkpoint; a new run begins")
            return None
        return RunFolder(path)
    path = Path(run.resume)
    folder = RunFolder(path if _named(path) is None else path.parent.parent)
    if not folder.path.is_dir() or not folder.checkpoints():
        raise CheckpointError(f"{path} holds no checkpoint to resume; name a run's folder or its checkpoints/step-N")
    if run.output_dir is not None and run.output_dir.resolve() != folder.path.resolve():
        raise UsageError(f"a resumed run stays in {folder.path}; drop --output-dir {run.output_dir}")
    return folder


def _named(path: Path) -> Path | None:
    """Returns a path if it names one checkpoint, which must be whole."""
    if path.parent.name != CHECKPOINTS or not path.name.startswith("step-"):
        return None
    verify(path, has_manifest=True)
    return path


@contextmanager
def new_run(run: RunConfig, model: str, data_name: str) -> Iterator[RunFolder]:
    """Chooses the folder of a new run and locks it.

    Args:
        run: its --output-dir, --overwrite and --resume.
        model: a word for what is trained; a new folder's name ends with it.
        data_name: what a new folder's name begins with: the corpus, or "pretrained".

    Yields:
        The folder; what it holds may be deleted.

    Raises:
        UsageError: the folder is taken.
    """
    path = run.output_dir
    if path is None:
        name = f"{Path(data_name).stem}-{model}-{time.strftime('%Y%m%d-%H%M%S')}-seed{run.seed}"
        taken = sum(path.name.startswith(name) for path in WEIGHTS_DIR.glob("*"))
        path = WEIGHTS_DIR / (f"{name}-{taken + 1}" if taken else name)
    _refuse_taken(run, path, data_name)
    folder = RunFolder(path)
    with folder.lock():
        _refuse_taken(run, path, data_name)  # again: another process may have been here just now
        yield folder


def _refuse_taken(run: RunConfig, path: Path, data_name: str) -> None:
    # A run that died before it had written anything left at most something unfinished.
    if not path.exists() or (
        path.is_dir() and all(file.name == LOCK or file.name.startswith(UNFINISHED) for file in path.iterdir())
    ):
        return
    if not (path / RUN).is_file():
        raise UsageError(f"{path} exists and holds no run, so it is never deleted; choose another --output-dir")
    content = read_json(path / RUN)
    if data_name == SAMPLE:
        with whole_run(path):
            before = content["data"]["name"]
        if before != SAMPLE:
            raise UsageError(f"{path} holds a run on {before}, which a run on the sample never overwrites; rename one")
    may_restart = run.resume == "auto" and content.get("finished") is None
    if not run.overwrite and (not may_restart or RunFolder(path).checkpoints()):
        raise UsageError(f"{path} exists; choose another --output-dir, --resume auto to go on, or --overwrite")


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
