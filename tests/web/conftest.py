"""The program in a process of its own, as people start it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from src.utils.config import REPOSITORY, SHIPPED_CHECKPOINT

# The server, with a line in a file for every address it connects to or looks up.
SERVER = """
import sys
def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        with open(sys.argv[1], "a") as file:
            print(arguments[1] if event == "socket.connect" else arguments[:2], file=file)
sys.addaudithook(note)
from src.demo import main, run_program
{}
run_program(lambda arguments: main(arguments[1:]))
"""

# A proxy that does not answer: the page must not need one.
ENVIRONMENT = os.environ | {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}


@dataclass(frozen=True)
class Server:
    port: int
    pid: int
    addresses: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


Serve = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Starts the program with options, and with code to run before."""

    @contextmanager
    def start(*options: object, code: str = "") -> Iterator[Server]:
        folder = tmp_path_factory.mktemp("server")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        path, addresses = folder / "log.txt", folder / "addresses.txt"
        arguments = (addresses, "--checkpoint", SHIPPED_CHECKPOINT, "--port", port, "--device", "cpu", *options)
        command = list(map(str, [sys.executable, "-c", SERVER.format(code), *arguments, "--num-threads", 1]))
        with (
            path.open("w") as log,
            subprocess.Popen(command, cwd=REPOSITORY, env=ENVIRONMENT, stderr=log, stdout=log) as process,
        ):
            try:
                wait_for(lambda: "Ctrl-C" in path.read_text() or process.poll() is not None, path, 180)
                yield Server(port, process.pid, addresses)
            finally:
                process.send_signal(signal.SIGINT)
                assert process.wait(60) == 130 and path.read_text().endswith("\ninterrupted\n"), path.read_text()

    return start


def wait_for(holds: Any, what: object, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, what.read_text() if isinstance(what, Path) else what
        time.sleep(0.2)
    return found
