"""A GPU computes what the CPU computes: training steps, saved states, compiled layers, and a group of one over NCCL."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from src.data.masking import Masking
from src.data.packing import PackedRows
from src.model.bert import BertForMaskedLM
from src.training.loop import Trainer
from src.training.objectives import MaskedLanguageModelling
from src.training.state import TrainingState
from src.utils.config import PretrainConfig
from src.utils.device import set_up_arithmetic
from src.utils.distributed import add_up, gather, largest
from src.utils.options import with_options

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="compares CUDA with the CPU; no CUDA here"),
]

V, T, ROWS, STEPS = 199, 17, 13, 20
SIZES = {"num_hidden_layers": 2, "hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 160}
SETTINGS = {"vocab_size": V, "seq_len": T, "batch_size": ROWS, "max_steps": STEPS, "learning_rate": 3e-3}


def trainer(device: str, bf16: bool = False, compiled: bool = False) -> Trainer[BertForMaskedLM, PackedRows]:
    set_up_arithmetic(torch.device(device), 0)
    config = with_options(PretrainConfig(), SIZES | SETTINGS)
    torch.manual_seed(0)
    model = BertForMaskedLM(config.model).to(device)
    if compiled:
        model.bert.encoder.compile_layers()
    stream = (torch.arange(3 * ROWS * STEPS * T) % 3 + 5).numpy()  # three tokens in turn are soon learned
    masking = Masking(0.3, True, 4, range(5), V)
    rows = PackedRows("numbers", stream, T, 2, 3, masking)
    return Trainer(model, rows, MaskedLanguageModelling(), config.optimization, seed=0, bf16=bf16)


def losses(trainer: Trainer[BertForMaskedLM, PackedRows], first: int = 0) -> list[float]:
    """Trains to the end from step `first`; batches are masked on the CPU, so alike for every device."""
    found = []
    for step, starts in enumerate(trainer.dataset.batches(ROWS, 0, 0)[:STEPS]):
        if step >= first:
            batch = trainer.dataset.collate(starts, torch.Generator().manual_seed(step))
            found.append(trainer.training_step([batch]).loss)
    return found


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
    for step, starts in enumerate(broken.dataset.batches(ROWS, 0, 0)[: STEPS // 2]):
        broken.training_step([broken.dataset.collate(starts, torch.Generator().manual_seed(step))])
    broken.state.save(tmp_path, {})
    resumed = trainer("cuda")
    torch.manual_seed(1)
    TrainingState.load(resumed.state, tmp_path)
    losses(resumed, first=STEPS // 2)
    for name, parameter in straight.model.named_parameters():
        torch.testing.assert_close(resumed.model.state_dict()[name], parameter.detach(), rtol=1e-4, atol=1e-5)


def test_a_group_of_one_over_nccl_trains_like_a_process_alone() -> None:
    alone = losses(trainer("cuda"))
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}
    dist.init_process_group("cpu:gloo,cuda:nccl", rank=0, world_size=1)
    try:
        assert gather("mine") == ["mine"] and add_up(1.5, 2.0) == [1.5, 2.0] and largest(3.0) == 3.0
        inside = trainer("cuda")
        parallel = torch.nn.parallel.DistributedDataParallel(inside.model)
        batch = inside.dataset.collate(inside.dataset.batches(ROWS, 0, 0)[0])
        ids, labels = batch["input_ids"].cuda(), batch["labels"].cuda()
        parallel(ids, positions=labels != -100).sum().backward()
        assert all(parameter.grad is not None for parameter in inside.model.parameters())
        assert losses(trainer("cuda")) == pytest.approx(alone, rel=1e-3)
    finally:
        dist.destroy_process_group()
