"""Corpora in the Hugging Face hub's layout, from the hub or a local folder, through `datasets`."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from src.data.readers import FORMATS, Row, Table, class_files, read_table, table_suffix
from src.utils.config import TableConfig
from src.utils.errors import DataError
from src.utils.files import local_path

logger = logging.getLogger(__name__)
PROBE_SECONDS = 4.0
TABLE_SUFFIXES = (*FORMATS, ".arrow")
STORES = ("blobs", ".dvc/cache", ".git/annex/objects")  # to which the hub's cache, DVC and git-annex link
TEXT_SUFFIX = ".txt"  # of plain text, which pre-training reads
METADATA = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "config.json")
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+")


def existing_path(source: str) -> Path | None:
    """Returns the path that a user named, or None for a hub id; refuses what is neither, such as a mistyped path."""
    if (path := local_path(source)) is not None:
        if path.is_file() or path.is_dir():
            return path
        raise DataError(f"{source} is a device or a pipe; name a file or a folder")
    hub_id = source.partition(":")[0]
    if HUB_ID.fullmatch(hub_id) and table_suffix(Path(hub_id)) not in (*FORMATS, TEXT_SUFFIX):
        return None
    raise DataError(f"{source!r} does not exist, and is no hub id like stanfordnlp/sst2; check the spelling")


def hub_answers(hub_id: str, repo_type: Literal["dataset", "model"] = "dataset") -> bool:
    """Tells whether the hub answers when it is asked for a repository, even if there is none.

    Without a network `datasets` would retry for 23 seconds, and without an answer wait for 100.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().repo_info(hub_id, repo_type=repo_type, timeout=PROBE_SECONDS)
    except HfHubHTTPError as error:
        return error.response.status_code in (401, 404)
    except Exception:  # errors of the network have no common base; HF_HUB_OFFLINE is one, too
        return False
    return True


def load_hub(dataset_id: str) -> dict[str, Any]:
    """Opens a corpus of the hub, ID or ID:CONFIG, or its copy in the local cache when the hub does not answer.

    Returns:
        `datasets.Dataset` by split name; rows stay on disk until they are read.
    """
    import datasets
    from huggingface_hub.constants import ENDPOINT

    hub_id, _, configuration = dataset_id.partition(":")
    offline = not hub_answers(hub_id)
    silent = f"{ENDPOINT} does not answer, or HF_HUB_OFFLINE is set"
    with _quiet(f"{dataset_id} from the cache ({silent})" if offline else dataset_id, offline):
        corpus = dict(datasets.load_dataset(hub_id, configuration or None))
    if offline:
        logger.info(f"{silent}; reading the cached copy of {dataset_id}")
    return corpus


def load_folder(folder: Path, config: TableConfig | None = None) -> dict[str, Any]:
    """Opens a folder in the hub's layout without the network, as `load_hub` returns it.

    CSV, TSV and JSON are read by our strict readers: those of `datasets` make numbers and dates of texts. A folder of
    `class_files` is a split, too. Archives and files from elsewhere, but for `STORES` above the folder, are refused.
    """
    import datasets

    # Resolved, because `datasets` takes the bare names csv, json, parquet and text for its own readers.
    home = folder.resolve()
    homes = [home, *(parent / store for parent in home.parents for store in STORES)]
    with _quiet(str(home), offline=True):
        files = {split.name: [split] for split in sorted(home.iterdir()) if split.is_dir() and class_files(split)}
        if not files:
            builder = datasets.load_dataset_builder(str(home))
            found = builder.config.data_files or {}
            files = {str(split): [Path(file) for file in of_split] for split, of_split in found.items()}
            every = [file for of_split in files.values() for file in of_split]
            kinds = (*TABLE_SUFFIXES, TEXT_SUFFIX)
            for file in every:
                if table_suffix(file) not in kinds or not any(map(file.resolve().is_relative_to, homes)):
                    raise DataError(f"{file} is none of {', '.join(kinds)} inside {folder}; unpack it, or put it there")
            read = {*map(table_suffix, every)}
            beside = {other for file in every for other in file.parent.iterdir() if other.name not in METADATA}
            if lost := [other for other in sorted(beside) if table_suffix(other) in FORMATS.keys() - read]:
                raise DataError(f"{lost[0]} is not read beside {', '.join(read)} files; move it, or convert it")
            if not all(table_suffix(file) in FORMATS.keys() - {".parquet"} for file in every):
                builder.download_and_prepare()
                return dict(builder.as_dataset())
        corpus = {}
        for split, of_split in files.items():
            rows = [row.cells for file in of_split for row in read_table(file, config).rows]
            names = dict.fromkeys(name for cells in rows for name in cells)
            corpus[split] = datasets.Dataset.from_dict({name: [cells.get(name) for cells in rows] for name in names})
        return corpus


def find_split(corpus: dict[str, Any], name: str, split: str) -> Any:
    """Returns the `datasets.Dataset` of a split, which the corpus must have; `name` is the corpus in messages."""
    if not corpus.get(split):
        there = ", ".join(corpus)
        raise DataError(f"{name} has no split {split} with rows in it; it has {there}: name one of these")
    return corpus[split]


def read_split(corpus: dict[str, Any], name: str, split: str) -> Table:
    """Reads a split into memory; the test split replaces a validation split that is not there.

    In the rows, the names of classes replace their ids, and None replaces -1.
    """
    origin = f"{name}, split {split}"
    if split == "validation" and split not in corpus and "test" in corpus:
        origin, split = f"{name}, split test (it has no validation split)", "test"
    dataset = find_split(corpus, name, split)
    # Of a list, the kind of its elements.
    kinds = {column: getattr(kind, "feature", kind) for column, kind in dataset.features.items()}
    class_names = {column: tuple(kind.names) for column, kind in kinds.items() if hasattr(kind, "names")}
    rows = [Row(f"{origin}, row {number}", cells) for number, cells in enumerate(dataset.to_list(), start=1)]
    return Table(origin, rows, class_names).with_class_names()


@contextmanager
def _quiet(source: str, offline: bool) -> Iterator[None]:
    """Silences `datasets`, keeps it off the network if asked, and turns all its errors into one."""
    import datasets
    import huggingface_hub

    for library in (datasets, huggingface_hub.utils):
        library.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    # They read HF_HUB_OFFLINE when they are imported, which may long be past.
    modules: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [module.HF_HUB_OFFLINE for module in modules]
    for module in modules:
        module.HF_HUB_OFFLINE = module.HF_HUB_OFFLINE or offline
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # whatever a corpus, a cache or a server does wrong
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"cannot load {source}: {reason}; name another, an ID:CONFIG, or check the network") from None
    finally:
        for module, value in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = value
