"""Where and in which arithmetic the model computes."""

import ctypes
import logging
import os
import re
import sys
from functools import cache

import torch
from torch import Tensor, nn

from src.utils.errors import UsageError

logger = logging.getLogger(__name__)


def resolve_device(name: str) -> torch.device:
    """Turns --device (auto, cpu, cuda, cuda:N or mps) into a device; under `torchrun`, cuda is the process's GPU."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise UsageError(f"--device {name} is unknown; use auto, cpu, cuda, cuda:N or mps")
    own = os.environ.get("LOCAL_RANK")
    has_mps = torch.backends.mps.is_available()  # the GPU of Apple's processors
    if name == "auto":
        # Processes on an Apple GPU have no way to exchange gradients.
        name = "cuda" if torch.cuda.is_available() else "mps" if has_mps and own is None else "cpu"
    if name == "mps" and not has_mps:
        raise UsageError("--device mps: this machine or PyTorch has no Apple GPU; use cpu or auto")
    device = torch.device(name if own is None or name != "cuda" else f"cuda:{own}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices; use cpu or auto")
    return device


def wants_bf16(precision: str, device: torch.device) -> bool:
    """Resolves --precision: auto is bfloat16 on CUDA GPUs that compute in it, and float32 elsewhere."""
    if precision != "auto" or device.type != "cuda":
        return precision == "bf16"
    if not (has_bf16 := torch.cuda.is_bf16_supported(including_emulation=False)):
        logger.info(f"precision   {torch.cuda.get_device_name(device)} has no bfloat16: float32 instead")
    return has_bf16


def set_up_device(name: str, num_threads: int = 0) -> torch.device:
    """Resolves --device, and sets how this process computes, before it does; 0 threads are PyTorch's choice."""
    device = resolve_device(name)
    # AdamW's mean of a rare token's gradients shrinks below 1.2e-38, and CPUs are slow with such denormal numbers.
    torch.set_flush_denormal(True)
    # MKL, once told a number, no longer adapts it to products inside a parallel operation; so it is told in need only.
    if num_threads not in (0, torch.get_num_threads()):
        torch.set_num_threads(num_threads)
    _keep_freed_memory()
    if device.type == "cpu" and multiplies_by_onednn():
        torch.set_float32_matmul_precision("medium")  # lets oneDNN multiply; only with AMX does it round to bfloat16
        # A call of oneDNN costs more than one of MKL, so attention takes one batched product for all heads.
        torch.backends.cuda.enable_flash_sdp(False)  # which, despite its name, is for CPUs as well
        # It prepares a kernel for each shape. Batches of equal length have more shapes than the 1,024 that it keeps.
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "2048")
    if device.type == "cuda":
        torch.backends.cuda.enable_flash_sdp(True)  # again, where a CPU was set up before
        if device.index is not None:
            torch.cuda.set_device(device)  # whose random numbers a checkpoint keeps
        torch.set_float32_matmul_precision("high")  # TF32
    return device


@cache
def survive_fork() -> None:
    """Gives forked children one thread each: they would wait for ever for the parent's, which a fork does not copy."""
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def multiplies_by_onednn() -> bool:
    """Tells whether this CPU is AMD's since Zen 5, where oneDNN takes half of the time of MKL in float32 products."""
    processor = torch.cpu.get_capabilities()
    is_amd = processor.get("architecture") == "x86_64" and processor["cpu_name"].startswith("AMD")
    # Of AMD's, only those since Zen 5 know the first; with the second, oneDNN would round to bfloat16.
    return bool(is_amd and processor["avx512_vp2intersect"] and not processor["amx_tile"])


def _keep_freed_memory() -> None:
    """Lets glibc reuse freed blocks of up to 1 GiB: those of a large gradient cost MiniLM 5 % of a step."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # their numbers in malloc.h
        # Older versions allow no more than the second; after a refusal the rest had better stay as it is.
        if mallopt(mmap_threshold, 2**30) or mallopt(mmap_threshold, 2**25):
            mallopt(trim_threshold, 2**31 - 1)


class FastDropout(nn.Dropout):
    """`nn.Dropout` in a third of its time on a CPU: of each random 64-bit number, 16 bits decide about one element."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps float (...) to float (...)."""
        if not self.training or self.p == 0 or x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        dropped = min(round(self.p * 2**16), 2**16 - 1)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)  # from -2^15 on
        kept = bits.float().ge_(dropped - 2**15)  # as floats: PyTorch is slow at comparing integers
        return x * kept.to(x.dtype).mul_(2**16 / (2**16 - dropped))


def use_fast_dropout(model: nn.Module) -> None:
    """Replaces the `nn.Dropout` modules of a model in place, so that src/model stays plain PyTorch."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = FastDropout
