"""Folders in the hub's layout that reach out of themselves, or hold archives, code or classes that are not declared."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from src.data.sources import open_corpus
from src.utils.config import DataConfig
from src.utils.errors import DataError

ROWS = "text,label\nx,a\ny,b\n"
SETTINGS = "---\nconfigs:\n- config_name: default\n  data_files: {}\n---\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def tar(executed: Path) -> bytes:
    payload, stream = f"cos\nsystem\n(S'touch {executed}'\ntR.".encode(), io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("a.pickle", "a.pkl", "a.pyd", "a.pth"):
            entry = tarfile.TarInfo(name)
            entry.size = len(payload)
            archive.addfile(entry, io.BytesIO(payload))
    return stream.getvalue()


def undeclared_class(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = '{"names": ["a", "b"], "_type": "ClassLabel"}'
    features = f'{{"info": {{"features": {{"text": {{"dtype": "string", "_type": "Value"}}, "label": {kind}}}}}}}'
    table = pa.table({"text": ["x", "y"], "label": [0, 7]}).replace_schema_metadata({"huggingface": features})
    for split in ("train", "validation"):
        pq.write_table(table, folder / f"{split}.parquet")


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a torn row": (lambda folder: (folder / "train.csv").write_text(f"{ROWS}x\n"), "train.csv:4"),
    "settings that lead out of the folder": (
        lambda folder: (folder / "README.md").write_text(SETTINGS.format("../secret.csv")),
        "secret.csv",
    ),
    "settings that lead to the network": (
        lambda folder: (folder / "README.md").write_text(SETTINGS.format("http://127.0.0.1:9/x.csv")),
        "corpus",
    ),
    "an archive of pickles": (
        lambda folder: (folder / "train.tar").write_bytes(tar(folder.parent / "executed")),
        "train.tar",
    ),
    "code": (
        lambda folder: (folder / "corpus.py").write_text(f"open({str(folder.parent / 'executed')!r}, 'w')"),
        "corpus.py",
    ),
    "a class that is not declared": (undeclared_class, "split train, row 2: label 7"),
}


@pytest.mark.parametrize("make, fact", FOLDERS.values(), ids=FOLDERS)
def test_a_folder_is_refused_and_nothing_of_it_is_executed(
    make: Callable[[Path], object], fact: str, tmp_path: Path
) -> None:
    (tmp_path / "secret.csv").write_text(ROWS)
    folder = tmp_path / "corpus"
    folder.mkdir()
    make(folder)
    with pytest.raises(DataError) as caught:
        open_corpus(DataConfig(dataset=str(folder)))
    assert fact in str(caught.value)
    assert not (tmp_path / "executed").exists()
