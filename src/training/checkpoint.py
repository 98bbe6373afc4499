"""The folder of a run: its model, its metrics, and checkpoints from which a killed run ends with the same bits."""

import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from src.utils.config import PretrainConfig, TrainConfig
from src.utils.distributed import all_gather_object, is_main_process, rank, world_size
from src.utils.errors import CheckpointError, UsageError, notice
from src.utils.folder import (
    CARD,
    LOCK,
    REPLACED,
    discard,
    discard_unfinished,
    new_folder,
    read_json,
    refreshed_folder,
    replace_json,
    replace_text,
    storage_errors,
    verify,
    write_json,
)
from src.utils.runs import CHECKPOINTS, METRICS, RUN, read_rows

if TYPE_CHECKING:
    from src.training.tasks import Task
    from src.training.trainer import Trainer

TENSORS, PROGRESS = "training_state.safetensors", "training_state.json"
EVALUATION = "evaluation-validation.json"
CHECKPOINT = re.compile(rf"step-\d+({re.escape(REPLACED)})?")
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass
class Progress:
    """Where a training stands."""

    step: int = 0  # optimizer steps done
    epoch: int = 0  # epochs ended
    step_in_epoch: int = 0  # optimizer steps done in the epoch under way
    skipped_in_a_row: int = 0  # steps whose loss or gradient was not finite
    num_parts: int = 1  # of each batch; doubled whenever memory runs out
    best_accuracy: float = -1.0
    best_epoch: int = 0
    training_seconds: float = 0.0  # in optimizer steps and, for a classifier, in making it, its tokenizer and datasets
    tracker_run_id: str | None = None
    # Sums over the steps since training was last logged, and what training_seconds was then.
    logged_loss: float = 0.0
    logged_targets: int = 0
    logged_tokens: int = 0
    logged_until: float = 0.0


def save_state(folder: Path, trainer: "Trainer", random_states: Mapping[str, Tensor]) -> None:
    """Writes what a training needs to resume, as safetensors and JSON: nothing in it can execute.

    The numbers of processes and threads decide over the last bits of a sum, so they are noted as well.
    """
    tensors = dict(random_states)
    for name, parameter in trainer.model.named_parameters():
        tensors[f"model.{name}"] = parameter
        moments = trainer.optimizer.state.get(parameter, {})
        tensors |= {f"optimizer.{kind}.{name}": tensor for kind, tensor in moments.items()}
    if trainer.ema is not None:
        tensors |= {f"ema.{name}": tensor for name, tensor in trainer.ema.module.named_parameters()}
        tensors["ema.n_averaged"] = trainer.ema.n_averaged
    save_file({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, folder / TENSORS)
    write_json(folder / PROGRESS, asdict(trainer.progress) | _computed_by())


def load_state(folder: Path, trainer: "Trainer") -> None:
    """Restores in place what `save_state` wrote.

    Raises:
        CheckpointError: the files are missing, damaged or of another model.
    """
    try:
        tensors = load_file(folder / TENSORS)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{folder / TENSORS} cannot be read ({error}); resume from an older one") from None
    parameters = dict(trainer.model.named_parameters())
    if {name: value.shape for name, value in parameters.items()} != _shapes(tensors, "model."):
        raise CheckpointError(f"{folder / TENSORS} belongs to another model; resume with that run's settings and data")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"model.{name}"])
            if f"optimizer.step.{name}" in tensors:
                moments = {kind: tensors[f"optimizer.{kind}.{name}"].to(parameter.device) for kind in MOMENTS}
                trainer.optimizer.state[parameter] = moments
        if trainer.ema is not None:
            for name, average in trainer.ema.module.named_parameters():
                # If the checkpoint has no average, one starts from its weights.
                average.copy_(tensors.get(f"ema.{name}", tensors[f"model.{name}"]))
            trainer.ema.n_averaged.copy_(tensors.get("ema.n_averaged", torch.tensor(0)))
    progress = read_json(folder / PROGRESS)
    for kind, now in _computed_by().items():
        if (before := progress.pop(kind, now)) != now:
            notice(f"{kind:<12}{before} began this, {now} go on: just as well, but no longer bit for bit")
    trainer.progress.__dict__.update(progress)
    _set_random_state(tensors, trainer.progress.step)


def _shapes(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, torch.Size]:
    return {name.removeprefix(prefix): value.shape for name, value in tensors.items() if name.startswith(prefix)}


def gather_random_states() -> dict[str, Tensor]:
    """Gives the states of PyTorch's random numbers in every process; every process must call it.

    Returns:
        "random.cpu" and, with CUDA, "random.cuda"; for rank n > 0 the name ends in ".n".
    """
    own = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        own["random.cuda"] = torch.cuda.get_rng_state()
    every = enumerate(all_gather_object(own))
    return {_of_rank(name, number): state for number, states in every for name, state in states.items()}


def _of_rank(name: str, number: int) -> str:
    return name if number == 0 else f"{name}.{number}"


def _computed_by() -> dict[str, int]:
    return {"processes": world_size(), "threads": torch.get_num_threads()}


def _set_random_state(tensors: Mapping[str, Tensor], step: int) -> None:
    cpu, cuda = (tensors.get(_of_rank(name, rank())) for name in ("random.cpu", "random.cuda"))
    if cpu is None:
        torch.manual_seed(torch.initial_seed() + step)  # a process that is new
        return
    torch.set_rng_state(cpu)
    if cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(cuda)


class RunFolder:
    """Reads and writes the folder of one run; of several processes only the main one writes.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path):
        self.path = path

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes from training in the folder, which is made if it does not exist.

        Raises:
            UsageError: another process trains there; all processes of a group raise it.
            StorageError: the disk refused.
        """
        lock, refusal = FileLock(self.path / LOCK, blocking=False), None
        if is_main_process():
            with storage_errors(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                try:
                    lock.acquire()
                except Timeout:
                    refusal = f"another process trains in {self.path}; wait for its end, or stop it"
                except NotImplementedError:
                    pass  # some network file systems lock nothing
        if (refusal := all_gather_object(refusal)[0]) is not None:
            raise UsageError(refusal)
        try:
            yield
        finally:
            if lock.is_locked:
                (self.path / LOCK).unlink(missing_ok=True)
                if not any(self.path.iterdir()):  # nothing has begun
                    self.path.rmdir()
                lock.release()

    def begin(self, config: TrainConfig | PretrainConfig, task: "Task") -> None:
        """Empties the folder and notes in run.json what is about to run.

        Raises:
            StorageError: the disk refused.
        """
        if not is_main_process():
            return
        with storage_errors(self.path):
            # run.json is deleted last: after a crash the folder still counts as a run and may be overwritten.
            for path in sorted(self.path.iterdir(), key=lambda path: path.name == RUN):
                if path.name != LOCK:
                    discard(path)
        with refreshed_folder(self.path) as folder:
            settings = {"task": config.task, "config": asdict(config), "data": task.data, "model": task.describe()}
            write_json(folder / RUN, settings | {"finished": None} | _environment())

    def resume(self, checkpoint: Path, trainer: "Trainer", config: TrainConfig | PretrainConfig) -> None:
        """Restores the state that a checkpoint holds and deletes what was logged and saved after it.

        Args:
            checkpoint: one of this run's.
            trainer: its state is filled in place.
            config: all settings; if they were allowed to change, run.json is told.

        Raises:
            UsageError: the data is not what the run began with.
            CheckpointError: the checkpoint cannot be read or does not fit.
            StorageError: the disk refused.
        """
        self._refuse_other_data(trainer.task.data)
        load_state(checkpoint, trainer)
        if not is_main_process():
            return
        step = trainer.progress.step
        # An epoch's last step is saved before the evaluation, which is then done again.
        rows = read_rows(self.path / METRICS)[0] if (self.path / METRICS).exists() else []
        kept = [row for row in rows if _is_before(row, step, trainer.ends_epoch)]
        replace_text(self.path / METRICS, "".join(json.dumps(row) + "\n" for row in kept))
        for other in self.checkpoints():
            if _step_of(other) > step or (other.name.endswith(REPLACED) and other != checkpoint):
                discard(other)
        for folder in (self.path, self.path / CHECKPOINTS):
            discard_unfinished(folder)
        settings = {"config": asdict(config)} if config.run.allow_config_change else {}
        replace_json(self.path / RUN, self.read_run() | settings | {"finished": None})
        notice(f"resuming    {checkpoint}, step {step:,}")

    def finish(self, training_seconds: float) -> None:
        """Notes in run.json that the run is complete, and how many seconds `Progress` counted."""
        if is_main_process():
            end = {"finished": _now(), "training_seconds": training_seconds}
            replace_json(self.path / RUN, self.read_run() | end)

    def read_run(self) -> dict[str, Any]:
        """Returns the content of run.json."""
        return read_json(self.path / RUN)

    def read_evaluation(self) -> dict[str, Any]:
        """Returns the evaluation of the saved model."""
        return read_json(self.path / EVALUATION)

    def log(self, row: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl.

        Raises:
            StorageError: the disk refused.
        """
        if not is_main_process():
            return
        # JSON knows no NaN or infinity, which a diverging run reports.
        unknown = {name for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)}
        finite = {name: None if name in unknown else value for name, value in row.items()}
        with storage_errors(self.path / METRICS), (self.path / METRICS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(finite, allow_nan=False) + "\n")

    def checkpoints(self) -> list[Path]:
        """Returns the checkpoints, newest first; one that was about to be replaced when the run died comes second."""
        found = (path for path in (self.path / CHECKPOINTS).glob("step-*") if CHECKPOINT.fullmatch(path.name))
        return sorted(found, key=lambda path: (_step_of(path), not path.name.endswith(REPLACED)), reverse=True)

    def newest_checkpoint(self) -> Path | None:
        """Returns the newest checkpoint that is whole; damaged ones are passed over with a notice."""
        for folder in self.checkpoints():
            try:
                verify(folder, has_manifest=True)
                return folder
            except CheckpointError as error:
                notice(f"warning: {error}; trying the checkpoint before it")
        return None

    def save_checkpoint(self, trainer: "Trainer", keep_last: int) -> None:
        """Writes the model and all it takes to resume, then deletes old checkpoints; every process must call it.

        Args:
            trainer: its state is written.
            keep_last: how many checkpoints stay, this one among them.

        Raises:
            StorageError: the disk refused; the checkpoints there are stay.
        """
        random_states = gather_random_states()
        if not is_main_process():
            return
        with new_folder(self.path / CHECKPOINTS / f"step-{trainer.progress.step}") as folder:
            trainer.task.save(folder, trainer.trained_model)
            save_state(folder, trainer, random_states)
        kept = [folder for folder in self.checkpoints() if not folder.name.endswith(REPLACED)][:keep_last]
        for old in self.checkpoints():
            if old not in kept:
                discard(old)

    def save_model(self, task: "Task", model: nn.Module, numbers: Mapping[str, Any]) -> None:
        """Puts a model with its evaluation and model card into the root of the folder.

        Raises:
            StorageError: the disk refused.
        """
        if not is_main_process():
            return
        run = self.read_run()
        with refreshed_folder(self.path) as folder:
            task.save(folder, model)
            (folder / CARD).write_text(task.card(run, numbers), encoding="utf-8")
        # Outside the manifest: evaluating again may replace it.
        replace_json(self.path / EVALUATION, {**numbers, "dataset": run["data"]["name"]})

    def _refuse_other_data(self, data: Mapping[str, Any]) -> None:
        before, now = self.read_run()["data"], json.loads(json.dumps(data))
        facts = {"labels": "label_names", "training size": "train", "validation size": "validation"}
        facts |= {"content": "sha256", "teacher": "teacher"}
        for fact, key in facts.items():
            if key in before and before[key] != now.get(key):  # earlier versions noted no content of classifiers' data
                raise UsageError(
                    f"{self.path} was begun on data with other {fact} ({before[key]}, now {now.get(key)}); "
                    "restore the data"
                )


def _is_before(row: Mapping[str, Any], step: int, without_evaluation: bool) -> bool:
    is_evaluation = any(name.startswith("validation/") for name in row)
    at: int = row["step"]
    return at < step or (at == step and not (is_evaluation and without_evaluation))


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-").removesuffix(REPLACED))


def _environment() -> dict[str, Any]:
    packages = ("torch", "tokenizers", "safetensors")
    return {
        "command": sys.argv,
        "started": _now(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
