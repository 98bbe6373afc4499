"""The folder of a run: model, metrics, and checkpoints from which a killed run resumes to the same bits."""

import json
import logging
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from src.interop.huggingface import RATES, TEMPERATURE
from src.utils import files
from src.utils.config import REPOSITORY, SAMPLE, WEIGHTS_DIR, PretrainConfig, RunConfig, TrainConfig, options_of
from src.utils.distributed import all_gather_object, barrier, is_main_process, rank, world_size
from src.utils.errors import CheckpointError, UsageError, checkpoint_errors
from src.utils.runs import CHECKPOINTS, METRICS, RUN, newest_unfinished_run, read_rows, whole_run

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from src.training.tasks import Task
    from src.training.trainer import Trainer

TENSORS, PROGRESS = "training_state.safetensors", "training_state.json"
TIME = "%Y-%m-%dT%H:%M:%S%z"
EVALUATION = "evaluation-validation.json"
CALIBRATION = (TEMPERATURE, "calibration_error", "calibration_error_before")  # evaluation numbers in run.json
# "-before-evaluation": saved after an epoch's last step, before that epoch was evaluated.
CHECKPOINT = re.compile(r"step-(\d+)(-before-evaluation)?")
# A resumed run may change these: they do not change what is learned. Another device or number of threads, or --compile,
# changes rounding, so that the result is no longer equal to the bit.
FREE_TO_CHANGE = {
    "output_dir", "overwrite", "resume", "allow_config_change", "save_every", "keep_last", "evaluate_every", "device",
    "num_threads", "wandb", "wandb_project", "wandb_name", "wandb_tags", "debug", "compile",
}  # fmt: skip


@dataclass
class Progress:
    """Where a training stands."""

    step: int = 0  # optimizer steps done
    epoch: int = 0  # epochs ended
    step_in_epoch: int = 0  # optimizer steps done in the epoch under way
    skipped_in_a_row: int = 0  # steps whose loss or gradient was not finite
    num_parts: int = 1  # of each batch; doubled whenever memory runs out
    best: dict[str, float] = field(default_factory=dict)  # numbers of the best epoch's evaluation, by name
    best_epoch: int = 0
    training_seconds: float = 0.0  # in optimizer steps and, for a classifier, in building the task
    wandb_run_id: str | None = None
    # Sums over the steps since training was last logged, and what training_seconds was then.
    logged_loss: float = 0.0
    logged_targets: int = 0
    logged_tokens: int = 0
    logged_until: float = 0.0


def describe(task: "Task") -> dict[str, Any]:
    """Returns the data, the model and the commit of this repository, for run.json and W&B."""
    facts = {"parameters": task.num_parameters, "pretraining": task.pretraining, "seq_len": task.seq_len}
    model = asdict(task.model.config) | facts | {"tokenizer_model": type(task.tokenizer.model).__name__}
    commit = ""
    if (REPOSITORY / ".git").exists() and shutil.which("git"):
        commit = subprocess.run(["git", "-C", REPOSITORY, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    return {"data": task.data, "model": model, "commit": commit.strip() or None}


def save_state(folder: Path, trainer: "Trainer", random_states: Mapping[str, Tensor]) -> None:
    """Writes what training needs to resume, as safetensors and JSON, which cannot run code."""
    tensors = dict(random_states)
    for name, parameter in trainer.model.named_parameters():
        tensors[f"model.{name}"] = parameter
        moments = trainer.optimizer.state.get(parameter, {})
        tensors |= {f"optimizer.{kind}.{name}": tensor for kind, tensor in moments.items()}
    if trainer.ema is not None:
        tensors |= {f"ema.{name}": tensor for name, tensor in trainer.ema.module.named_parameters()}
        tensors["ema.n_averaged"] = trainer.ema.n_averaged
    save_file({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, folder / TENSORS)
    state = asdict(trainer.progress) | {"steps_per_epoch": trainer.steps_per_epoch} | _computed_by()
    files.write_json(folder / PROGRESS, state)


def load_state(folder: Path, trainer: "Trainer") -> None:
    """Restores in place what `save_state` wrote; CheckpointError if it is missing, damaged or of another model."""
    with checkpoint_errors(folder / TENSORS):
        tensors = load_file(folder / TENSORS)

    def saved(name: str, own: Tensor) -> Tensor:
        # The optimizer would read moments of another shape out of bounds.
        found = tensors.get(name)
        if found is None or (found.shape, found.dtype) != (own.shape, own.dtype) or not found.isfinite().all():
            what = f"{folder / TENSORS}: {name} is missing, not finite, or of another model"
            raise CheckpointError(f"{what}; resume with that run's settings and data, or from another checkpoint")
        return found

    has_average = "ema.n_averaged" in tensors  # if not, the average starts from the weights
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            parameter.copy_(saved(f"model.{name}", parameter))
            if f"optimizer.step.{name}" in tensors:
                own = {"step": torch.tensor(0.0), "exp_avg": parameter, "exp_avg_sq": parameter}
                moments = {kind: saved(f"optimizer.{kind}.{name}", like) for kind, like in own.items()}
                trainer.optimizer.state[parameter] = {kind: t.to(parameter.device) for kind, t in moments.items()}
        if trainer.ema is not None:
            for name, average in trainer.ema.module.named_parameters():
                average.copy_(saved(f"ema.{name}" if has_average else f"model.{name}", average))
            if has_average:
                trainer.ema.n_averaged.copy_(saved("ema.n_averaged", trainer.ema.n_averaged))
    progress = _read_progress(folder / PROGRESS, trainer)
    for kind, now in _computed_by().items():
        if (before := progress.pop(kind)) != now:
            logger.info(f"{kind:<12}resumed with {now}, were {before}: the result is no longer equal bit for bit")
    steps_before = progress.pop("steps_per_epoch")
    vars(trainer.progress).update(progress)
    trainer.rescale_epoch(steps_before)
    if f"random.cpu.{rank()}" not in tensors:  # no state was saved for this process
        torch.manual_seed(torch.initial_seed() + trainer.progress.step)
    with checkpoint_errors(folder / TENSORS):
        for kind, module in _random_generators().items():
            if (state := tensors.get(f"random.{kind}.{rank()}")) is not None:
                module.set_rng_state(state)


def _read_progress(path: Path, trainer: "Trainer") -> dict[str, Any]:
    """Reads `Progress` and what else `save_state` wrote there; CheckpointError if a value is impossible."""
    usual = asdict(Progress()) | {"steps_per_epoch": trainer.steps_per_epoch} | _computed_by()
    values = {name: value for name, value in (usual | files.read_json(path)).items() if name in usual}
    with checkpoint_errors(path):
        most = {"step_in_epoch": values["steps_per_epoch"], "best_epoch": values["epoch"]}
        for name, value in values.items():
            if name == "wandb_run_id":
                is_right = isinstance(value, str | None)
            elif name == "best":
                is_right = all(map(math.isfinite, value.values()))
            elif isinstance(usual[name], float):
                is_right = type(value) is float and math.isfinite(value)
            else:
                least = int(name in ("num_parts", "steps_per_epoch"))
                is_right = type(value) is int and least <= value <= most.get(name, 2**53)
            if not is_right:
                raise ValueError(f"{name} {value!r:.40}")
    return values


def _computed_by() -> dict[str, int]:
    """Returns the numbers of processes and threads, which change how sums are rounded."""
    return {"processes": world_size(), "threads": torch.get_num_threads()}


def _random_generators() -> dict[str, Any]:
    accelerators = {"cuda": torch.cuda, "mps": torch.mps}
    return {"cpu": torch} | {kind: module for kind, module in accelerators.items() if module.is_available()}


def gather_random_states() -> dict[str, Tensor]:
    """Returns the states of PyTorch's random number generators in every process; all processes must call it."""
    every = enumerate(all_gather_object({k: module.get_rng_state() for k, module in _random_generators().items()}))
    return {f"random.{kind}.{rank}": state for rank, states in every for kind, state in states.items()}


class RunFolder:
    """The folder of one run, and the checkpoint to resume it from; only the main process writes to it."""

    def __init__(self, path: Path, checkpoint: Path | None = None):
        self.path, self.checkpoint = path, checkpoint

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Locks the folder, and creates it if needed; UsageError if another process trains in it."""
        if not is_main_process():
            barrier()  # until the main process has the lock
            yield
            return
        lock = FileLock(self.path / files.LOCK, blocking=False)
        with files.storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except Timeout:
                raise UsageError(f"another process trains in {self.path}; wait for its end, or stop it") from None
        barrier()
        try:
            yield
        finally:
            (self.path / files.LOCK).unlink(missing_ok=True)
            if not any(self.path.iterdir()):  # nothing was written
                self.path.rmdir()
            lock.release()

    def begin(self, task: "Task") -> None:
        """Empties the folder and writes run.json; a run on the sample never overwrites one on other data."""
        if not is_main_process():
            return
        is_sample = task.data["name"] == SAMPLE
        if is_sample and (self.path / RUN).exists() and files.read_json(self.path / RUN)["data"]["name"] != SAMPLE:
            raise UsageError(f"{self.path} holds a run on other data, which a run on the sample never overwrites")
        with files.storage_errors(self.path):
            # run.json is deleted last: after a crash the folder still counts as a run and may be overwritten.
            for path in sorted(self.path.iterdir(), key=lambda path: path.name == RUN):
                if path.name != files.LOCK:
                    files.discard(path)
        content = {
            "task": task.config.task,
            "config": asdict(task.config),
            **describe(task),
            "command": sys.argv,
            "started": time.strftime(TIME),
            "finished": None,
            "versions": {name: version(name) for name in ("torch", "tokenizers", "safetensors")}
            | {"python": platform.python_version()},
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        }
        with files.refreshed_folder(self.path) as folder:
            files.write_json(folder / RUN, content)

    def resume(self, trainer: "Trainer") -> None:
        """Restores the state of the checkpoint and deletes what was logged and saved after it."""
        assert self.checkpoint is not None
        self._refuse_other_data(trainer.task)
        load_state(self.checkpoint, trainer)
        has_ended = trainer.is_finished or trainer.progress.step >= trainer.total_steps
        if has_ended and trainer.task.config.run.allow_config_change:
            raise UsageError(f"no step is left after {self.checkpoint}; train longer, or drop --allow-config-change")
        if not is_main_process():
            return
        step = trainer.progress.step
        with files.new_file(self.path / METRICS) as stream:
            for row in read_rows(self.path / METRICS)[0]:
                # The evaluation at the end of an epoch comes after the checkpoint.
                comes_after = trainer.ends_epoch and "validation/loss" in row
                if row["step"] < step or (row["step"] == step and not comes_after):
                    stream.write(json.dumps(row) + "\n")
        found = self.checkpoints()
        for later in found[: found.index(self.checkpoint)]:
            files.discard(later)
        for folder in (self.path, self.path / CHECKPOINTS):
            files.discard_unfinished(folder)
        config = trainer.task.config
        changed = {"config": asdict(config)} if config.run.allow_config_change else {}
        files.write_json(self.path / RUN, files.read_json(self.path / RUN) | changed | {"finished": None})
        rest = ": finished, nothing is left to train" if trainer.is_finished else ", the last one" if has_ended else ""
        logger.info(f"resuming    {self.checkpoint}, step {step:,}{rest}")

    def finish(self, training_seconds: float) -> None:
        """Notes in run.json that the run is complete, and how many seconds `Progress` counted."""
        if is_main_process():
            end = {"finished": time.strftime(TIME), "training_seconds": training_seconds}
            files.write_json(self.path / RUN, files.read_json(self.path / RUN) | end)

    def log(self, row: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl."""
        if not is_main_process():
            return
        # JSON has no NaN or infinity, which a diverging run reports.
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        with files.storage_errors(self.path / METRICS), (self.path / METRICS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(finite, allow_nan=False) + "\n")

    def checkpoints(self) -> list[Path]:
        """Returns the checkpoints, newest first."""
        found = ((CHECKPOINT.fullmatch(path.name), path) for path in (self.path / CHECKPOINTS).glob("step-*"))
        steps = [(int(match[1]), match[2] is None, path) for match, path in found if match is not None]
        return [path for *_, path in sorted(steps, reverse=True)]

    def newest_checkpoint(self) -> Path | None:
        """Returns the newest undamaged checkpoint, or None if there are none; CheckpointError if all are damaged."""
        for folder in (found := self.checkpoints()):
            try:
                files.verify(folder, has_manifest=True)
                return folder
            except CheckpointError as error:
                if folder == found[-1]:
                    raise
                logger.warning(f"{error}; trying the checkpoint before it")
        return None

    def save_checkpoint(self, trainer: "Trainer", keep_last: int) -> None:
        """Saves the model and the training state, then deletes old checkpoints; every process must call it."""
        random_states = gather_random_states()
        if not is_main_process():
            return
        name = f"step-{trainer.progress.step}" + ("-before-evaluation" if trainer.ends_epoch else "")
        with files.new_folder(self.path / CHECKPOINTS / name) as folder:
            trainer.task.save(folder, trainer.trained_model)
            save_state(folder, trainer, random_states)
            if (self.path / METRICS).exists():
                files.flush(self.path / METRICS)  # else a crash could keep the checkpoint and lose the rows before it
        found = self.checkpoints()
        kept = [path for path in found if path.name != f"{name}-before-evaluation"][:keep_last]
        for old in found:
            if old not in kept:
                files.discard(old)

    def save_model(self, task: "Task", model: nn.Module, numbers: Mapping[str, Any]) -> None:
        """Saves a model, its evaluation and its model card in the root of the folder."""
        if not is_main_process():
            return
        run = files.read_json(self.path / RUN)
        with files.refreshed_folder(self.path) as folder:
            task.save(folder, model, numbers.get(TEMPERATURE, 1.0))
            (folder / files.CARD).write_text(task.card(run, numbers), encoding="utf-8", errors="backslashreplace")
        # Outside the manifest: evaluating again may replace it.
        files.write_json(self.path / EVALUATION, {**numbers, "dataset": run["data"]["name"]})
        if calibration := {name: numbers[name] for name in CALIBRATION if name in numbers}:
            files.write_json(self.path / RUN, run | calibration)

    def refuse_taken(self, run: RunConfig) -> None:
        """Raises a UsageError if the folder is not empty and the new run may not overwrite it."""
        # A run that died early leaves only its lock and unfinished files.
        if all(file.name == files.LOCK or file.name.startswith(files.UNFINISHED) for file in self.path.iterdir()):
            return
        if not (self.path / RUN).is_file():
            raise UsageError(f"{self.path} exists and holds no run, so it is never deleted; name another --output-dir")
        may_restart = run.resume == "auto" and files.read_json(self.path / RUN).get("finished") is None
        if not (run.overwrite or may_restart):
            raise UsageError(f"{self.path} exists; choose another --output-dir, --resume auto, or --overwrite")

    def _refuse_other_data(self, task: "Task") -> None:
        with whole_run(self.path):
            run = files.read_json(self.path / RUN)
            before = {**run["data"], **run["model"]}
        shape = {name: value for name, value in asdict(task.model.config).items() if name not in RATES}
        now = json.loads(json.dumps(task.data)) | shape
        facts = {"label_names": "labels", "train": "training size", "validation": "validation size"}
        facts |= {name: name for name in ("teacher", "tokenizer", *shape)} | {"sha256": "content"}
        for key, fact in facts.items():
            if key in before and before[key] != now.get(key):  # earlier versions recorded less
                change = f"{before[key]}, now {now.get(key)}"
                raise UsageError(f"{self.path} was started with other data or base model: {fact} {change}; restore it")


@contextmanager
def open_run(config: TrainConfig | PretrainConfig) -> Iterator[RunFolder]:
    """Locks the folder of a new run, or of the run that --resume names, and finds its checkpoint."""
    run, named = config.run, None
    if run.resume in ("never", "auto"):
        newest = newest_unfinished_run(config.task) if run.resume == "auto" and run.output_dir is None else None
        path = run.output_dir or newest or _new_name(config)
    else:
        path = Path(run.resume)
        if CHECKPOINT.fullmatch(path.name) and path.parent.name == CHECKPOINTS:
            named, path = path, path.parent.parent
        if not RunFolder(path).checkpoints():
            raise CheckpointError(f"{path} holds no checkpoint; name a run's folder or its checkpoints/step-N")
        if run.output_dir is not None and run.output_dir.resolve() != path.resolve():
            raise UsageError(f"a resumed run stays in {path}; drop --output-dir {run.output_dir}")
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file; choose another --output-dir")
    folder = RunFolder(path)
    if run.dry_run:
        yield folder
        return
    with folder.lock():
        if named is not None:
            files.verify(named, has_manifest=True)
            folder.checkpoint = named
        elif run.resume != "never":
            folder.checkpoint = folder.newest_checkpoint()
        if folder.checkpoint is None:
            if run.resume == "auto":
                logger.info("resuming    nothing: no unfinished run with a checkpoint was found; starting a new one")
            folder.refuse_taken(run)
        elif (found := files.read_json(path / RUN).get("task")) != config.task:
            raise UsageError(f"{path} is a run of {found}, not of {config.task}; resume it with its own program")
        yield folder


def refuse_changes(saved: TrainConfig | PretrainConfig, config: TrainConfig | PretrainConfig) -> None:
    """Raises a UsageError that names the changed settings of a resumed run, unless --allow-config-change is given."""
    before, now = options_of(saved), options_of(config)
    changed = [name for name in now if name not in FREE_TO_CHANGE and before[name] != now[name]]
    if differences := ", ".join(f"{name} {before[name]} -> {now[name]}" for name in changed):
        if not config.run.allow_config_change:
            advice = "drop the options, or add --allow-config-change"
            raise UsageError(f"a resumed run keeps its settings, but these changed: {differences}; {advice}")
        logger.info(f"changed     {differences}")


def _new_name(config: TrainConfig | PretrainConfig) -> Path:
    model = config.preset if config.model_name_or_path is None else Path(config.model_name_or_path).name
    source = (config.data.dataset or config.data.train_file) if isinstance(config, TrainConfig) else "pretrained"
    name = f"{model}-{time.strftime('%Y%m%d-%H%M%S')}-seed{config.run.seed}"
    name = f"{Path(source).stem}-{name}".replace(":", "-") if source else name
    taken = sum(path.name.startswith(name) for path in WEIGHTS_DIR.glob("*"))
    return WEIGHTS_DIR / (f"{name}-{taken + 1}" if taken else name)
