import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from src.utils.config import PretrainConfig, TrainConfig
from src.utils.errors import UsageError
from src.utils.options import options_of, saved_config, with_options

CHANGED: dict[str, Any] = {
    **{"preset": "mini", "train_file": Path("data") / "train.csv", "validation_file": Path("validation.csv")},
    **{"max_train_samples": 7, "lowercase": False, "seq_len": 33, "hidden_size": 96, "num_attention_heads": 3},
    **{"learning_rate": 1e-3, "output_dir": Path("weights") / "run", "seed": 4},
}


def test_with_options_replaces_fields_in_every_group_and_nothing_else() -> None:
    changed = with_options(TrainConfig(), CHANGED)
    assert options_of(changed) == options_of(TrainConfig()) | CHANGED
    assert changed.model.hidden_size == 96 and changed.data.max_train_samples == 7 and changed.run.seed == 4
    assert with_options(TrainConfig(), options_of(changed)) == changed


def test_contradictory_options_are_judged_together_not_one_by_one() -> None:
    wide = with_options(TrainConfig(), {"hidden_size": 96, "num_attention_heads": 3})
    assert with_options(wide, {"hidden_size": 100, "num_attention_heads": 4}).model.hidden_size == 100
    with pytest.raises(UsageError, match=r"num_attention_heads = 3 .*hidden_size = 100"):
        with_options(wide, {"hidden_size": 100})


def test_an_unknown_setting_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"learning_rat\b"):
        with_options(TrainConfig(), {"learning_rat": 1.0})


@pytest.mark.parametrize(
    "config",
    [
        with_options(TrainConfig(), CHANGED),
        with_options(PretrainConfig(), {"corpus": ("a.txt", "b"), "max_steps": 3, "seq_len": 32}),
    ],
)
def test_a_config_survives_json(config: Any) -> None:
    assert saved_config(type(config)(), json.loads(json.dumps(asdict(config), default=str))) == config


def test_settings_unknown_by_now_are_left_out_and_new_ones_have_their_default() -> None:
    saved = asdict(replace(TrainConfig(), preset="mini"))
    saved["model"]["gone"] = saved["gone"] = saved["old_group"] = {"x": 1}
    del saved["optimization"]["ema_decay"], saved["run"]
    assert saved_config(TrainConfig(), saved) == replace(TrainConfig(), preset="mini")
