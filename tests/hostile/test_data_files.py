from pathlib import Path

import pytest

from src.data.sources import open_corpus
from src.utils.config import DataConfig
from src.utils.errors import DataError
from tests.conftest import Programs
from tests.hostile.data_files import DATA_FILES, DataFile


def opened(path: Path) -> list[tuple[str, str]]:
    corpus = open_corpus(DataConfig(dataset=str(path)), ("validation",))
    split = corpus.splits["validation"]
    return [(text, corpus.label_names[label]) for text, label in zip(split.texts, split.labels, strict=True)]


@pytest.mark.parametrize("file", DATA_FILES.values(), ids=DATA_FILES)
def test_a_file_is_read_as_it_is_written_or_refused_with_its_place(file: DataFile, tmp_path: Path) -> None:
    path = tmp_path / file.name
    path.write_bytes(file.content)
    if isinstance(file.expected, str):
        with pytest.raises(DataError) as caught:
            opened(path)
        message = str(caught.value)
        assert file.name in message and file.expected in message and len(message) < 1000
    else:
        assert opened(path) == file.expected


def test_the_trainer_ends_with_one_line_and_code_3(programs: Programs, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\x1b[2Jtext,label\nx,a\n")  # a header that would clear the terminal
    answer = programs.train("--train-file", path, "--output-dir", tmp_path / "run", "--device", "cpu")
    assert (answer.code, answer.out, answer.err.count("\n")) == (3, "", 1)
    assert path.name in answer.error and answer.error.isprintable()
    assert not (tmp_path / "run").exists()
