from pathlib import Path

import pytest

from src.data.sources import open_corpus
from src.utils.config import DataConfig
from src.utils.errors import DataError
from tests.conftest import Programs
from tests.hostile.data_files import READ, REFUSED, Rows


def opened(path: Path) -> list[tuple[str, str]]:
    corpus = open_corpus(DataConfig(dataset=str(path)), ("validation",))
    split = corpus.splits["validation"]
    return [(text, corpus.label_names[label]) for text, label in zip(split.texts, split.labels, strict=True)]


@pytest.mark.parametrize(("name", "content", "expected"), READ.values(), ids=READ)
def test_a_file_is_read_as_it_is_written(name: str, content: bytes, expected: Rows, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert opened(tmp_path / name) == expected


@pytest.mark.parametrize(("name", "content", "fact"), REFUSED.values(), ids=REFUSED)
def test_a_file_is_refused_with_its_place(name: str, content: bytes, fact: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        opened(tmp_path / name)
    assert name in str(caught.value) and fact in str(caught.value) and len(str(caught.value)) < 1000


def test_the_trainer_ends_with_one_line_and_code_3(programs: Programs, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\x1b[2Jtext,label\nx,a\n")  # a header that would clear the terminal
    answer = programs.train("--train-file", path, "--output-dir", tmp_path / "run", "--device", "cpu")
    assert (answer.code, answer.out, answer.err.count("\n")) == (3, "", 1)
    assert path.name in answer.error and answer.error.isprintable()
    assert not (tmp_path / "run").exists()
