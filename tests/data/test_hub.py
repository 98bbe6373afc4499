import gzip
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import datasets
import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError

from src.data import hub
from src.data.sources import open_corpus
from src.utils.config import REPOSITORY, DataConfig
from src.utils.errors import DataError
from tests.data.conftest import opened, parquet, write, write_folder

XY = [("x", "a"), ("y", "b")]
CLOSED = "http://127.0.0.1:9"
NAMES = ["neg", "pos"]

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Switches the hub on, and lets it be at an address where nobody listens."""
    for module in (huggingface_hub.constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", CLOSED)
    return monkeypatch


@pytest.mark.parametrize(("status", "expected"), [(200, True), (401, True), (404, True), (403, False), (503, False)])
def test_the_hub_answers_when_it_knows_or_denies_the_repository(
    status: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def repo_info(_: Any, name: str, repo_type: str, timeout: float) -> None:
        assert (name, repo_type) == ("owner/name", "model") and timeout < 10
        if status != 200:
            raise HfHubHTTPError("", response=Mock(status_code=status))

    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", repo_info)
    assert hub.hub_answers("owner/name", "model") is expected


def test_the_hub_does_not_answer_where_nobody_listens_or_somebody_is_silent_or_it_is_switched_off(
    online: pytest.MonkeyPatch,
) -> None:
    online.setattr(hub, "PROBE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for endpoint in (CLOSED, "nonsense", f"http://127.0.0.1:{silent.getsockname()[1]}"):
            online.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
            assert not hub.hub_answers("owner/name")
    online.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    online.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the network was used"))
    assert not hub.hub_answers("owner/name")


def test_without_hub_and_cache_or_whatever_datasets_raises_the_error_is_one_line(online: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=rf"owner/name.*{CLOSED}.*name another"):
        hub.load_hub("owner/name")
    # The libraries are online as before.
    assert not huggingface_hub.constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE

    def fail(_: str, __: None) -> None:
        raise ValueError("first line\nsecond line")

    online.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"owner/name.*first line second line"):
        hub.load_hub("owner/name")


def test_a_cached_corpus_opens_without_the_hub_and_says_so(tmp_path: Path) -> None:
    corpus = write_folder(tmp_path / "corpus", NAMES, train=[0, 1])
    built = datasets.load_dataset(str(corpus), cache_dir=str(tmp_path / "built"))["train"]
    arrow = Path(built.cache_files[0]["filename"])
    cached = tmp_path / "home" / "datasets" / "owner___name" / "default" / "0.0.0" / arrow.parent.name
    info = (arrow.parent / "dataset_info.json").read_text()
    config_name = f'"config_name": "{built.config_name}"'
    write(cached, "dataset_info.json", info.replace(config_name, '"config_name": "default"'))
    write(cached, "name-train.arrow", arrow.read_bytes())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": CLOSED}
    # A fresh interpreter, because `datasets` reads HF_HOME when it is imported.
    code = "from src.data import hub; from src.utils.cli import set_up_logging; set_up_logging(); "
    code += "print([list(split['text']) for split in hub.load_hub('owner/name').values()])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.stdout == "[['train 0', 'train 1']]\n", done.stderr
    assert len(done.stderr.splitlines()) == 1 and CLOSED in done.stderr and "owner/name" in done.stderr


def test_a_relative_folder_named_like_something_else_is_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("owner/name", "parquet"):
        write_folder(tmp_path / name, NAMES, train=[0, 1])
        path = hub.existing_path(name)
        assert path is not None and list(hub.load_folder(path)) == ["train"]


def test_a_folder_is_read_silently_as_it_is_written_without_the_network(
    tmp_path: Path, online: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    online.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the network was used"))
    write(tmp_path, "train-1.csv", "text,label\n007,NA\n")
    write(tmp_path, "train-2.csv", "text,source\n1e5,b\n")
    write(tmp_path, "test.csv", "text,label\nfine,1\n")
    corpus = hub.load_folder(tmp_path)
    first, second = {"text": "007", "label": "NA", "source": None}, {"text": "1e5", "label": None, "source": "b"}
    assert corpus["train"].to_list() == [first, second]
    assert corpus["test"].to_list() == [{"text": "fine", "label": "1"}]
    assert capfd.readouterr() == ("", "")


def test_a_split_is_read_with_numbered_rows_and_names_for_class_ids(tmp_path: Path) -> None:
    corpus = hub.load_folder(write_folder(tmp_path / "corpus", NAMES, train=[1, 0], test=[-1, -1, -1]))
    train, test = hub.read_split(corpus, "owner/name", "train"), hub.read_split(corpus, "owner/name", "test")
    assert train.rows == [
        ("owner/name, split train, row 1", {"text": "train 0", "label": "pos"}),
        ("owner/name, split train, row 2", {"text": "train 1", "label": "neg"}),
    ]
    assert [row.cells["label"] for row in test.rows] == [None, None, None]
    assert train.origin == "owner/name, split train" and train.class_names == {"label": ("neg", "pos")}
    replaced = hub.read_split(corpus, "name", "validation")  # only where there is none
    assert len(replaced.rows) == 3 and replaced.origin.startswith("name, split test")
    having = hub.load_folder(write_folder(tmp_path / "having", NAMES, train=[0, 1], test=[1, 0], validation=[0, 1]))
    assert hub.read_split(having, "name", "validation").origin == "name, split validation"
    with pytest.raises(DataError, match=r"name has no split dev .*train, test"):
        hub.read_split(corpus, "name", "dev")


def test_a_name_is_a_hub_id_unless_it_looks_like_a_path() -> None:
    for source in ("stanfordnlp/sst2", "a.b/c-d_e"):
        assert hub.existing_path(source) is None
    for source in ("", "sst2", "./owner/name", "/owner/name", "~/name", "a/b/c", "a/b.JSONL", "a b/c", "x" * 5000):
        with pytest.raises(DataError, match="does not exist"):
            hub.existing_path(source)


def test_a_configuration_of_a_corpus_is_named_behind_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load(*names: str | None) -> dict[str, Any]:
        asked.append(names)
        return {"train": datasets.Dataset.from_dict({"text": ["x", "y"], "label": ["a", "b"]})}

    monkeypatch.setattr(hub, "hub_answers", lambda name: name == "nyu-mll/glue")
    monkeypatch.setattr(datasets, "load_dataset", load)
    corpus = open_corpus(DataConfig(dataset="nyu-mll/glue:sst2"), ("train",))
    assert asked == [("nyu-mll/glue", "sst2")] and corpus.source.dataset == corpus.name == "nyu-mll/glue:sst2"


LINKS: dict[str, Callable[[Path], tuple[Path, Path]]] = {
    "next to the folder": lambda root: (root / "folder", root / "blobs"),
    "hub cache": lambda root: (root / "datasets--a--b/snapshots/1234", root / "datasets--a--b/blobs"),
    "DVC": lambda root: (root / "project/data", root / "project/.dvc/cache/files/md5/ab"),
    "git-annex": lambda root: (root / "project/data", root / "project/.git/annex/objects/ab/cd"),
}


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
@pytest.mark.parametrize("layout", LINKS.values(), ids=LINKS)
def test_a_folder_of_links_into_a_store_is_read_as_is_one_link(
    layout: Callable[[Path], tuple[Path, Path]], suffix: str, tmp_path: Path
) -> None:
    folder, store = layout(tmp_path)
    folder.mkdir(parents=True)
    text = b"text,label\nx,a\ny,b\n"
    contents = {
        ".csv": text,
        ".csv.gz": gzip.compress(text),
        ".parquet": parquet({"text": ["x", "y"], "label": ["a", "b"]}),
    }
    for split in ("train", "validation"):
        (folder / f"{split}{suffix}").symlink_to(write(store, f"{split}0123", contents[suffix]))
    assert opened(folder) == XY
    source = open_corpus(DataConfig(dataset=str(folder / f"train{suffix}")), ("validation",)).source
    assert source.train_file is not None
    assert opened(folder / f"train{suffix}") == opened(source.train_file) == XY
