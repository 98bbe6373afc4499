"""A GPU computes what the CPU computes: training steps, saved states, compiled layers, and a group of one over NCCL."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from src.data.dataset import Batch
from src.data.packing import PackedRows, TokenizedCorpus
from src.interop.huggingface import load_classifier
from src.training.checkpoint import gather_random_states, load_state, save_state
from src.training.tasks import MaskedLMTask
from src.training.trainer import Trainer
from src.utils.config import SHIPPED_CHECKPOINT, PretrainConfig, with_options

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="compares CUDA with the CPU; no CUDA here"),
]

T, ROWS, STEPS = 17, 13, 20
SIZES = {"num_hidden_layers": 2, "hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 160}
SETTINGS = {"seq_len": T, "batch_size": ROWS, "max_steps": STEPS, "learning_rate": 3e-3, "begin_with": "random"}


def trainer(device: str, bf16: bool = False, compiled: bool = False) -> Trainer:
    # Three tokens in turn are soon learned.
    stream = (torch.arange(3 * ROWS * STEPS * T) % 3 + 5).numpy()
    options = {"device": device, "precision": "bf16" if bf16 else "fp32", "compile": compiled}
    config = with_options(PretrainConfig(), SIZES | SETTINGS | options)
    tokenizer = load_classifier(SHIPPED_CHECKPOINT).tokenizer
    return Trainer(MaskedLMTask(config, TokenizedCorpus("numbers", tokenizer, stream, stream, 2, "")))


def losses(trainer: Trainer, first: int = 0) -> list[float]:
    """Trains to the end from step `first`; batches are masked on the CPU, so alike for every device."""
    return [trainer.training_step([batch_of(trainer, step)]).loss for step in range(first, STEPS)]


def batch_of(trainer: Trainer, step: int) -> Batch:
    rows = trainer.task.train
    assert isinstance(rows, PackedRows)
    return rows.collate(rows.batches(ROWS, 0, 0)[step], torch.Generator().manual_seed(step))


@pytest.fixture(scope="module")
def on_the_cpu() -> list[float]:
    return losses(trainer("cpu"))


def test_twenty_steps_have_the_losses_of_the_cpu(on_the_cpu: list[float]) -> None:
    # TF32 rounds factors to 10 bits, bfloat16 to 7.
    assert losses(trainer("cuda")) == pytest.approx(on_the_cpu, rel=2e-3)
    assert losses(trainer("cuda", bf16=True)) == pytest.approx(on_the_cpu, rel=2e-2)
    assert on_the_cpu[-1] < 0.9 * on_the_cpu[0]


@pytest.mark.filterwarnings("ignore")  # the compiler warns of its own doings
def test_compiled_layers_have_the_losses_of_the_cpu(on_the_cpu: list[float]) -> None:
    assert losses(trainer("cuda", bf16=True, compiled=True)) == pytest.approx(on_the_cpu, rel=2e-2)


def test_a_state_saved_half_way_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    straight, broken = trainer("cuda"), trainer("cuda")
    losses(straight)
    for step in range(STEPS // 2):
        broken.training_step([batch_of(broken, step)])
    save_state(tmp_path, broken, gather_random_states())
    resumed = trainer("cuda")
    load_state(tmp_path, resumed)
    losses(resumed, first=STEPS // 2)
    for name, parameter in straight.model.named_parameters():
        torch.testing.assert_close(resumed.model.state_dict()[name], parameter.detach(), rtol=1e-4, atol=1e-5)


def test_a_group_of_one_over_nccl_trains_like_a_process_alone() -> None:
    alone = losses(trainer("cuda"))
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}
    dist.init_process_group("cpu:gloo,cuda:nccl", rank=0, world_size=1)
    try:
        found = trainer("cuda")
        assert found.ddp is None  # of one process
        found.ddp = torch.nn.parallel.DistributedDataParallel(found.model)
        assert losses(found) == pytest.approx(alone, rel=1e-3)
    finally:
        dist.destroy_process_group()
