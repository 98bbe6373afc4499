"""A hub on loopback that keeps what is committed to it: the endpoints of an upload, as `huggingface_hub` calls them."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_the_test"


class Hub(ThreadingHTTPServer):
    """Repositories with their files, and what was asked of it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.created: list[dict[str, Any]] = []
        self.stored: dict[str, bytes] = {}  # large files by SHA-256
        self.files: dict[str, dict[str, bytes]] = {}  # repository -> path -> content
        self.commits: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            request = json.loads(content)
            self.server.created.append(request)
            self._answer({"url": f"{self.server.url}/{request['organization']}/{request['name']}"})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif self.path.endswith("/preupload/main"):
            self._answer({"files": [self._upload_mode(file) for file in json.loads(content)["files"]]})
        elif self.path.endswith(".git/info/lfs/objects/batch"):
            self._answer({"transfer": "basic", "objects": [self._place(o) for o in json.loads(content)["objects"]]})
        elif self.path.endswith("/commit/main"):
            self._commit([json.loads(line) for line in content.splitlines()])
        else:
            self._answer({"error": f"no endpoint {self.path}"}, 404)

    def do_PUT(self) -> None:
        self.server.stored[self.path.rpartition("/")[2]] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({})

    def _upload_mode(self, file: dict[str, Any]) -> dict[str, Any]:
        large = file["path"].endswith(".safetensors")
        return {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}

    def _place(self, wanted: dict[str, Any]) -> dict[str, Any]:
        return wanted | {"actions": {"upload": {"href": f"{self.server.url}/store/{wanted['oid']}"}}}

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        repository = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
        files = self.server.files.setdefault(repository, {})
        for line in lines:
            if line["key"] == "header":
                self.server.commits.append(line["value"]["summary"])
            elif line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                files[line["value"]["path"]] = self.server.stored[line["value"]["oid"]]
        self._answer({"commitUrl": f"{self.server.url}/{repository}/commit/{'0' * 40}", "commitOid": "0" * 40})

    def _answer(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing."""


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Runs a hub while the context lasts."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
