import gzip
import http.server
import os
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from src.data import hub
from src.utils.config import REPOSITORY
from src.utils.errors import DataError
from tests.data.conftest import write_folder

CLOSED = "http://127.0.0.1:9"
NAMES = ["neg", "pos"]

pytestmark = pytest.mark.usefixtures("own_cache")


@contextmanager
def server(status: int, path: str = "/api/datasets/owner/name") -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == path else 500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies of its first use
    monkeypatch.setenv("HF_ENDPOINT", CLOSED)
    return monkeypatch


# Does the hub answer?


def test_the_hub_answers_when_it_knows_or_denies_the_corpus(online: pytest.MonkeyPatch) -> None:
    for status, expected in ((200, True), (401, True), (404, True), (403, False), (503, False)):
        with server(status) as url:
            online.setenv("HF_ENDPOINT", url + "/")
            assert hub.hub_answers("owner/name", timeout=30) is expected


def test_of_a_model_it_is_asked_for_a_model(online: pytest.MonkeyPatch) -> None:
    with server(200, "/api/models/owner/name") as url:
        online.setenv("HF_ENDPOINT", url)
        assert hub.hub_answers("owner/name", "models", timeout=30) and not hub.hub_answers("owner/name", timeout=30)


def test_the_hub_does_not_answer_where_nobody_listens_or_somebody_is_silent(online: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for endpoint in (CLOSED, "nonsense", f"http://127.0.0.1:{silent.getsockname()[1]}"):
            online.setenv("HF_ENDPOINT", endpoint)
            assert not hub.hub_answers("owner/name", timeout=0.3)


def test_a_hub_whose_certificate_this_python_does_not_know_answers(online: pytest.MonkeyPatch) -> None:
    for reason, expected in ((ssl.SSLCertVerificationError(), True), (OSError(), False)):

        def refuse(*_: Any, reason: OSError = reason, **__: Any) -> None:
            raise urllib.error.URLError(reason)

        online.setattr(urllib.request, "urlopen", refuse)
        assert hub.hub_answers("owner/name", timeout=30) is expected


def test_name_resolution_counts_against_the_time_limit(online: pytest.MonkeyPatch) -> None:
    released, finished = threading.Event(), threading.Event()

    def resolve(*_: Any, **__: Any) -> None:
        released.wait(60)
        finished.set()
        raise OSError("no such host")

    online.setattr(socket, "getaddrinfo", resolve)
    assert not hub.hub_answers("owner/name", timeout=0.2)
    assert not finished.is_set()
    released.set()
    assert finished.wait(60)


def test_the_hub_is_asked_through_the_proxy(online: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        online.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        online.setenv("no_proxy", "")
        online.setenv("HF_ENDPOINT", "http://hub.invalid")
        hub.hub_answers("owner/name", timeout=0.3)
        proxy.settimeout(60)
        connection, _ = proxy.accept()
        with connection:
            assert connection.recv(100).startswith(b"GET http://hub.invalid/api/datasets/owner/name ")


def test_under_hf_hub_offline_nothing_is_asked(online: pytest.MonkeyPatch) -> None:
    with server(200) as url:
        online.setenv("HF_ENDPOINT", url)
        for switch, asked in (("1", False), ("on", False), ("Yes", False), ("TRUE", False), ("0", True)):
            online.setenv("HF_HUB_OFFLINE", switch)
            assert hub.hub_answers("owner/name", timeout=30) is asked


# A corpus of the hub


def test_without_hub_and_cache_the_error_names_hub_reason_and_ways_out(online: pytest.MonkeyPatch) -> None:
    import datasets.config
    import huggingface_hub.constants

    modules: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    for module in modules:
        online.setattr(module, "HF_HUB_OFFLINE", False)
    for switch, facts in (("0", (CLOSED,)), ("1", ("https://huggingface.co", "HF_HUB_OFFLINE"))):
        online.setenv("HF_HUB_OFFLINE", switch)
        with pytest.raises(DataError) as caught:
            hub.load_hub("owner/name")
        ways_out = ("owner/name is not cached", "--dataset FOLDER", "SST2_DIR", "--dataset sample")
        assert all(fact in str(caught.value) for fact in (*facts, *ways_out))
        online.delenv("HF_ENDPOINT", raising=False)
    assert not any(module.HF_HUB_OFFLINE for module in modules)  # the libraries are online as before


def test_a_cached_corpus_opens_without_the_hub_and_says_so(tmp_path: Path) -> None:
    import datasets

    corpus = write_folder(tmp_path / "corpus", NAMES, train=[0, 1])
    built = datasets.load_dataset(str(corpus), cache_dir=str(tmp_path / "built"))["train"]
    arrow = Path(built.cache_files[0]["filename"])
    cached = tmp_path / "home" / "datasets" / "owner___name" / "default" / "0.0.0" / arrow.parent.name
    cached.mkdir(parents=True)
    info = (arrow.parent / "dataset_info.json").read_text()
    (cached / "dataset_info.json").write_text(
        info.replace(f'"config_name": "{built.config_name}"', '"config_name": "default"')
    )
    (cached / "name-train.arrow").write_bytes(arrow.read_bytes())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": CLOSED}
    # A fresh interpreter, because `datasets` reads HF_HOME when it is imported.
    code = "from src.data import hub; print([list(split['text']) for split in hub.load_hub('owner/name').values()])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.stdout == "[['train 0', 'train 1']]\n", done.stderr
    assert len(done.stderr.splitlines()) == 1 and CLOSED in done.stderr and "owner/name" in done.stderr


def test_whatever_load_dataset_raises_becomes_one_line(online: pytest.MonkeyPatch) -> None:
    import datasets

    def fail(_: str) -> None:
        raise KeyError("first line\nsecond line")

    online.setattr(datasets, "load_dataset", fail)
    online.setattr(hub, "hub_answers", lambda _: True)
    with pytest.raises(DataError) as caught:
        hub.load_hub("owner/name")
    assert all(fact in str(caught.value) for fact in ("owner/name", "second line", "--dataset sample"))
    assert "\n" not in str(caught.value)


# Folders


def test_a_relative_folder_named_like_something_else_is_the_folder(tmp_path: Path, online: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "neighbour", NAMES, test=[0, 1])
    online.chdir(tmp_path)
    for name in ("owner/name", "parquet"):
        write_folder(tmp_path / name, NAMES, train=[0, 1])
        path = hub.existing_path(name)
        assert path is not None and list(hub.load_folder(path)) == ["train"]


def test_a_folder_without_data_or_with_a_torn_file_is_refused(tmp_path: Path) -> None:
    torn = write_folder(tmp_path / "torn", NAMES, train=[0, 1])
    file = torn / "data" / "train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:100])
    (tmp_path / "empty").mkdir()
    for folder in (torn, tmp_path / "empty"):
        with pytest.raises(DataError) as caught:
            hub.load_folder(folder)
        assert str(caught.value).startswith(f"cannot load {folder}: ") and str(caught.value).endswith(str(folder))


def test_a_folder_is_read_silently_as_it_is_written_without_the_network(
    tmp_path: Path, online: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    online.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the network was used"))
    (tmp_path / "train-1.csv").write_text("text,label\n007,NA\n")
    (tmp_path / "train-2.csv").write_text("text,source\n1e5,b\n")
    (tmp_path / "test.csv").write_text("text,label\nfine,1\n")
    corpus = hub.load_folder(tmp_path)
    assert corpus["train"].to_list() == [
        {"text": "007", "label": "NA", "source": None},
        {"text": "1e5", "label": None, "source": "b"},
    ]
    assert corpus["test"].to_list() == [{"text": "fine", "label": "1"}]
    assert capfd.readouterr() == ("", "")


def test_a_column_of_several_kinds_of_values_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"text": "a", "label": 1}\n{"text": "b", "label": {"of": "another kind"}}\n')
    with pytest.raises(DataError) as caught:
        hub.load_folder(tmp_path)
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


def test_archives_and_files_from_elsewhere_are_refused(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside.csv", tmp_path / "corpus"
    folder.mkdir()
    outside.write_text("text,label\nfine,1\n")
    for name in ("train.csv.gz", "train.csv"):
        if name == "train.csv":
            (folder / name).symlink_to(outside)
        else:
            (folder / name).write_bytes(gzip.compress(outside.read_bytes()))
        with pytest.raises(DataError) as caught:
            hub.load_folder(folder)
        assert str(caught.value).startswith(f"{folder / name} is none of .parquet, .arrow, .txt, .csv")
        (folder / name).unlink()


# Splits


def test_a_split_is_read_with_numbered_rows_and_names_for_class_ids(tmp_path: Path) -> None:
    corpus = hub.load_folder(write_folder(tmp_path / "corpus", NAMES, train=[1, 0], test=[-1, -1, -1]))
    train, test = hub.read_split(corpus, "owner/name", "train"), hub.read_split(corpus, "owner/name", "test")
    assert [(row.line, row.cells) for row in train.rows] == [
        (1, {"text": "train 0", "label": "pos"}),
        (2, {"text": "train 1", "label": "neg"}),
    ]
    assert [row.cells["label"] for row in test.rows] == [None, None, None]
    assert (train.origin, train.place) == ("owner/name, split train", "owner/name, split train, row ")
    assert train.class_names == {"label": ("neg", "pos")}
    stand_in = hub.read_split(corpus, "name", "validation")  # only where there is none
    assert len(stand_in.rows) == 3 and stand_in.origin.startswith("name, split test")
    having = hub.load_folder(write_folder(tmp_path / "having", NAMES, train=[0, 1], test=[1, 0], validation=[0, 1]))
    assert hub.read_split(having, "name", "validation").origin == "name, split validation"
    with pytest.raises(DataError, match=r"name has no split dev .*train, test"):
        hub.read_split(corpus, "name", "dev")


# Paths and hub ids


def test_a_name_is_a_hub_id_unless_it_looks_like_a_path() -> None:
    for source in ("stanfordnlp/sst2", "a.b/c-d_e"):
        assert hub.existing_path(source) is None
    for source in ("", "sst2", "./owner/name", "/owner/name", "~/name", "a/b/c", "a/b.JSONL", "a b/c", "x" * 5000):
        with pytest.raises(DataError, match="does not exist"):
            hub.existing_path(source)
