from pathlib import Path

import pytest
import torch

from tests.benchmarks.contenders import OursInTraining, Work
from tests.benchmarks.speed import checkpoint
from tests.benchmarks.where_time_goes import PARTS, REST, part_of, shares


def test_operators_belong_to_parts() -> None:
    wanted = {
        "aten::addmm": "matrix products",
        "aten::_scaled_dot_product_flash_attention_for_cpu_backward": "attention",
        "aten::gelu_backward": "GELU",
        "aten::native_layer_norm_backward": "layer norm",
        "Optimizer.step#AdamW.step": "AdamW",
        "aten::linalg_vector_norm": "gradient norm",
        "aten::add_": "element by element",
        "aten::embedding_dense_backward": REST,
    }
    assert {operator: part_of(operator) for operator in wanted} == wanted


def test_shares_of_a_training_add_up_to_one(tmp_path: Path) -> None:
    checkpoint("tiny", tmp_path, None)
    torch.set_num_threads(1)
    work = Work(tmp_path, "sample", batches=2, sentences=20, seed=0)
    found = shares(OursInTraining(work, recipe=None))  # which keeps an average of weights
    assert list(found) == [*PARTS, REST] and sum(found.values()) == pytest.approx(1)
    assert all(found[part] > 0 for part in PARTS)
