from pathlib import Path

import pytest
import torch

from src.training.run import _facts
from src.utils.config import TrainConfig
from tests.training.tiny_training import setup


def test_processes_have_to_agree_on_checkpoint_and_threads_but_not_on_where_the_disk_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, parts = TrainConfig(), setup()
    facts = _facts(config, parts, Path("/here/step-20"))
    assert _facts(config, parts, Path("/there/step-20")) == facts
    assert _facts(config, parts, Path("/here/step-40")) != facts
    assert _facts(config, parts, None) != facts
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert _facts(config, parts, Path("/here/step-20")) != facts
