"""Where and in which arithmetic the model computes."""

import ctypes
import os
import sys
from contextlib import AbstractContextManager

import torch

from src.utils.errors import UsageError


def resolve_device(name: str) -> torch.device:
    """Turns the option --device into a device.

    Args:
        name: auto (CUDA when there, else CPU), cpu, cuda or cuda:N. Of processes that `torchrun` started, each has the
            GPU of its number, unless N is given.

    Returns:
        The device.

    Raises:
        UsageError: no such device, here or at all.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    own = os.environ.get("LOCAL_RANK")
    try:
        device = torch.device(name if own is None or name != "cuda" else f"cuda:{own}")
    except RuntimeError:
        raise UsageError(f"--device {name} is unknown; use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name} is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices; use cpu or auto")
    return device


def wants_bf16(precision: str, device: torch.device) -> bool:
    """Resolves --precision: auto is bfloat16 on CUDA and float32 on a CPU."""
    return precision == "bf16" or (precision == "auto" and device.type == "cuda")


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager[None]:
    """Returns a context in which matrix products run in bfloat16, or one that changes nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


def set_up_arithmetic(device: torch.device, num_threads: int) -> None:
    """Sets the number of CPU threads (0: PyTorch's choice) and the way in which float32 numbers are multiplied.

    On a CPU by a library that keeps float32's precision; CUDA may use TF32.

    Numbers that float32 has too few bits left for, below 1.2e-38, count as zeros. AdamW's mean of a token's gradients
    shrinks to such a number when that token has not been met for some 800 steps, and a CPU takes many times as long to
    compute with it: a training would slow down as it goes on. To be called before anything is computed: threads that
    run already keep computing with such numbers.

    On Linux the process also keeps the memory it frees: the gradient of a large token table, given back to the system
    after every step and fetched again page by page in the next, costs a fine-tuning of MiniLM a twentieth of its time.
    """
    torch.set_flush_denormal(True)  # False where a processor cannot, and then it stays as it was
    # MKL, once told a number, no longer adapts it to products inside a parallel operation; so it is told in need only.
    if num_threads not in (0, torch.get_num_threads()):
        torch.set_num_threads(num_threads)
    _keep_freed_memory()
    if device.type == "cpu" and multiplies_by_onednn():
        _multiply_by_onednn()
    if device.type == "cuda":
        torch.backends.cuda.enable_flash_sdp(True)  # again, where a CPU was set up before
        if device.index is not None:
            torch.cuda.set_device(device)  # whose random numbers a checkpoint keeps
        torch.set_float32_matmul_precision("high")


def multiplies_by_onednn() -> bool:
    """Tells whether `set_up_arithmetic` leaves float32 products on this CPU to oneDNN: on AMD's since Zen 5.

    There it takes half of the time of MKL, which fills vectors of 512 bits on Intel's processors only.
    """
    processor = torch.cpu.get_capabilities()
    is_amd = processor.get("architecture") == "x86_64" and processor["cpu_name"].startswith("AMD")
    # Of AMD's, only those since Zen 5 know the first; with the second, oneDNN would round to bfloat16.
    return bool(is_amd and processor["avx512_vp2intersect"] and not processor["amx_tile"])


def _multiply_by_onednn() -> None:
    """Has PyTorch give float32 products to oneDNN.

    It does so once they may be rounded to bfloat16, which oneDNN does only on processors with AMX.

    A call has a higher fixed cost than one of MKL. So attention is computed on PyTorch's plain path, as one batched
    product for all heads, and not by the fused kernel, as many small ones. And oneDNN prepares a kernel for each shape,
    of which it keeps 1,024; batches of equal length meet more.
    """
    torch.set_float32_matmul_precision("medium")
    torch.backends.cuda.enable_flash_sdp(False)  # which, despite its name, is for CPUs as well
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "2048")


def _keep_freed_memory() -> None:
    """Lets the C library (glibc alone) use freed memory again, in blocks of up to 1 GiB, or 32 MiB where it is old."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # their numbers in malloc.h
        # Older versions allow no more than the second; after a refusal the rest had better stay as it is.
        if mallopt(mmap_threshold, 2**30) or mallopt(mmap_threshold, 2**25):
            mallopt(trim_threshold, 2**31 - 1)
