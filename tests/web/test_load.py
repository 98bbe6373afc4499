"""The page under load; prints the figures of src/web/README.md."""

import re
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import pytest

pytest.importorskip("gradio")
from src.web.page import EXAMPLE
from tests.web.conftest import Serve, Server

pytestmark = [pytest.mark.deep, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]
CLIENTS, SECONDS = 50, 30


def memory(server: Server, field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())
    assert found
    return int(found[1]) / 1000


def ask(server: Server, address: str, end: float, once: bool = False) -> list[int]:
    """The status of each call of a client; with `once`, of a person who asks again until there is an answer."""
    seen: list[int] = []
    body = {"data": [EXAMPLE], "fn_index": 0, "session_hash": address}
    with httpx.Client(headers={"x-forwarded-for": address}, timeout=60) as client:
        while time.monotonic() < end and not (once and seen[-1:] == [200]):
            seen.append(client.post(f"{server.url}gradio_api/run/predict", json=body).status_code)
    return seen


@pytest.mark.parametrize("addresses", [1, CLIENTS])
def test_fifty_clients_make_no_error_and_do_not_keep_another_from_its_answer(addresses: int, serve: Serve) -> None:
    with serve("--forwarded-allow-ips", "127.0.0.1") as server, ThreadPoolExecutor(CLIENTS) as pool:
        ask(server, "10.0.1.0", time.monotonic() + 60, once=True)
        before, end, waits = memory(server, "VmRSS"), time.monotonic() + SECONDS, []
        clients = [pool.submit(ask, server, f"10.0.0.{n % addresses}", end) for n in range(CLIENTS)]
        for person in range(1, 6):
            start = time.monotonic()
            assert ask(server, f"10.0.1.{person}", start + 60, once=True)[-1] == 200
            waits.append(time.monotonic() - start)
            time.sleep(max(0.0, start + 5 - time.monotonic()))
        statuses = Counter(status for client in clients for status in client.result())
        growth = memory(server, "VmHWM") - before
    print(f"\n{CLIENTS} clients, {addresses} addresses: {statuses}, {growth:.0f} MB more, others waited {waits} s")
    assert set(statuses) == {200, 429} and growth < 300
    # As many addresses as clients are equals, and the answers of all take longer.
    assert max(waits) < (10 if addresses == 1 else 60)
