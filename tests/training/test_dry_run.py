import re
from pathlib import Path
from typing import Any

import pytest

from src.training import dry_run
from src.training.dry_run import seconds_per_step, with_steps
from tests.training import tiny_pretraining, tiny_training


@pytest.mark.parametrize(("options", "expected"), [({"batch_size": 2}, 15), ({}, 6)])
def test_fifteen_steps_are_timed_or_all_there_are(options: dict[str, Any], expected: int) -> None:
    trainer = tiny_training.trainer(**options)
    seconds = seconds_per_step(trainer)
    assert trainer.progress.step == expected
    assert 0 < seconds < trainer.progress.training_seconds


def test_what_a_dry_run_says_is_what_the_run_would_be(capsys: pytest.CaptureFixture[str]) -> None:
    task = tiny_training.task(epochs=100, freeze_layers=1, seed=10_000)
    dry_run.dry_run(task)
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert "epochs 100" in told["settings"] and "seed 10000" in told["settings"]
    assert "train 36" in told["data"] and "label_names ('negative', 'positive')" in told["data"]
    head = sum(p.numel() for name, p in task.model.named_parameters() if not name.startswith("bert."))
    everything = sum(p.numel() for p in task.model.parameters())
    assert told["parameters"] == f"{everything:,}, of which {head:,} are trained"
    assert told["run"].startswith("600 steps, about ")
    assert int(re.findall(r"[\d,]+", told["memory"])[0].replace(",", "")) > 0


@pytest.mark.parametrize(("seconds", "expected"), [(0.25, 480), (1e6, 1)])
def test_minutes_become_steps(seconds: float, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "seconds_per_step", lambda trainer: seconds)
    corpus, options = tiny_pretraining.corpus(tmp_path), tiny_pretraining.settings(max_steps=None, minutes=2.0)
    assert with_steps(options, corpus).optimization.max_steps == expected
    given = tiny_pretraining.settings(max_steps=7)
    assert with_steps(given, corpus) == given
