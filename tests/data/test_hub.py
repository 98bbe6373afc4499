import gzip
import http.server
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from src.data import hub
from src.utils.errors import DataError

REPOSITORY = Path(__file__).resolve().parents[2]
CLOSED = "http://127.0.0.1:9"

# A fresh interpreter, because `datasets` reads its environment when it is imported.
OPEN = """
import sys, time
{before}
start = time.monotonic()
from src.data.hub import load_hub
from src.utils.errors import DataError
try:
    print("loaded", {{name: list(split["text"]) for name, split in load_hub("owner/name").items()}})
except DataError as error:
    print("DataError", error)
print("seconds", time.monotonic() - start)
"""


def open_in_new_process(folder: Path, before: str = "", **environment: str) -> tuple[str, float, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    clean |= {"HF_HOME": str(folder / "home"), "HF_ENDPOINT": CLOSED, **environment}
    command = [sys.executable, "-c", OPEN.format(before=before)]
    done = subprocess.run(command, cwd=REPOSITORY, env=clean, capture_output=True, text=True, check=True)
    answer, seconds = done.stdout.strip().rsplit("\nseconds ", 1)
    return answer, float(seconds), done.stderr


def write_corpus(folder: Path, **splits: list[int]) -> Path:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    for split, labels in splits.items():
        columns = {"text": [f"{split} {row}" for row in range(len(labels))], "label": labels}
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(columns, features=features).to_parquet(path)
    return folder


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
        threading.Thread(target=running.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies of its first use
    return monkeypatch


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("status, expected", [(200, True), (401, True), (404, True), (403, False), (503, False)])
def test_the_hub_answers_when_it_knows_or_denies_the_corpus(
    online: pytest.MonkeyPatch, status: int, expected: bool
) -> None:
    with server(status) as url:
        online.setenv("HF_ENDPOINT", url + "/")
        assert hub.hub_answers("owner/name") is expected


def test_of_a_model_it_is_asked_for_a_model(online: pytest.MonkeyPatch) -> None:
    with server(200, "/api/models/owner/name") as url:
        online.setenv("HF_ENDPOINT", url)
        assert hub.hub_answers("owner/name", "models") and not hub.hub_answers("owner/name")


@pytest.mark.parametrize("endpoint", [CLOSED, "http://no-such-host.invalid", "nonsense"])
def test_the_hub_does_not_answer_where_nobody_listens(online: pytest.MonkeyPatch, endpoint: str) -> None:
    online.setenv("HF_ENDPOINT", endpoint)
    assert not hub.hub_answers("owner/name")


def test_a_hub_that_accepts_and_keeps_silent_counts_as_no_answer_in_time(online: pytest.MonkeyPatch) -> None:
    import datasets  # noqa: F401  # its import is not what is timed

    with socket.create_server(("127.0.0.1", 0)) as silent:
        online.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        assert not hub.hub_answers("owner/name", timeout=0.3)
        assert time.monotonic() - start < 1


def test_name_resolution_counts_against_the_time_limit(online: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def resolve(*_: Any, **__: Any) -> None:
        released.wait(5)
        raise OSError("no such host")

    online.setattr(socket, "getaddrinfo", resolve)
    start = time.monotonic()
    assert not hub.hub_answers("owner/name", timeout=0.2)
    assert time.monotonic() - start < 1
    released.set()


def test_the_hub_is_asked_through_the_proxy(online: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        online.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        online.setenv("no_proxy", "")
        online.setenv("HF_ENDPOINT", "http://hub.invalid")
        hub.hub_answers("owner/name", timeout=0.3)
        proxy.settimeout(5)
        connection, _ = proxy.accept()
        with connection:
            assert connection.recv(100).startswith(b"GET http://hub.invalid/api/datasets/owner/name ")


@pytest.mark.parametrize("switch", ["1", "on", "Yes", "TRUE"])
def test_under_hf_hub_offline_nothing_is_asked(online: pytest.MonkeyPatch, switch: str) -> None:
    with server(200) as url:
        online.setenv("HF_ENDPOINT", url)
        online.setenv("HF_HUB_OFFLINE", switch)
        assert not hub.hub_answers("owner/name")
        online.setenv("HF_HUB_OFFLINE", "0")
        assert hub.hub_answers("owner/name")


@pytest.mark.parametrize(
    "environment, said",
    [
        ({"HF_ENDPOINT": CLOSED + "/"}, f"{CLOSED} does not answer and owner/name is not cached here; {hub.REMEDY}"),
        (
            {"HF_HUB_OFFLINE": "1"},
            "https://huggingface.co is switched off by HF_HUB_OFFLINE and owner/name is not cached",
        ),
    ],
    ids=["closed", "switched_off"],
)
def test_the_message_names_hub_and_reason(online: pytest.MonkeyPatch, environment: dict[str, str], said: str) -> None:
    online.delenv("HF_ENDPOINT", raising=False)
    for name, value in environment.items():
        online.setenv(name, value)
    with pytest.raises(DataError) as caught:
        hub.load_hub("owner/name")
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("before", ["", "import datasets, huggingface_hub"], ids=["fresh", "already_imported"])
def test_without_hub_and_cache_it_fails_within_five_seconds(tmp_path: Path, before: str) -> None:
    answer, seconds, _ = open_in_new_process(tmp_path, before)
    assert answer.startswith(f"DataError {CLOSED} does not answer and owner/name is not cached here; check the network")
    assert "--dataset FOLDER" in answer and "SST2_DIR" in answer and "--dataset sample" in answer
    assert seconds < 5


def test_with_a_silent_hub_it_fails_within_five_seconds_of_asking(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        answer, seconds, _ = open_in_new_process(tmp_path, HF_ENDPOINT=endpoint)
    assert "does not answer and owner/name is not cached" in answer
    assert hub.PROBE_SECONDS <= seconds < 5


def test_switched_off_by_the_environment_is_what_the_message_says(tmp_path: Path) -> None:
    answer, _, _ = open_in_new_process(tmp_path, HF_HUB_OFFLINE="1")
    assert "is switched off by HF_HUB_OFFLINE and owner/name is not cached" in answer


@pytest.mark.parametrize("before", ["", "import datasets, huggingface_hub"], ids=["fresh", "already_imported"])
def test_a_cached_corpus_opens_without_the_hub_and_says_so(tmp_path: Path, before: str) -> None:
    import datasets

    corpus = write_corpus(tmp_path / "corpus", train=[0, 1])
    built = datasets.load_dataset(str(corpus), cache_dir=str(tmp_path / "built"))["train"]
    arrow = Path(built.cache_files[0]["filename"])
    cached = tmp_path / "home" / "datasets" / "owner___name" / "default" / "0.0.0" / arrow.parent.name
    cached.mkdir(parents=True)
    info = (arrow.parent / "dataset_info.json").read_text()
    (cached / "dataset_info.json").write_text(
        info.replace(f'"config_name": "{built.config_name}"', '"config_name": "default"')
    )
    (cached / "name-train.arrow").write_bytes(arrow.read_bytes())
    answer, seconds, stderr = open_in_new_process(tmp_path, before)
    assert answer == "loaded {'train': ['train 0', 'train 1']}"
    assert stderr == f"{CLOSED} is not asked or does not answer; reading the cached copy of owner/name\n"
    assert seconds < 5


def test_looking_into_the_cache_leaves_the_libraries_online(online: pytest.MonkeyPatch) -> None:
    import datasets.config
    import huggingface_hub.constants

    online.setenv("HF_ENDPOINT", CLOSED)
    online.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    online.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(DataError, match="is not cached"):
        hub.load_hub("owner/name")
    assert datasets.config.HF_HUB_OFFLINE is huggingface_hub.constants.HF_HUB_OFFLINE is False


def test_whatever_load_dataset_raises_becomes_one_line(online: pytest.MonkeyPatch) -> None:
    import datasets

    def fail(_: str) -> None:
        raise KeyError("first line\nsecond line")

    online.setattr(datasets, "load_dataset", fail)
    online.setattr(hub, "hub_answers", lambda _: True)
    with pytest.raises(DataError) as caught:
        hub.load_hub("owner/name")
    assert str(caught.value).startswith("cannot load owner/name: ") and "second line" in str(caught.value)
    assert "\n" not in str(caught.value) and "--dataset sample" in str(caught.value)


def test_a_folder_in_the_hubs_layout_opens_silently_without_the_network(
    tmp_path: Path, online: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was used")

    folder = write_corpus(tmp_path / "corpus", train=[0, 1, 1], test=[1, 0])
    capfd.readouterr()
    online.setattr(socket, "getaddrinfo", refuse)
    corpus = hub.load_folder(folder)
    assert {split: len(rows) for split, rows in corpus.items()} == {"train": 3, "test": 2}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["owner/name", "parquet"])
def test_a_relative_folder_named_like_something_else_is_the_folder(
    tmp_path: Path, online: pytest.MonkeyPatch, name: str
) -> None:
    write_corpus(tmp_path / name, train=[0, 1])
    write_corpus(tmp_path / "neighbour", test=[0, 1])
    online.chdir(tmp_path)
    path = hub.existing_path(name)
    assert path is not None and list(hub.load_folder(path)) == ["train"]


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot load .*; name a folder in the hub's layout"):
        hub.load_folder(tmp_path)


def test_a_folder_that_cannot_be_read_is_named_with_a_remedy(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "corpus", train=[0, 1])
    file = folder / "data" / "train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError) as caught:
        hub.load_folder(folder)
    assert str(caught.value).startswith(f"cannot load {folder}: ")
    assert str(caught.value).endswith(f"; name a folder in the hub's layout instead of {folder}")


def test_a_folder_of_texts_is_read_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "train-1.csv").write_text("text,label\n007,NA\n")
    (tmp_path / "train-2.csv").write_text("text,source\n1e5,b\n")
    (tmp_path / "test.csv").write_text("text,label\nfine,1\n")
    corpus = hub.load_folder(tmp_path)
    assert corpus["train"].to_list() == [
        {"text": "007", "label": "NA", "source": None},
        {"text": "1e5", "label": None, "source": "b"},
    ]
    assert corpus["test"].to_list() == [{"text": "fine", "label": "1"}]


def test_a_column_of_several_kinds_of_values_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"text": "a", "label": 1}\n{"text": "b", "label": {"of": "another kind"}}\n')
    with pytest.raises(DataError) as caught:
        hub.load_folder(tmp_path)
    assert re.fullmatch(rf"{file}: \S+( \S+)+; give a column one kind of values", str(caught.value))


@pytest.mark.parametrize("elsewhere", [False, True], ids=["archive", "link"])
def test_archives_and_files_from_elsewhere_are_refused(tmp_path: Path, elsewhere: bool) -> None:
    outside, folder = tmp_path / "outside.csv", tmp_path / "corpus"
    folder.mkdir()
    outside.write_text("text,label\nfine,1\n")
    file = folder / ("train.csv" if elsewhere else "train.csv.gz")
    if elsewhere:
        file.symlink_to(outside)
    else:
        file.write_bytes(gzip.compress(outside.read_bytes()))
    with pytest.raises(DataError) as caught:
        hub.load_folder(folder)
    kinds = ".parquet, .arrow, .txt, .csv, .tsv, .jsonl, .json"
    assert str(caught.value) == f"{file} is none of {kinds} inside {folder}; unpack it, or put the file itself there"


@pytest.mark.parametrize("index", [2, 9])
def test_a_class_that_is_not_declared_is_refused_with_its_row(tmp_path: Path, index: int) -> None:
    import datasets

    corpus = hub.load_folder(write_corpus(tmp_path / "corpus", train=[0, 1]))
    table = corpus["train"].data.table.set_column(1, "label", [[0, index]])
    lying = {"train": datasets.Dataset(datasets.table.InMemoryTable(table), info=corpus["train"].info)}
    with pytest.raises(DataError, match=f"^owner/name, split train, row 2: label {index} is none of 2 classes$"):
        hub.read_split(lying, "owner/name", "train")


def test_a_split_is_read_with_numbered_rows_and_names_for_class_ids(tmp_path: Path) -> None:
    corpus = hub.load_folder(write_corpus(tmp_path / "corpus", train=[1, 0], test=[-1, -1]))
    train, test = hub.read_split(corpus, "owner/name", "train"), hub.read_split(corpus, "owner/name", "test")
    assert [(row.line, row.cells) for row in train.rows] == [
        (1, {"text": "train 0", "label": "pos"}),
        (2, {"text": "train 1", "label": "neg"}),
    ]
    assert [row.cells["label"] for row in test.rows] == [None, None]
    assert (train.origin, train.place) == ("owner/name, split train", "owner/name, split train, row ")
    assert train.class_names == {"label": ("neg", "pos")}


def test_the_test_split_stands_in_for_validation_only_where_there_is_none(tmp_path: Path) -> None:
    without = hub.load_folder(write_corpus(tmp_path / "without", train=[0, 1], test=[1, 0, 1]))
    stand_in = hub.read_split(without, "name", "validation")
    assert (len(stand_in.rows), stand_in.origin) == (3, "name, split test (it has no validation split)")
    having = hub.load_folder(write_corpus(tmp_path / "having", train=[0, 1], test=[1, 0, 1], validation=[0, 1]))
    assert hub.read_split(having, "name", "validation").origin == "name, split validation"


def test_an_unknown_split_is_refused_with_those_there_are(tmp_path: Path) -> None:
    corpus = hub.load_folder(write_corpus(tmp_path / "corpus", train=[0, 1]))
    with pytest.raises(DataError, match=r"name has no split validation .*; it has train, other: name one of these"):
        hub.read_split({**corpus, "other": corpus["train"]}, "name", "validation")


@pytest.mark.parametrize("source", ["stanfordnlp/sst2", "a.b/c-d_e"])
def test_a_namespaced_name_that_is_no_path_is_a_hub_id(source: str) -> None:
    assert hub.existing_path(source) is None


@pytest.mark.parametrize(
    "source",
    [
        "",
        "sst2",
        "./owner/name",
        "../name",
        "/owner/name",
        "~/name",
        "a/b/c",
        "a/",
        "data/rows.csv",
        "a/b.JSONL",
        "a b/c",
        "x" * 5000,
    ],
    ids=lambda source: source[:20] or "empty",
)
def test_what_looks_like_a_path_but_is_not_there_is_never_a_hub_id(source: str) -> None:
    with pytest.raises(DataError, match="does not exist"):
        hub.existing_path(source)
