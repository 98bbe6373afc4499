"""Corpora in the Hugging Face hub's layout, from the hub or a local folder, through `datasets`.

Without a network `load_dataset` retries for 23 seconds before it fails, so the hub is asked first whether it answers.
"""

import http.client
import os
import re
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from src.data.readers import SUFFIXES, TEXT_SUFFIX, RawSplit, Row, read_rows
from src.utils.errors import DataError, notice
from src.utils.files import local_path

PROBE_SECONDS = 4.0
REMEDY = "check the network, or name a folder (--dataset FOLDER, SST2_DIR), or take --dataset sample"
FOLDER_SUFFIXES = (".parquet", ".arrow", TEXT_SUFFIX, *SUFFIXES)
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+")


def existing_path(source: str) -> Path | None:
    """Tells a path from a hub id, so that a mistyped path never becomes a look-up in the hub.

    Args:
        source: what the user named.

    Returns:
        The path, which exists; None for a hub id.

    Raises:
        DataError: neither.
    """
    if (path := local_path(source)) is not None:
        return path
    if HUB_ID.fullmatch(source) and Path(source).suffix.lower() not in (*SUFFIXES, TEXT_SUFFIX):
        return None
    raise DataError(f"{source!r} does not exist, and is no hub id like stanfordnlp/sst2; check the spelling")


def load_folder(folder: Path) -> dict[str, Any]:
    """Opens a folder in the hub's layout without touching the network.

    CSV, TSV and JSONL are read by our strict readers: those of `datasets` make numbers and dates of texts.

    Args:
        folder: existing folder with parquet (or other) files, as a hub repository holds them.

    Returns:
        `datasets.Dataset` by split name; rows of other kinds of files stay on disk until they are read.

    Raises:
        DataError: `datasets` cannot make a corpus of the folder, or one would hold archives or files from elsewhere.
    """
    # Resolved, because `datasets` takes the bare names csv, json, parquet and text for its own readers.
    home, remedy = folder.resolve(), f"name a folder in the hub's layout instead of {folder}"
    with _offline():
        builder = _ask(lambda datasets: datasets.load_dataset_builder(str(home)), str(home), remedy)
        found = builder.config.data_files or {}
        files = {str(split): [Path(file) for file in of_split] for split, of_split in found.items()}
        for file in (file for of_split in files.values() for file in of_split):
            if file.suffix.lower() not in FOLDER_SUFFIXES or not file.resolve().is_relative_to(home):
                kinds = ", ".join(FOLDER_SUFFIXES)
                raise DataError(f"{file} is none of {kinds} inside {folder}; unpack it, or put the file itself there")
        if all(file.suffix.lower() in SUFFIXES for of_split in files.values() for file in of_split):
            return {split: _read_strictly(of_split) for split, of_split in files.items()}
        return _ask(lambda _: _prepared(builder), str(home), remedy)


def load_hub(dataset_id: str, remedy: str = REMEDY) -> dict[str, Any]:
    """Opens a corpus of the hub, or its copy in the local cache when the hub does not answer.

    Args:
        dataset_id: "owner/name".
        remedy: what an error tells to do.

    Returns:
        `datasets.Dataset` by split name; rows stay on disk until they are read.

    Raises:
        DataError: the hub does not answer within seconds and nothing is cached, or the corpus cannot be loaded.
    """
    if hub_answers(dataset_id):
        return _load(dataset_id, remedy)
    with _offline():
        try:
            corpus = _load(dataset_id, remedy)
        except DataError:
            state = "is switched off by HF_HUB_OFFLINE" if _switched_off() else "does not answer"
            raise DataError(f"{_endpoint()} {state} and {dataset_id} is not cached here; {remedy}") from None
    notice(f"{_endpoint()} is not asked or does not answer; reading the cached copy of {dataset_id}")
    return corpus


def read_split(corpus: dict[str, Any], name: str, split: str) -> RawSplit:
    """Reads one split into memory; the test split stands in for a validation split that is not there.

    Args:
        corpus: `datasets.Dataset` by split name.
        name: the corpus, as messages name it.
        split: the split to read.

    Returns:
        The rows, numbered from 1, class ids replaced by their names, and by None where they are -1.

    Raises:
        DataError: there is no such split, or a row is of a class that is not declared.
    """
    origin = f"{name}, split {split}"
    if split == "validation" and split not in corpus and "test" in corpus:
        origin, split = f"{name}, split test (it has no validation split)", "test"
    dataset = split_of(corpus, name, split)
    names = {column: tuple(kind.names) for column, kind in dataset.features.items() if hasattr(kind, "names")}
    rows = [Row(number, cells) for number, cells in enumerate(dataset.to_list(), start=1)]
    for column in names:
        for row in rows:
            index = row.cells[column]
            if index is not None and index >= len(names[column]):
                raise DataError(f"{origin}, row {row.line}: {column} {index} is none of {len(names[column])} classes")
            row.cells[column] = None if index is None or index < 0 else names[column][index]
    return RawSplit(origin, f"{origin}, row ", rows, names)


def split_of(corpus: dict[str, Any], name: str, split: str) -> Any:
    """Finds a split that has rows.

    Args:
        corpus: `datasets.Dataset` by split name.
        name: the corpus, as messages name it.
        split: the split.

    Returns:
        The `datasets.Dataset`; its rows stay on disk until they are read.

    Raises:
        DataError: there is no such split.
    """
    if not corpus.get(split):
        there = ", ".join(corpus)
        raise DataError(f"{name} has no split {split} with rows in it; it has {there}: name one of these")
    return corpus[split]


def hub_answers(hub_id: str, kind: Literal["datasets", "models"] = "datasets", timeout: float = PROBE_SECONDS) -> bool:
    """Asks the hub (environment variable HF_ENDPOINT) for a corpus or model, by the proxies that the environment names.

    Args:
        hub_id: "owner/name".
        kind: what it names.
        timeout: seconds until silence counts as no, name resolution included.

    Returns:
        Whether the hub answered, be it that it knows no such thing; always False under HF_HUB_OFFLINE.
    """
    if _switched_off():
        return False
    deadline = time.monotonic() + timeout
    answers: list[bool] = []
    url = f"{_endpoint()}/api/{kind}/{hub_id}"
    # A thread, because no timeout of urllib covers name resolution.
    probe = threading.Thread(target=lambda: answers.append(_request_succeeds(url, timeout)), daemon=True)
    probe.start()
    import datasets  # noqa: F401  # costs a second that passes while the hub thinks

    probe.join(max(0.0, deadline - time.monotonic()))
    return answers == [True]


def _request_succeeds(url: str, timeout: float) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=timeout):
            return True
    except urllib.error.HTTPError as error:
        # So the hub answers for what is private or does not exist; `datasets` says it better than we can.
        with error:
            return error.code in (401, 404)
    except urllib.error.URLError as error:
        # Somebody is there; `datasets` brings certificates of its own, which this Python may lack.
        return isinstance(error.reason, ssl.SSLCertVerificationError)
    except (OSError, ValueError, http.client.HTTPException):
        return False


def _switched_off() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


@contextmanager
def _offline() -> Iterator[None]:
    """Keeps `datasets` off the network; it reads HF_HUB_OFFLINE only when imported, which may long be past."""
    import datasets.config
    import huggingface_hub.constants

    modules: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [module.HF_HUB_OFFLINE for module in modules]
    for module in modules:
        module.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = value


def _read_strictly(files: list[Path]) -> Any:
    import datasets

    rows = [row.cells for file in files for row in read_rows(file)]
    columns = {column: [cells.get(column) for cells in rows] for column in {name: None for row in rows for name in row}}
    try:
        return datasets.Dataset.from_dict(columns)
    except Exception as error:  # PyArrow's, of a column that holds several kinds of values
        raise DataError(f"{files[0]}: {' '.join(str(error).split())[:300]}; give a column one kind of values") from None


def _prepared(builder: Any) -> dict[str, Any]:
    builder.download_and_prepare()
    return dict(builder.as_dataset())


def _load(path: str, remedy: str) -> dict[str, Any]:
    return dict(_ask(lambda datasets: datasets.load_dataset(path), path, remedy))


def _ask(question: Callable[[Any], Any], path: str, remedy: str) -> Any:
    """Asks `datasets` something with its bars and warnings off, and turns all its errors into one."""
    import datasets
    import huggingface_hub.utils

    libraries: tuple[Any, ...] = (datasets, huggingface_hub.utils)
    for library in libraries:
        library.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        return question(datasets)
    except Exception as error:  # whatever a corpus, a cache or a server does wrong
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"cannot load {path}: {reason}; {remedy}") from None
