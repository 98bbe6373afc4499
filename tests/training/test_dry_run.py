import re
from typing import Any

import pytest

from src.training.rehearsal import dry_run, seconds_per_step
from tests.training import tiny_training


@pytest.mark.parametrize("options, expected", [({"epochs": 9}, 15), ({"epochs": 1}, 6)])
def test_a_rehearsal_has_fifteen_steps_or_all_there_are(options: dict[str, Any], expected: int) -> None:
    trainer = tiny_training.setup(**options).trainer
    seconds = seconds_per_step(trainer)
    assert trainer.state.progress.step == expected
    assert 0 < seconds < trainer.state.progress.training_seconds


def test_what_a_dry_run_says_is_what_the_run_would_be() -> None:
    setup = tiny_training.setup(epochs=100, freeze_layers=1)
    told = dict(line.split(maxsplit=1) for line in dry_run(setup, {"epochs": 100, "seed": 10_000}).splitlines())
    assert told["settings"] == "epochs 100, seed 10,000"
    assert "train 36" in told["data"] and "label_names negative/positive" in told["data"]
    head = sum(p.numel() for name, p in setup.classifier.model.named_parameters() if not name.startswith("bert."))
    everything = sum(p.numel() for p in setup.classifier.model.parameters())
    assert told["parameters"] == f"{everything:,}, of which {head:,} are trained"
    assert told["run"].startswith("600 steps, about ")
    assert int(re.findall(r"[\d,]+", told["memory"])[0].replace(",", "")) > 0
