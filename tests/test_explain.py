"""The program that explains predictions: words and their contributions, its files, its exit codes."""

import io
from pathlib import Path

import pytest
from PIL import Image

from src.utils.config import SHIPPED_CHECKPOINT
from tests.conftest import Programs, succeed

MODEL = ("--checkpoint", SHIPPED_CHECKPOINT)
TEXTS = ("A gripping film.", "dull")


def words(block: str) -> list[str]:
    return [line.split("\t")[1] for line in block.splitlines()[1:-1]]


def test_every_text_gets_its_label_its_words_and_their_sum_from_arguments_or_a_file(programs: Programs) -> None:
    answer = succeed(programs.explain(*MODEL, *TEXTS))
    film, dull = answer.out.split("\n\n")
    assert words(film) == ["A", "gripping", "film", "."] and words(dull) == ["dull"]
    assert float(film.splitlines()[2].split("\t")[0]) > 1  # "gripping" speaks for the prediction
    predicted = succeed(programs.inference(*MODEL, *TEXTS)).out.splitlines()
    assert [block.splitlines()[0] for block in (film, dull)] == predicted
    file = succeed(programs.explain(*MODEL, "--file", "-", stdin="\n".join([TEXTS[0], " ", TEXTS[1]]).encode()))
    assert file.out == f"{film}\n\n-\t\t \n\n{dull}"  # a blank text has no label
    (notice,) = file.notices
    assert "text 2: " in notice


def test_what_is_too_long_is_unread_and_pairs_share_a_prediction(programs: Programs) -> None:
    answer = succeed(programs.explain(*MODEL, "film " * 70))
    assert answer.notices == programs.inference(*MODEL, "film " * 70).notices != []
    assert answer.out.count("unread\tfilm") == 70 - 62
    pair = succeed(programs.explain(*MODEL, "--pairs", "a fine film\ta bore"))
    assert words(pair.out) == ["a", "fine", "film", "a", "bore"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_colours_unless_they_are_unwanted(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io, "StringIO", Terminal)  # where programs print to in tests
    for value, shown in (("", "mdull\x1b"), ("1", "\tdull\n")):
        monkeypatch.setenv("NO_COLOR", value)
        assert shown in succeed(programs.explain(*MODEL, "dull")).out


def test_html_and_attention_are_files_of_their_own(programs: Programs, tmp_path: Path) -> None:
    files = ("--html", tmp_path / "why.html", "--attention", tmp_path / "maps.png")
    answer = succeed(programs.explain(*MODEL, "a <b>fine</b> film", *files))
    page = (tmp_path / "why.html").read_text(encoding="utf-8")
    assert ">fine</span>" in page and "<b>fine" not in page and "\x1b" not in answer.out
    with Image.open(tmp_path / "maps.png") as picture:
        picture.verify()
    answer = programs.explain(*MODEL, "film", "--html", tmp_path / "absent" / "file")
    assert answer.code == 6 and str(tmp_path) in answer.error
