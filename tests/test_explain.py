"""The program that explains predictions: words and their contributions, its files, its exit codes."""

import io
from contextlib import nullcontext
from pathlib import Path

import pytest
from PIL import Image

from src import explain
from src.utils.config import SHIPPED_CHECKPOINT
from tests.conftest import Answer, Programs

MODEL = ("--checkpoint", SHIPPED_CHECKPOINT)
TEXTS = ("A gripping film.", "dull")


def succeed(answer: Answer) -> Answer:
    assert answer.code == 0, answer.err
    return answer


def notices(answer: Answer) -> list[str]:
    return [line for line in answer.err.splitlines() if not line.startswith("checkpoint  ")]


def test_every_text_gets_its_label_its_words_and_their_sum_from_arguments_or_a_file(programs: Programs) -> None:
    answer = succeed(programs.explain(*MODEL, *TEXTS))
    film, dull = (block.splitlines() for block in answer.out.split("\n\n"))
    assert [line.split("\t")[1] for line in film[1:-1]] == ["A", "gripping", "film", "."]
    assert float(film[2].split("\t")[0]) > 1  # "gripping" speaks for the prediction
    assert (film[0][:8], dull[0][:8]) == ("positive", "negative")
    assert [film[0], dull[0]] == succeed(programs.inference(*MODEL, *TEXTS)).out.splitlines()
    file = succeed(programs.explain(*MODEL, "--file", "-", stdin="\n".join([TEXTS[0], " ", TEXTS[1]]).encode()))
    first, blank, last = file.out.split("\n\n")
    assert f"{first}\n\n{last}" == answer.out and blank == "-\t\t "  # a blank text has no label
    (notice,) = notices(file)
    assert notice.startswith("warning: text 2: ")


def test_a_text_that_is_too_long_has_the_notice_of_inference(programs: Programs) -> None:
    answer = succeed(programs.explain(*MODEL, "film " * 70))
    assert notices(answer) == notices(programs.inference(*MODEL, "film " * 70)) != []
    assert answer.out.count("unread\tfilm") == 70 - 62


def test_pairs_share_one_prediction(programs: Programs) -> None:
    answer = succeed(programs.explain(*MODEL, "--pairs", "a fine film\ta bore"))
    assert [line.split("\t")[1] for line in answer.out.splitlines()[1:-1]] == ["a", "fine", "film", "a", "bore"]


def test_a_terminal_gets_colours_unless_they_are_unwanted(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(explain, "results", lambda *_: nullcontext(terminal))
    monkeypatch.delenv("NO_COLOR", raising=False)
    succeed(programs.explain(*MODEL, "dull"))
    monkeypatch.setenv("NO_COLOR", "1")
    succeed(programs.explain(*MODEL, "fine"))
    assert "mdull\x1b" in terminal.getvalue() and "\tfine\n" in terminal.getvalue()


def test_html_and_attention_are_files_of_their_own(programs: Programs, tmp_path: Path) -> None:
    files = ("--html", tmp_path / "why.html", "--attention", tmp_path / "maps.png")
    answer = succeed(programs.explain(*MODEL, "a <b>fine</b> film", *files))
    page = (tmp_path / "why.html").read_text(encoding="utf-8")
    assert ">fine</span>" in page and "<b>fine" not in page and "completeness error" in page
    with Image.open(tmp_path / "maps.png") as picture:
        picture.verify()
    assert "\x1b" not in answer.out
    answer = programs.explain(*MODEL, "film", "--html", tmp_path / "absent" / "file")
    assert answer.code == 6 and f"--html {tmp_path}" in answer.error


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ([], "--file"),
        (["film", "--file", "x.txt"], "--file"),
        (["film", "dull", "--attention", "x.png"], "--attention"),
        ([" ", "--attention", "x.png"], "--attention"),  # a blank text has none
        (["--file", "x.txt", "--html", "x.txt"], "--file"),
    ],
)
def test_contradictory_options_are_usage_errors(options: list[str], fact: str, programs: Programs) -> None:
    answer = programs.explain(*options)
    assert (answer.code, answer.out) == (2, "") and fact in answer.error
