import time
from pathlib import Path

import pytest

from src.data.sources import open_corpus
from src.utils.config import DataConfig
from src.utils.errors import DataError
from tests.hostile.data_files import DATA_FILES, READ, REFUSED, DataFile


def written(folder: Path, file: DataFile) -> Path:
    path = folder / file.name
    path.write_bytes(file.content)
    return path


def opened(path: Path) -> list[tuple[str, str]]:
    corpus = open_corpus(DataConfig(dataset=str(path)), ("validation",))
    split = corpus.splits["validation"]
    return [(text, corpus.label_names[label]) for text, label in zip(split.texts, split.labels, strict=True)]


def test_there_are_enough_of_them() -> None:
    assert len(DATA_FILES) == len(READ) + len(REFUSED) > 100


@pytest.mark.parametrize("file", DATA_FILES.values(), ids=DATA_FILES)
def test_a_file_is_read_as_it_is_written_or_refused_with_its_place(file: DataFile, tmp_path: Path) -> None:
    path = written(tmp_path, file)
    started = time.process_time()
    if isinstance(file.expected, str):
        with pytest.raises(DataError) as caught:
            opened(path)
        message = str(caught.value)
        assert file.name + file.expected in message
        assert message.isprintable() and len(message) < 1000
    else:
        assert opened(path) == file.expected
    assert time.process_time() - started < 2
