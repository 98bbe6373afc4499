"""Broken folders, and folders that reach out of themselves or hold archives, code or undeclared classes."""

import gzip
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from src.data.documents import open_documents
from src.data.sources import open_corpus
from src.utils.config import DataConfig
from src.utils.errors import DataError
from tests.data.conftest import write

ROWS = b"text,label\nx,a\ny,b\n"
SETTINGS = "---\nconfigs:\n- config_name: default\n  data_files: {}\n---\n"


def undeclared_class(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = '{"names": ["a", "b"], "_type": "ClassLabel"}'
    features = f'{{"info": {{"features": {{"text": {{"dtype": "string", "_type": "Value"}}, "label": {kind}}}}}}}'
    table = pa.table({"text": ["x", "y"], "label": [0, 7]}).replace_schema_metadata({"huggingface": features})
    for split in ("train", "validation"):
        pq.write_table(table, folder / f"{split}.parquet")


def images(folder: Path) -> None:
    """Texts that say of themselves that they are images, which their reader would open."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    texts = pa.array([{"bytes": None, "path": str(folder.parent / "secret.csv")}] * 2, kind)
    features = '{"info": {"features": {"text": {"_type": "Image"}, "label": {"dtype": "string", "_type": "Value"}}}}'
    table = pa.table({"text": texts, "label": ["a", "b"]}).replace_schema_metadata({"huggingface": features})
    for split in ("train", "validation"):
        pq.write_table(table, folder / f"{split}.parquet")


def pipe_among_texts(folder: Path) -> None:
    write(folder, "pos/1.txt", b"good")
    (folder / "neg").mkdir()
    os.mkfifo(folder / "neg" / "1.txt")


def tables_of_two_formats(folder: Path) -> None:
    write(folder, "train.csv", ROWS)
    write(folder, "train.jsonl", b'{"text": "z", "label": "a"}\n' * 3)


def file(name: str, content: str | bytes) -> Callable[[Path], object]:
    return partial(write, name=name, content=content)


TWO_KINDS = '{"text": "a", "label": 1}\n{"text": "b", "label": {"of": "another kind"}}\n'
FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no data": (file(".hidden", b""), "corpus"),
    "a torn row": (file("train.csv", ROWS + b"x\n"), "train.csv:4"),
    "a torn file": (file("data/train-00000-of-00001.parquet", b"PAR1 torn"), "corpus"),
    "two kinds of values in a column": (file("train.jsonl", TWO_KINDS), "corpus"),
    "settings that lead out of the folder": (file("README.md", SETTINGS.format("../secret.csv")), "secret.csv"),
    "settings that lead to the network": (file("README.md", SETTINGS.format("http://127.0.0.1:9/x.csv")), "corpus"),
    "a link out of the folder": (lambda folder: (folder / "train.csv").symlink_to("../secret.csv"), "train.csv"),
    "a torn archive": (file("train.csv.gz", gzip.compress(ROWS)[:-9]), "cannot read"),
    "an archive of many files": (file("train.tar", bytes(10_240)), "train.tar"),
    "code": (file("corpus.py", "open('../executed', 'w')"), "corpus.py"),
    "texts declared as images": (images, "not a string"),
    "a pipe among texts": (pipe_among_texts, "neg/1.txt"),
    "tables of two formats": (tables_of_two_formats, "train.csv"),
    "a class that is not declared": (undeclared_class, "split train, row 2: label 7"),
}


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("make, fact", FOLDERS.values(), ids=FOLDERS)
def test_a_folder_is_refused_and_nothing_of_it_is_executed(
    make: Callable[[Path], object], fact: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "secret.csv", ROWS)
    folder = tmp_path / "corpus"
    folder.mkdir()
    make(folder)
    monkeypatch.chdir(folder)
    with pytest.raises(DataError) as caught:
        open_corpus(DataConfig(dataset=str(folder)))
    assert fact in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.usefixtures("own_cache")
def test_no_image_is_opened_for_pre_training(tmp_path: Path) -> None:
    (folder := tmp_path / "corpus").mkdir()
    images(folder)
    with pytest.raises(DataError, match=r"'text'.*--text-column"):
        list(open_documents([str(folder)]).read())


def test_a_pipe_is_refused_wherever_a_file_of_data_is_named(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "rows.csv")
    for read in (lambda: open_corpus(DataConfig(train_file=pipe)), lambda: open_documents([str(pipe)])):
        with pytest.raises(DataError, match=str(pipe)):
            read()
    for source in (str(pipe), "/dev/zero"):
        with pytest.raises(DataError, match=f"^{source}"):
            open_corpus(DataConfig(dataset=source))
