import re
from pathlib import Path

import datasets
import pytest

from src.data import documents, hub
from src.data.documents import absolute_source, open_documents
from src.utils.errors import DataError
from tests.data.conftest import write

pytestmark = pytest.mark.usefixtures("own_cache")


def read(*sources: Path | str, text_column: str | None = None) -> list[str]:
    return list(open_documents(map(str, sources), text_column).read())


def name_of(source: Path | str) -> str:
    return open_documents([str(source)]).name


def refuses(source: Path | str, *facts: object, text_column: str | None = None) -> None:
    with pytest.raises(DataError) as caught:
        read(source, text_column=text_column)
    assert all(str(fact) in str(caught.value) for fact in facts), caught.value
    assert "\n" not in str(caught.value)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus in the hub's layout: train of five documents, one of them blank, and unsupervised of two."""
    texts = {"train": ["one", "two\n\ntwo", " ", "three", "four"], "unsupervised": ["five", "six"]}
    for split, column in texts.items():
        path = write(tmp_path / "films", f"data/{split}-00000-of-00001.parquet", "")
        columns = {"text": column, "body": [text.upper() for text in column], "stars": list(range(len(column)))}
        datasets.Dataset.from_dict(columns).to_parquet(path)
    return tmp_path / "films"


TEXTS: dict[str, tuple[str | bytes, list[str]]] = {
    "blank lines": ("\n\nOne\nstill one\n\n \t\n\ntwo\n\n\n", ["One\nstill one\n", "two\n"]),
    "Windows line ends, no final one": ("one\r\nstill\r\n\r\ntwo", ["one\nstill\n", "two"]),
    "byte order mark": (b"\xef\xbb\xbfone\n\ntwo\n", ["one\n", "two\n"]),
    "beyond ASCII": ("na\u00efve\u2028caf\u00e9\n\n\u6620\u753b\n", ["na\u00efve\u2028caf\u00e9\n", "\u6620\u753b\n"]),
    "nothing": (" \n\t\n", []),
}


@pytest.mark.parametrize("content, expected", TEXTS.values(), ids=TEXTS)
def test_blank_lines_divide_a_text_file_into_documents(
    content: str | bytes, expected: list[str], tmp_path: Path
) -> None:
    assert read(write(tmp_path, "A.TXT", content)) == expected


def test_a_folder_of_text_files_is_read_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name, content in (("b.TXT", "three\n"), ("a.txt", "one\n\ntwo"), ("c/deep/d.txt", "four"), ("e.md", "no text")):
        write(tmp_path / "notes", name, content)
    assert read(tmp_path / "notes") == ["one\n", "two", "three\n", "four"]  # no document runs on into the next file
    assert name_of(tmp_path / "notes") == "notes"


def test_a_text_file_that_is_not_utf8_or_gone_is_refused_with_its_name(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", b"fine\n\ncaf\xe9\n")
    refuses(path, path, "UTF-8")
    opened = open_documents([str(path)])
    path.unlink()
    with pytest.raises(DataError, match=re.escape(str(path))):
        list(opened.read())


def test_each_row_of_a_table_is_a_document_or_is_refused_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'text,body\n"one\n\n1",1\n" ",-\ntwo,2\n')
    assert read(path) == ["one\n\n1", "two"] and name_of(path) == "a.csv"
    assert read(path, text_column="body") == ["1", "-", "2"]
    path = write(tmp_path, "reviews.csv", "body,stars\nfine,3\n")
    refuses(path, "reviews.csv: no column sentence or text", "body, stars", "--text-column")
    refuses(path, "reviews.csv: no column words", "body, stars", text_column="words")
    refuses(write(tmp_path, "a.pdf", b"%PDF-1.7"), "a.pdf is none of .csv")
    path = write(tmp_path, "a.jsonl", '{"text": "one"}\n{"text": 5}\n')
    refuses(path, f"{path}:2: ")


def test_a_corpus_gives_its_train_split_unless_another_is_named(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "ROWS_AT_ONCE", 2)  # five rows are three parts
    write(corpus, "notes.txt", "is not a document, because there are tables")
    assert read(corpus) == read(f"{corpus}:train") == ["one", "two\n\ntwo", "three", "four"]
    assert read(f"{corpus}:unsupervised") == ["five", "six"]
    assert read(corpus, text_column="body") == ["ONE", "TWO\n\nTWO", "THREE", "FOUR"]
    assert name_of(corpus) == "films:train" and name_of(f"{corpus}:unsupervised") == "films:unsupervised"
    refuses(f"{corpus}:test", "films:test has no split test", "train, unsupervised")
    refuses(corpus, "films:train: no column words", "text, body, stars", "--text-column", text_column="words")
    refuses(corpus, "films:train: ", "int64, not strings", text_column="stars")


def test_a_corpus_of_the_hub_is_called_by_its_id_and_split(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuses("owner/name:test", "HF_HUB_OFFLINE", "owner/name from the cache")
    monkeypatch.setattr(hub, "load_hub", lambda name: hub.load_folder(corpus))
    assert name_of("owner/name") == "owner/name:train"
    assert name_of("owner/name:unsupervised") == "owner/name:unsupervised"


def test_a_source_that_does_not_exist_or_a_split_of_what_has_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for source in ("absent.txt", "data/absent.txt", "absent:train", "./absent/films:train", ""):
        refuses(source, repr(source.removesuffix(":train")))
    for name, path in (("a:train.txt", "a:train.txt"), ("a.jsonl", "a.jsonl"), ("b:train", "b:train/a.txt")):
        write(tmp_path, path, '{"text": "one"}')
        assert len(read(tmp_path / name)) == 1  # a path may hold a colon
        refuses(f"{tmp_path / name}:test", tmp_path / name, ":test")


def test_a_resumed_run_finds_its_sources_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "films/a.txt", "one")
    monkeypatch.chdir(tmp_path)
    for split in ("", ":test"):
        assert absolute_source(f"films{split}") == f"{tmp_path / 'films'}{split}"
        assert absolute_source(f"owner/name{split}") == f"owner/name{split}"


def test_several_sources_are_read_one_after_the_other_as_far_as_they_are_asked_for(tmp_path: Path) -> None:
    text, rows = write(tmp_path, "z.txt", "first\n\nsecond"), write(tmp_path, "a.jsonl", '{"text": "last"}')
    mixture = open_documents([str(text), str(rows)])
    assert list(mixture.read()) == list(mixture.read()) == ["first\n", "second", "last"]
    assert mixture.name == "z.txt + a.jsonl"
    rows.unlink()
    assert next(mixture.read()) == "first\n"
