"""Folders in the hub's layout that reach out of themselves, hold archives or code, or texts that look like values."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from src.data.documents import chain, open_documents
from src.data.sources import open_corpus
from src.utils.config import DataConfig
from src.utils.errors import DataError

ROWS = "text,label\n007,01\n1e5,02\nNA,01\n2020-01-01,02\n"
EXPECTED = [("007", "01"), ("1e5", "02"), ("NA", "01"), ("2020-01-01", "02")]
JSONL = "".join(f'{{"text": "{text}", "label": "{label}"}}\n' for text, label in EXPECTED)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def folder(tmp_path: Path, **files: str | bytes) -> Path:
    path = tmp_path / "corpus"
    path.mkdir()
    for name, content in files.items():
        (path / name.replace("_", ".")).write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def opened(path: Path) -> list[tuple[str, str]]:
    corpus = open_corpus(DataConfig(dataset=str(path)))
    split = corpus.splits["train"]
    return [(text, corpus.label_names[label]) for text, label in zip(split.texts, split.labels, strict=True)]


@pytest.mark.parametrize(
    "suffix, content", [("csv", ROWS), ("tsv", ROWS.replace(",", "\t")), ("jsonl", JSONL)], ids=["csv", "tsv", "jsonl"]
)
def test_texts_of_a_folder_stay_text(suffix: str, content: str, tmp_path: Path) -> None:
    path = folder(tmp_path, **{f"train_{suffix}": content, f"validation_{suffix}": content})
    assert opened(path) == EXPECTED
    documents = chain([open_documents(str(path))]).read()
    assert list(documents) == [text for text, _ in EXPECTED]


def test_a_torn_row_of_a_folder_is_named_with_file_and_line(tmp_path: Path) -> None:
    path = folder(tmp_path, train_csv=f"{ROWS}x\n", validation_csv=ROWS)
    with pytest.raises(DataError, match=r"train\.csv:6: 1 cell under 2"):
        opened(path)


def test_a_column_of_several_kinds_of_values_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path, train_jsonl='{"text": "x", "label": "a"}\n{"text": "y", "label": 1}\n')
    with pytest.raises(DataError, match=r"train\.jsonl: .*; give a column one kind of values"):
        opened(path)


def settings(pattern: str) -> str:
    return f"---\nconfigs:\n- config_name: default\n  data_files: {pattern}\n---\n"


def archive(path: Path) -> bytes:
    with zipfile.ZipFile(path / "x.zip", "w") as stream:
        stream.writestr("train.csv", ROWS)
    return (path / "x.zip").read_bytes()


def tape(path: Path) -> bytes:
    payload = f"cos\nsystem\n(S'touch {path / 'executed'}'\ntR.".encode()
    with tarfile.open(path / "x.tar", "w") as stream:
        for name in ("a.pickle", "a.pkl", "a.pyd", "a.pth"):
            entry = tarfile.TarInfo(name)
            entry.size = len(payload)
            stream.addfile(entry, io.BytesIO(payload))
    return (path / "x.tar").read_bytes()


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a setting that leads out": (lambda path: folder(path, README_md=settings("../secret.csv")), "inside"),
    "a setting that leads anywhere": (
        lambda path: folder(path, README_md=settings(str(path / "secret.csv"))),
        "inside",
    ),
    "a setting that leads to the network": (
        lambda path: folder(path, README_md=settings("http://127.0.0.1:9/x.csv")),
        "cannot load",
    ),
    "an archive": (lambda path: folder(path, train_zip=archive(path)), "inside"),
    "a tape of pickles": (lambda path: folder(path, train_tar=tape(path)), "inside"),
    "code": (
        lambda path: folder(path, corpus_py=f"open({str(path / 'executed')!r}, 'w')", train_csv=ROWS),
        "scripts are no longer supported",
    ),
}


@pytest.mark.parametrize("make, fragment", HOSTILE.values(), ids=HOSTILE)
def test_a_folder_reaches_for_nothing_outside_and_unpacks_nothing(
    make: Callable[[Path], Path], fragment: str, tmp_path: Path
) -> None:
    (tmp_path / "secret.csv").write_text(ROWS)
    with pytest.raises(DataError) as caught:
        opened(make(tmp_path))
    assert fragment in str(caught.value) and str(caught.value).isprintable()
    assert not (tmp_path / "executed").exists()


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text(ROWS)
    path = folder(tmp_path)
    (path / "train.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(DataError, match=r"train\.csv is none of .* inside .*corpus; "):
        opened(path)


def test_a_link_out_of_a_folder_of_texts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    path = folder(tmp_path, a_txt="a text")
    assert list(open_documents(str(path)).read()) == ["a text"]
    (path / "b.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(DataError, match=r"b\.txt links to a file outside "):
        open_documents(str(path))


def test_a_class_that_is_not_declared_is_refused_with_its_row(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, kind = folder(tmp_path), '{"names": ["a", "b"], "_type": "ClassLabel"}'
    features = f'{{"info": {{"features": {{"text": {{"dtype": "string", "_type": "Value"}}, "label": {kind}}}}}}}'
    table = pa.table({"text": ["x", "y"], "label": [0, 7]}).replace_schema_metadata({"huggingface": features})
    for split in ("train", "validation"):
        pq.write_table(table, path / f"{split}.parquet")
    with pytest.raises(DataError, match=r"split train, row 2: label 7 is none of 2 classes"):
        opened(path)
