import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.data.sources import open_corpus
from src.utils.config import REPOSITORY, SHIPPED_CHECKPOINT, DataConfig
from src.utils.errors import DataError
from tests.conftest import Programs
from tests.hostile.checkpoints import CHECKPOINTS
from tests.hostile.data_files import DATA_FILES, READ, REFUSED, DataFile


def written(folder: Path, file: DataFile) -> Path:
    path = folder / file.name
    path.write_bytes(file.content)
    return path


def opened(path: Path) -> list[tuple[str, str]]:
    corpus = open_corpus(DataConfig(dataset=str(path)), ("validation",))
    split = corpus.splits["validation"]
    return [(text, corpus.label_names[label]) for text, label in zip(split.texts, split.labels, strict=True)]


def test_there_are_as_many_as_readme_says() -> None:
    assert len(DATA_FILES) == len(READ) + len(REFUSED) > 100
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert f"{len(DATA_FILES)} data files" in readme and f"{len(CHECKPOINTS)} checkpoints" in readme


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


@pytest.mark.parametrize("name", REFUSED)
def test_the_trainer_refuses_it_with_one_line_and_code_3(name: str, programs: Programs, tmp_path: Path) -> None:
    path = written(tmp_path, DATA_FILES[name])
    answer = programs.train("--train-file", path, "--output-dir", tmp_path / "run", "--device", "cpu")
    assert (answer.code, answer.out) == (3, "")
    assert len(answer.err.splitlines()) == 1 and path.name in answer.error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name",
    [
        "a cell too many",
        pytest.param("half a surrogate pair in a label", marks=pytest.mark.deep),
        pytest.param("UTF-16", marks=pytest.mark.deep),
    ],
)
def test_the_program_itself_ends_with_one_line_and_code_3(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, DATA_FILES[name])
    command = [sys.executable, "-m", "src.inference", "--checkpoint", str(SHIPPED_CHECKPOINT), "--dataset", str(path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if not line.startswith("checkpoint  ")]
    assert (done.returncode, done.stdout, len(said)) == (3, "", 1)
    assert f"{path}" in said[0] and str(DATA_FILES[name].expected) in said[0]
