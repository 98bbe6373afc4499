"""The folder of a run: found, refused or made new; its checkpoints; its metrics; the model it delivers."""

import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from src.evaluation.metrics import Evaluation
from src.interop.huggingface import Classifier, save_classifier
from src.interop.model_card import model_card
from src.training.state import TrainingState
from src.utils.config import SAMPLE, WEIGHTS_DIR, RunConfig, TrainConfig, options_of
from src.utils.errors import CheckpointError, UsageError, notice
from src.utils.folder import new_folder, read_json, refreshed_folder, verify, write_json
from src.utils.runs import RUN, newest_unfinished_run

METRICS, CHECKPOINTS, EVALUATION = "metrics.jsonl", "checkpoints", "evaluation-validation.json"
CHECKPOINTS_KEPT = 2

# A resumed run may change these: where it runs and what it reports, not what it computes.
FREE_TO_CHANGE = {
    "output_dir", "overwrite", "resume", "save_every", "device", "num_threads", "wandb", "wandb_project", "debug"
}  # fmt: skip


class RunFolder:
    """Reads and writes the folder of one run.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path):
        self.path = path

    def begin(self, config: TrainConfig, data: Mapping[str, Any], parameters: int) -> None:
        """Makes the folder anew and notes in run.json what is about to run.

        Args:
            config: all settings.
            data: name, origins, sizes and label names of the data.
            parameters: of the model.
        """
        shutil.rmtree(self.path, ignore_errors=True)
        with refreshed_folder(self.path) as folder:
            settings = {"config": asdict(config), "data": dict(data), "parameters": parameters, "finished": None}
            write_json(folder / RUN, settings | _circumstances())

    def resume(self, checkpoint: Path, state: TrainingState) -> None:
        """Restores the state that a checkpoint holds and forgets what was logged after it."""
        state.load(checkpoint)
        path = self.path / METRICS
        rows = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [row for row in rows if json.loads(row)["step"] <= state.progress.step]
        path.write_text("".join(f"{row}\n" for row in kept), encoding="utf-8")
        notice(f"resuming    {checkpoint}, step {state.progress.step:,}")

    def finish(self) -> None:
        """Notes in run.json that the run is complete."""
        write_json(self.path / RUN, self.read_run() | {"finished": _now()})

    def read_run(self) -> dict[str, Any]:
        """Returns the content of run.json."""
        return read_json(self.path / RUN)

    def read_evaluation(self) -> dict[str, Any]:
        """Returns the evaluation of the delivered model."""
        return read_json(self.path / EVALUATION)

    def log(self, row: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl."""
        with (self.path / METRICS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    def checkpoints(self) -> list[Path]:
        """Returns the checkpoints, newest first."""
        found = (self.path / CHECKPOINTS).glob("step-*")
        return sorted(found, key=lambda folder: int(folder.name.removeprefix("step-")), reverse=True)

    def newest_checkpoint(self) -> Path | None:
        """Returns the newest checkpoint that is whole; damaged ones are passed over with a notice."""
        for folder in self.checkpoints():
            try:
                verify(folder)
                return folder
            except CheckpointError as error:
                notice(f"warning: {error}; trying the checkpoint before it")
        return None

    def save_checkpoint(self, classifier: Classifier, state: TrainingState) -> None:
        """Writes the model as it would be delivered and all it takes to go on, then prunes old checkpoints."""
        with new_folder(self.path / CHECKPOINTS / f"step-{state.progress.step}") as folder:
            with state.as_delivered():
                save_classifier(folder, classifier)
            state.save(folder)
        for old in self.checkpoints()[CHECKPOINTS_KEPT:]:
            shutil.rmtree(old)

    def deliver(self, classifier: Classifier, state: TrainingState, evaluation: Evaluation) -> None:
        """Puts the model with its metrics and model card into the root of the folder."""
        run, numbers = self.read_run(), evaluation.as_dict()
        with refreshed_folder(self.path) as folder:
            with state.as_delivered():
                save_classifier(folder, classifier)
            (folder / "README.md").write_text(model_card(run, numbers), encoding="utf-8")
        # Outside the manifest: evaluating again may write it anew.
        write_json(self.path / EVALUATION, numbers | {"dataset": run["data"]["name"]})


def choose(config: TrainConfig, data_name: str) -> tuple[RunFolder, Path | None]:
    """Decides which folder a run uses and where it goes on.

    Args:
        config: its --output-dir, --overwrite and --resume.
        data_name: of the corpus; a new folder's name begins with it.

    Returns:
        The folder, and the checkpoint to go on from (None: begin anew).

    Raises:
        UsageError: the folder is taken.
        CheckpointError: nothing to resume.
    """
    run = config.run
    if run.resume not in ("never", "auto"):
        return _named_checkpoint(Path(run.resume))
    if run.resume == "auto":
        folder = run.output_dir or newest_unfinished_run()
        checkpoint = RunFolder(folder).newest_checkpoint() if folder is not None else None
        if folder is not None and checkpoint is not None:
            return RunFolder(folder), checkpoint
    path = _new_path(run, f"{Path(data_name).stem}-{config.preset}")
    _refuse_sample_over_other_data(path, data_name)
    return RunFolder(path), None


def refuse_changes(saved: TrainConfig, config: TrainConfig) -> None:
    """Refuses to resume a run under settings that would make it another run.

    Raises:
        UsageError: a setting differs; all that do are named.
    """
    before, now = options_of(saved), options_of(config)
    changed = [name for name in now if name not in FREE_TO_CHANGE and before[name] != now[name]]
    if changed:
        differences = ", ".join(f"{name} {before[name]} -> {now[name]}" for name in changed)
        raise UsageError(f"a resumed run keeps its settings, but these changed: {differences}; drop the options")


def _refuse_sample_over_other_data(path: Path, data_name: str) -> None:
    before = read_json(path / RUN)["data"]["name"] if (path / RUN).exists() else data_name
    if data_name == SAMPLE and before != SAMPLE:
        raise UsageError(f"{path} holds a run on {before}, which a run on the sample never overwrites; rename one")


def _new_path(run: RunConfig, stem: str) -> Path:
    if run.output_dir is None:
        return WEIGHTS_DIR / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}-seed{run.seed}"
    if run.output_dir.exists() and not run.overwrite and any(run.output_dir.iterdir()):
        raise UsageError(
            f"{run.output_dir} exists; choose another --output-dir, --resume auto to go on, or --overwrite"
        )
    return run.output_dir


def _named_checkpoint(path: Path) -> tuple[RunFolder, Path]:
    if path.parent.name == CHECKPOINTS:
        verify(path)
        return RunFolder(path.parent.parent), path
    checkpoint = RunFolder(path).newest_checkpoint()
    if checkpoint is None:
        raise CheckpointError(f"{path} holds no checkpoint to resume; name a run's folder or its checkpoints/step-N")
    return RunFolder(path), checkpoint


def _circumstances() -> dict[str, Any]:
    packages = ("torch", "tokenizers", "safetensors", "datasets")
    return {
        "command": sys.argv,
        "started": _now(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
