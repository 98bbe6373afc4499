"""What the server refuses: paths, hosts, URLs, large bodies, too many calls, idle connections."""

import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

pytest.importorskip("gradio")
from src.web.page import CLIENT_PLACES, EXAMPLE, PLACES, POLICY
from tests.web.conftest import Serve, Server, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 and the like are clients")

# An answer is what was typed; to one text it comes when a file is there.
STUB = """
import time
from pathlib import Path
from src.web import page
def answer(predictor, text, folder):
    while text == "wait" and not Path({!r}).exists():
        time.sleep(0.1)
    return text, None
page.explain_sentences, page.IDLE_SECONDS, page.CLIENT_CONNECTIONS = answer, 1, 8
"""
FIELD = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"x" * 2_000_000 + b"\r\n--b--\r\n"
ANY = "127.0.0.1"
CLIENTS, SECONDS = 50, 30


@pytest.fixture(scope="module")
def go_on(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flag") / "go_on"


@pytest.fixture(scope="module")
def server(serve: Serve, go_on: Path) -> Iterator[Server]:
    with serve("--allowed-hosts", "page.example", code=STUB.format(str(go_on))) as found:
        yield found


def ask(server: Server, method: str, path: str, client: str = ANY, **options: Any) -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(local_address=client), timeout=60) as connection:
        return connection.request(method, server.url + path, **options)


def call(server: Server, data: Any, client: str) -> httpx.Response:
    body = {"data": [data], "fn_index": 0, "session_hash": client}
    return ask(server, "POST", "gradio_api/run/predict", client, json=body)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("", 200),
        ("theme.css", 200),
        ("gradio_api/file=/etc/passwd", 403),
        ("gradio_api/file=http://page.example/", 404),
        ("gradio_api/proxy=http://page.example/", 404),
        *((path, 404) for path in ("config", "monitoring", "gradio_api/info", "gradio_api/queue/status")),
    ],
)
def test_only_what_the_page_asks_for_is_served(path: str, status: int, server: Server) -> None:
    answer = ask(server, "GET", path)
    assert (answer.status_code, answer.headers.get("content-security-policy")) == (status, POLICY)


@pytest.mark.parametrize(("host", "status"), [("evil.example", 400), ("page.example:80", 200), ("localhost", 200)])
def test_only_names_of_the_page_are_answered(host: str, status: int, server: Server) -> None:
    assert ask(server, "GET", "", headers={"host": host}).status_code == status


def test_a_url_in_the_place_of_a_file_is_not_fetched(server: Server) -> None:
    upload = {"path": "http://elsewhere.example/a.csv", "meta": {"_type": "gradio.FileData"}}
    assert call(server, upload, "127.0.0.2").status_code == 500
    assert "elsewhere" not in server.addresses.read_text()


def test_a_body_has_one_limit_whatever_is_in_it_and_however_it_is_sent(server: Server) -> None:
    pieces = (FIELD[start : start + 100_000] for start in range(0, len(FIELD), 100_000))
    for body in (FIELD, pieces):
        headers = {"content-type": "multipart/form-data; boundary=b"}
        assert ask(server, "POST", "gradio_api/upload", "127.0.0.3", content=body, headers=headers).status_code == 413
    assert call(server, "x" * 2_000_000, "127.0.0.3").status_code == 413
    assert call(server, "x" * 1_900_000, "127.0.0.3").status_code == 200


def test_a_client_has_few_places_all_have_some_and_a_free_one_is_given(server: Server, go_on: Path) -> None:
    clients = [f"127.0.1.{1 + number // CLIENT_PLACES}" for number in range(PLACES)]

    def refused(client: str, **headers: str) -> bool:
        return ask(server, "POST", "gradio_api/upload", client, headers=headers).status_code == 429

    def wait(client: str) -> None:
        while (status := call(server, "wait", client).status_code) == 429:  # a look at the places takes one, briefly
            pass
        assert status == 200

    with ThreadPoolExecutor(PLACES) as pool:
        try:
            calls = [pool.submit(wait, client) for client in clients[:CLIENT_PLACES]]
            wait_for(lambda: refused(clients[0]), "one client's places")
            # Nobody is believed about who the client is.
            assert refused(clients[0], **{"x-forwarded-for": "10.0.0.1"}) and not refused(clients[-1])
            calls += [pool.submit(wait, client) for client in clients[CLIENT_PLACES:]]
            wait_for(lambda: refused("127.0.1.99"), "all places")
        finally:
            go_on.touch()
        for waiting in calls:
            waiting.result()
    assert call(server, "now", clients[0]).json()["data"][0] == "now"


@pytest.mark.parametrize("sent", [[], [b"GET /"], [b"GET /theme.css HTTP/1.1\r\nHost: localhost\r\n\r\n", b"G"]])
def test_a_connection_that_asks_nothing_is_closed(sent: list[bytes], server: Server) -> None:
    with socket.create_connection((ANY, server.port), timeout=10, source_address=("127.0.2.1", 0)) as connection:
        for piece in sent:
            connection.sendall(piece)
            time.sleep(0.3)
        while connection.recv(100_000):  # raises TimeoutError if it stays open
            pass


def test_an_address_has_so_many_connections(server: Server) -> None:
    opened = [socket.create_connection((ANY, server.port), 1, source_address=("127.0.2.2", 0)) for _ in range(9)]
    assert opened[8].recv(1) == b""
    opened[0].sendall(b"GET /theme.css HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert opened[0].recv(12) == b"HTTP/1.1 200"
    for connection in opened:
        connection.close()


# Under load: prints the figures of src/web/README.md


def memory(server: Server, field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())
    assert found
    return int(found[1]) / 1000


def keep_asking(server: Server, address: str, end: float, once: bool = False) -> list[int]:
    """The status of each call of a client; with `once`, of a person who asks again until there is an answer."""
    seen: list[int] = []
    body = {"data": [EXAMPLE], "fn_index": 0, "session_hash": address}
    with httpx.Client(headers={"x-forwarded-for": address}, timeout=60) as client:
        while time.monotonic() < end and not (once and seen[-1:] == [200]):
            seen.append(client.post(f"{server.url}gradio_api/run/predict", json=body).status_code)
    return seen


@pytest.mark.deep
@pytest.mark.parametrize("addresses", [1, CLIENTS])
def test_fifty_clients_make_no_error_and_do_not_keep_another_from_its_answer(addresses: int, serve: Serve) -> None:
    with serve("--forwarded-allow-ips", "127.0.0.1") as server, ThreadPoolExecutor(CLIENTS) as pool:
        keep_asking(server, "10.0.1.0", time.monotonic() + 60, once=True)
        before, end, waits = memory(server, "VmRSS"), time.monotonic() + SECONDS, []
        clients = [pool.submit(keep_asking, server, f"10.0.0.{n % addresses}", end) for n in range(CLIENTS)]
        for person in range(1, 6):
            start = time.monotonic()
            assert keep_asking(server, f"10.0.1.{person}", start + 60, once=True)[-1] == 200
            waits.append(time.monotonic() - start)
            time.sleep(max(0.0, start + 5 - time.monotonic()))
        statuses = Counter(status for client in clients for status in client.result())
        growth = memory(server, "VmHWM") - before
    print(f"\n{CLIENTS} clients, {addresses} addresses: {statuses}, {growth:.0f} MB more, others waited {waits} s")
    assert set(statuses) == {200, 429} and growth < 300
    # As many addresses as clients are equals, and the answers of all take longer.
    assert max(waits) < (10 if addresses == 1 else 60)
