import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from src.data import documents, hub
from src.data.documents import LONGEST_PIECE, Documents, chain, open_documents, pieces, settled
from src.utils.errors import DataError


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(*sources: Path | str, text_column: str | None = None) -> list[str]:
    return list(chain(open_documents(str(source), text_column) for source in sources).read())


def refusal(*sources: Path | str, text_column: str | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read(*sources, text_column=text_column)
    message = str(caught.value)
    assert "; " in message and "\n" not in message
    return message


def made_up(*texts: str) -> Documents:
    return Documents("made up", lambda: iter(texts))


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus in the hub's layout: train of five documents, one of them blank, and unsupervised of two."""
    import datasets
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "films"
    texts = {"train": ["one", "two\n\ntwo", " ", "three", "four"], "unsupervised": ["five", "six"]}
    for split, column in texts.items():
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = {"text": column, "body": [text.upper() for text in column], "stars": list(range(len(column)))}
        datasets.Dataset.from_dict(columns).to_parquet(path)
    return folder


# Text files


TEXTS: dict[str, tuple[str | bytes, list[str]]] = {
    "blank lines divide": ("One\nstill one\n\ntwo\n", ["One\nstill one\n", "two\n"]),
    "several blank lines, blanks in them": ("one\n\n \t\n\ntwo\n", ["one\n", "two\n"]),
    "blank lines at both ends": ("\n\none\n\ntwo\n\n\n", ["one\n", "two\n"]),
    "no final newline": ("one\n\ntwo", ["one\n", "two"]),
    "Windows line ends": ("one\r\nstill\r\n\r\ntwo\r\n", ["one\nstill\n", "two\n"]),
    "byte order mark": (b"\xef\xbb\xbfone\n\ntwo\n", ["one\n", "two\n"]),
    "beyond ASCII": ("na\u00efve\u2028caf\u00e9\n\n\u6620\u753b\n", ["na\u00efve\u2028caf\u00e9\n", "\u6620\u753b\n"]),
    "nothing": ("", []),
    "blanks": (" \n\t\n", []),
}


@pytest.mark.parametrize("name", TEXTS)
def test_blank_lines_divide_a_text_file_into_documents(name: str, tmp_path: Path) -> None:
    content, expected = TEXTS[name]
    assert read(write(tmp_path, "a.txt", content)) == expected


def test_a_suffix_in_capitals_is_a_text_file_too(tmp_path: Path) -> None:
    assert read(write(tmp_path, "A.TXT", "one\n\ntwo")) == ["one\n", "two"]


def test_a_folder_of_text_files_is_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, content in (("b.txt", "three\n"), ("a.txt", "one\n\ntwo"), ("c.txt", "four"), ("d.md", "no text")):
        write(tmp_path / "notes", name, content)
    assert read(tmp_path / "notes") == ["one\n", "two", "three\n", "four"]  # no document runs on into the next file
    assert open_documents(str(tmp_path / "notes")).name == "notes"


def test_text_that_is_not_utf8_is_a_data_error_that_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", b"fine\n\ncaf\xe9\n")
    assert refusal(path) == f"{path} is not UTF-8; save the file as UTF-8"


def test_texts_of_sub_folders_are_read_whatever_the_case_of_their_suffix(tmp_path: Path) -> None:
    write(tmp_path, "b.TXT", "two")
    write(tmp_path, "a/deep/c.txt", "one")
    write(tmp_path, "notes.md", "not this")
    assert read(tmp_path) == ["one", "two"]


def test_a_folder_that_holds_tables_is_a_corpus_whatever_else_it_holds(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", '{"text": "a row"}')
    write(tmp_path, "licence.txt", "not this")
    assert read(tmp_path) == ["a row"]


def test_a_text_file_from_elsewhere_is_refused(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "notes", write(tmp_path, "elsewhere.txt", "one")
    write(folder, "a.txt", "two\nlines")
    (folder / "b.txt").symlink_to(elsewhere)
    expected = f"{folder / 'b.txt'} links to a file outside {folder}; put the file itself there, or name it"
    assert refusal(folder) == expected
    (folder / "b.txt").unlink()
    assert read(folder) == ["two\nlines"]


def test_a_mistyped_text_file_is_no_hub_id() -> None:
    assert "does not exist" in refusal(Path("data/absent.txt"))


def test_a_file_that_disappears_between_two_readings_is_a_data_error(tmp_path: Path) -> None:
    opened = open_documents(str(write(tmp_path, "a.txt", "one")))
    (tmp_path / "a.txt").unlink()
    with pytest.raises(DataError, match=r"cannot read .*a\.txt: No such file"):
        list(opened.read())


# Tables


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "one", "body": "ONE"}\n{"text": "", "body": "-"}\n{"text": "two", "body": "TWO"}\n'),
        ("a.csv", 'text,body\none,ONE\n" ",-\ntwo,TWO\n'),
        ("a.tsv", "body\ttext\nONE\tone\n-\t\nTWO\ttwo\n"),
    ],
)
def test_each_row_of_a_table_is_a_document_and_blank_ones_are_left_out(name: str, content: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, content)
    assert read(path) == ["one", "two"]
    assert read(path, text_column="body") == ["ONE", "-", "TWO"]
    assert open_documents(str(path)).name == name


def test_a_blank_line_inside_a_row_divides_nothing(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.jsonl", json.dumps({"text": "one\n\nstill one"}))) == ["one\n\nstill one"]


def test_a_column_that_is_missing_is_a_data_error_that_names_file_and_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "reviews.csv", "body,stars\nfine,3\n")
    assert "reviews.csv: no column sentence or text" in refusal(path)
    assert "reviews.csv: no column words; name one of body, stars with --text-column" in refusal(
        path, text_column="words"
    )


@pytest.mark.parametrize("row", ['{"text": 5}', '{"text": null}', '{"body": "two"}', '{"text": "two \\ud800"}'])
def test_a_row_without_text_is_a_data_error_that_names_its_line(row: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", f'{{"text": "one"}}\n{row}\n')
    assert refusal(path).startswith(f"{path}:2: ")


def test_a_file_of_another_kind_is_a_data_error_that_names_it(tmp_path: Path) -> None:
    path = write(tmp_path, "a.pdf", b"%PDF-1.7")
    assert refusal(path).startswith(f"{path} is none of .txt, .csv, .tsv, .jsonl, .json")


# Corpora in the hub's layout


def test_a_corpus_gives_its_train_split_unless_another_is_named(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "ROWS_AT_ONCE", 2)  # five rows are three parts
    assert read(corpus) == read(f"{corpus}:train") == ["one", "two\n\ntwo", "three", "four"]
    assert read(f"{corpus}:unsupervised") == ["five", "six"]
    assert read(corpus, text_column="body") == ["ONE", "TWO\n\nTWO", "THREE", "FOUR"]


def test_a_corpus_is_called_by_its_folder_and_split(corpus: Path) -> None:
    assert open_documents(str(corpus)).name == "films:train"
    assert open_documents(f"{corpus}:unsupervised").name == "films:unsupervised"


def test_what_a_corpus_lacks_is_a_data_error_that_names_it(corpus: Path) -> None:
    assert "films:test has no split test with rows in it; it has train, unsupervised" in refusal(f"{corpus}:test")
    message = refusal(corpus, text_column="words")
    assert "films:train: no column words; name one of text, body, stars with --text-column" in message
    assert refusal(corpus, text_column="stars").startswith("films:train, row 1: the text is 0, not a string")


def test_a_row_of_a_corpus_without_text_is_named_by_its_number(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", '{"text": "one"}\n{"text": "two"}\n{"text": null}\n')
    assert refusal(tmp_path).startswith(f"{tmp_path.name}:train, row 3: the text is None, not a string")


# Where sources are


@pytest.mark.parametrize("source", ["absent.txt", "absent.jsonl", "absent", "absent:train", "./absent/films:train", ""])
def test_a_source_that_does_not_exist_is_a_data_error_that_names_it(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert repr(source.removesuffix(":train")) in refusal(source)


def test_a_hub_that_is_out_of_reach_is_a_data_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "is switched off by HF_HUB_OFFLINE and owner/name is not cached here" in refusal("owner/name:test")
    assert refusal("owner/name").endswith("; check the network, or name folders or files with --corpus")


def test_a_corpus_of_the_hub_is_called_by_its_id_and_split(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "load_hub", lambda name, remedy: hub.load_folder(corpus))
    assert open_documents("owner/name").name == "owner/name:train"
    assert open_documents("owner/name:unsupervised").name == "owner/name:unsupervised"


@pytest.mark.parametrize("split", ["", ":test"])
def test_a_resumed_run_finds_its_sources_from_any_folder(
    split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "films/a.txt", "one")
    monkeypatch.chdir(tmp_path)
    assert settled(f"films{split}") == f"{tmp_path / 'films'}{split}"
    assert settled(f"owner/name{split}") == f"owner/name{split}"


def test_a_path_that_holds_a_colon_is_a_path(tmp_path: Path) -> None:
    assert read(write(tmp_path, "notes:train.txt", "one")) == ["one"]
    write(tmp_path / "notes:train", "a.txt", "two")
    assert read(tmp_path / "notes:train") == ["two"]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "notes"])
def test_a_split_of_what_has_none_is_a_data_error_that_names_it(name: str, tmp_path: Path) -> None:
    for path in ("a.txt", "a.jsonl", "notes/a.txt"):
        write(tmp_path, path, '{"text": "one"}')
    assert len(read(tmp_path / name)) == 1
    assert f"{tmp_path / name} has no splits" in refusal(f"{tmp_path / name}:test")


def test_several_sources_are_read_one_after_the_other(corpus: Path, tmp_path: Path) -> None:
    sources = [
        str(write(tmp_path, "z.txt", "first\n\nsecond")),
        f"{corpus}:unsupervised",
        str(write(tmp_path, "a.jsonl", '{"text": "last"}')),
    ]
    mixture = chain(open_documents(source) for source in sources)
    assert list(mixture.read()) == ["first\n", "second", "five", "six", "last"]
    assert list(mixture.read()) == list(mixture.read())
    assert mixture.name == "z.txt + films:unsupervised + a.jsonl"


# Documents that are too long


words = st.lists(st.text(st.characters(codec="ascii", exclude_categories=["Z", "C"]), min_size=1, max_size=9))


@settings(deadline=None)
@given(words, st.integers(10, 40))
def test_long_documents_are_cut_between_words(texts: list[str], longest: int) -> None:
    text = " ".join(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "LONGEST_PIECE", longest)
        found = list(pieces(text))
    assert [word for piece in found for word in piece.split()] == texts
    assert "".join(found) == text
    assert all(len(piece) <= longest for piece in found)
    # Each piece takes as many words as there is room for.
    nexts = [piece.split()[0] for piece in found[1:]]
    assert all(len(piece) + len(f" {word}") >= longest for piece, word in zip(found, nexts, strict=False))


@settings(deadline=None)
@given(st.text(), st.integers(2, 9))
@example("a" + " " * 30 + "b", 5)
def test_cutting_loses_nothing_but_blanks(text: str, longest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "LONGEST_PIECE", longest)
        found = list(pieces(text))
    assert re.sub(r"\s", "", "".join(found)) == re.sub(r"\s", "", text)
    assert all(piece.strip() and len(piece) <= longest for piece in found)


def test_a_document_of_just_the_longest_length_stays_whole_and_one_letter_more_makes_two() -> None:
    whole, letters = "a " * (LONGEST_PIECE // 2), "x" * (LONGEST_PIECE + 1)
    assert [*pieces(whole), *pieces(letters)] == [whole, letters[:-1], "x"]


def test_long_and_short_documents_of_a_file_stay_whole(tmp_path: Path) -> None:
    numbers = " ".join(str(number) for number in range(40_000))
    assert read(write(tmp_path, "a.txt", f"short\n\n{numbers}")) == ["short\n", numbers]


def test_documents_are_read_only_as_far_as_they_are_asked_for() -> None:
    def endless() -> Iterator[str]:
        while True:
            yield "again"

    assert next(chain([Documents("endless", endless)]).read()) == "again"
