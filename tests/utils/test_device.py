import subprocess
import sys

import pytest
import torch
from torch import nn

from src.utils.config import REPOSITORY
from src.utils.device import (
    FastDropout,
    multiplies_by_onednn,
    resolve_device,
    set_up_device,
    use_fast_dropout,
    wants_bf16,
)
from src.utils.errors import UsageError


@pytest.mark.parametrize(
    ("count", "local_rank", "devices"),
    [
        (0, None, {"auto": "cpu", "cuda": None, "mps": None}),
        (-1, None, {"auto": "mps", "mps": "mps", "cpu": "cpu", "cuda": None}),  # Apple's processors
        (-1, "0", {"auto": "cpu"}),
        (2, None, {"auto": "cuda", "cpu": "cpu", "cuda": "cuda", "cuda:1": "cuda:1", "cuda:2": None}),
        (2, None, dict.fromkeys(("", "gpu", "cuda:x", "cuda:-1", "meta"))),
        (2, "1", {"auto": "cuda:1", "cpu": "cpu", "cuda": "cuda:1", "cuda:0": "cuda:0"}),  # under torchrun
        (2, "2", {"auto": None}),
    ],
)
def test_each_name_is_a_device_that_is_there_or_none(
    count: int, local_rank: str | None, devices: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: max(0, count))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: count < 0)
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    for name, device in devices.items():
        if device is not None:
            assert str(resolve_device(name)) == device
        else:
            with pytest.raises(UsageError, match="--device"):
                resolve_device(name)


@pytest.mark.parametrize("has_bf16", [True, False])
def test_auto_is_bfloat16_on_gpus_that_compute_in_it(
    has_bf16: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or has_bf16)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    cpu, mps, cuda = map(torch.device, ("cpu", "mps", "cuda"))
    assert not wants_bf16("auto", cpu) and not wants_bf16("auto", mps) and not wants_bf16("fp32", cuda)
    assert wants_bf16("bf16", cuda) and capsys.readouterr().err == ""
    assert wants_bf16("auto", cuda) is has_bf16
    assert ("Tesla T4" in capsys.readouterr().err) is not has_bf16


ZEN_5 = {"architecture": "x86_64", "cpu_name": "AMD EPYC", "avx512_vp2intersect": True, "amx_tile": False}


@pytest.mark.parametrize(
    ("processor", "onednn"),
    [
        (ZEN_5, True),
        (ZEN_5 | {"avx512_vp2intersect": False}, False),
        (ZEN_5 | {"amx_tile": True}, False),  # there oneDNN would round to bfloat16
        (ZEN_5 | {"cpu_name": "Intel(R) Xeon(R) Processor"}, False),
        ({"architecture": "aarch64", "cpu_name": "AMD"}, False),
    ],
)
def test_onednn_multiplies_where_mkl_is_slow_and_never_rounds(
    processor: dict[str, object], onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    assert multiplies_by_onednn() is onednn


@pytest.mark.parametrize("onednn", [False, True])
def test_products_are_those_of_float32(onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if onednn and torch.cpu.get_capabilities().get("amx_tile"):
        pytest.skip("with AMX oneDNN rounds to bfloat16, and is not taken")
    monkeypatch.setattr("src.utils.device.multiplies_by_onednn", lambda: onednn)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "1024")  # set by what is tested, and taken back afterwards
    set_up_device("cpu")
    assert torch.get_float32_matmul_precision() == ("medium" if onednn else "highest")
    torch.manual_seed(0)
    for rows, inner, columns in ((9, 65, 33), (101, 257, 127)):
        left, right = torch.randn(3, rows, inner), torch.randn(3, inner, columns)
        wanted = left.double() @ right.double()
        for found in (left @ right, torch.stack([one @ other for one, other in zip(left, right, strict=True)])):
            # Float32 rounds by 6e-8 a number, whatever the order of the sums; bfloat16 would be off by 2e-3.
            assert (found - wanted).norm() < 1e-5 * wanted.norm()


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot take tiny numbers for zeros")
def test_all_threads_of_a_command_take_tiny_numbers_for_zeros() -> None:
    imports = "import torch, src.training.trainer, src.evaluation.predictor"
    begin = "from src.utils.device import set_up_device; set_up_device('cpu', 2)"
    product = "print((torch.full((2**22,), 1e-38) * 0.1).count_nonzero().item())"
    command = [sys.executable, "-c", "; ".join([imports, begin, product])]
    assert subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout == "0\n"


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_fast_dropout_drops_and_scales_as_that_of_pytorch(p: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(p), nn.Dropout(0.0))
    use_fast_dropout(model)
    x = torch.ones(1001, 999, requires_grad=True)  # 1,000,000 - 1 elements: no multiple of four
    y = model(x)
    y.backward(torch.full_like(y, 2.0))
    share = (y == 0).double().mean().item()
    assert share == pytest.approx(p, abs=4 * (p * (1 - p) / x.numel()) ** 0.5)  # four standard errors
    assert y.detach().unique().tolist() == pytest.approx([0.0, 1 / (1 - p)], rel=1e-4)
    assert x.grad is not None and torch.equal(x.grad, 2 * y.detach())
    assert torch.equal(model.eval()(x), x)
    assert [type(part) for part in model] == [FastDropout, FastDropout]
