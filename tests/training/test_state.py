import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from src.training.loop import StepReport
from src.training.state import PROGRESS, TENSORS, gather_random_states
from src.utils.errors import CheckpointError
from src.utils.folder import read_json, write_json
from tests.training.tiny_training import ALL_RANDOMNESS, ClassifierTrainer, all_tensors, assert_same, setup

OPTIONS: dict[str, Any] = ALL_RANDOMNESS | {"gradient_accumulation_steps": 1}
TOTAL_STEPS = 12


class Stop(Exception):
    pass


def train(trainer: ClassifierTrainer, until: int | None = None) -> dict[str, Tensor]:
    """Trains to the end, or to the end of a step; returns all of the state, random numbers included."""

    def after_step(report: StepReport) -> None:
        if trainer.state.progress.step == until:
            raise Stop

    try:
        while trainer.state.progress.epoch < 2:
            trainer.train_epoch(after_step)
    except Stop:
        pass
    return all_tensors(trainer)


@pytest.fixture(scope="module")
def straight() -> dict[str, Tensor]:
    trainer = setup(**OPTIONS).trainer
    state = train(trainer)
    assert trainer.state.progress.step == TOTAL_STEPS
    return state


def save(trainer: ClassifierTrainer, folder: Path) -> Path:
    folder.mkdir()
    trainer.state.save(folder, gather_random_states())
    return folder


def load(folder: Path, **options: Any) -> ClassifierTrainer:
    trainer = setup(**OPTIONS | options).trainer
    torch.rand(7)  # the checkpoint, not chance, must set the random numbers
    trainer.state.load(folder)
    return trainer


def test_a_training_stopped_after_every_single_step_goes_on_bit_for_bit(
    straight: dict[str, Tensor], tmp_path: Path
) -> None:
    trainer = setup(**OPTIONS).trainer
    for step in range(1, TOTAL_STEPS + 1):
        train(trainer, until=step)
        trainer = load(save(trainer, tmp_path / str(step)))
    assert_same(train(trainer), straight)


def test_every_field_of_the_progress_is_kept(tmp_path: Path) -> None:
    trainer = setup(**OPTIONS).trainer
    progress = trainer.state.progress
    progress.step, progress.epoch, progress.step_in_epoch, progress.skipped_in_a_row = 17, 3, 5, 2
    progress.best_accuracy, progress.training_seconds, progress.tracker_run_id = 0.75, 12.5, "abcd1234"
    assert load(save(trainer, tmp_path / "state")).state.progress == progress


def test_as_delivered_is_the_average_where_there_is_one() -> None:
    for decay in (0.9, 0.0):
        trainer = setup(ema_decay=decay).trainer
        trainer.train_epoch(lambda report: None)
        raw = trainer.model.classifier.weight.detach().clone()
        with trainer.state.as_delivered():
            assert torch.equal(trainer.model.classifier.weight, raw) == (decay == 0.0)
        assert torch.equal(trainer.model.classifier.weight, raw)


@pytest.mark.parametrize("name", [TENSORS, PROGRESS])
def test_unreadable_files_are_checkpoint_errors(name: str, tmp_path: Path) -> None:
    folder = save(setup(**OPTIONS).trainer, tmp_path / "state")
    content = (folder / name).read_bytes()
    for damaged in (content[: len(content) // 2], b"", None):
        (folder / name).unlink()
        if damaged is not None:
            (folder / name).write_bytes(damaged)
        with pytest.raises(CheckpointError, match=name):
            load(folder)


@pytest.mark.parametrize("options", [{"num_hidden_layers": 2}, {"hidden_size": 32}])
def test_a_state_of_another_model_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    folder = save(setup(**OPTIONS).trainer, tmp_path / "state")
    with pytest.raises(CheckpointError, match=TENSORS):
        load(folder, **options)


def test_another_number_of_threads_or_processes_is_announced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save(setup(**OPTIONS).trainer, tmp_path / "state")
    progress = read_json(folder / PROGRESS)
    assert (progress["processes"], progress["threads"]) == (1, torch.get_num_threads())
    capsys.readouterr()
    load(folder)
    assert "bit for bit" not in capsys.readouterr().err
    write_json(folder / PROGRESS, progress | {"processes": 3, "threads": 7})
    load(folder)
    told = capsys.readouterr().err
    assert re.search(r"processes\W+3\b.*\b1\b.*bit for bit", told)
    assert re.search(rf"threads\W+7\b.*\b{torch.get_num_threads()}\b.*bit for bit", told)
