import io
import re

import pytest

from src.evaluation.attribution import Explanation
from src.evaluation.coloured import as_html, as_plain, as_terminal, html_page, wants_colour
from src.evaluation.predictor import Prediction
from src.evaluation.words import Word
from tests.evaluation.test_report_page import Page

WORDS = [
    Word("", "A", 0.5),
    Word(" ", "dull", -2.0),
    Word("  ", "film", 0.25),
    Word("", "!", None),
    Word(" ", "", None),
]
FOUND = Explanation(Prediction("A dull  film! ", "positive", 0.75), [WORDS], margin=1.0, baseline=2.25, steps=32)
HOSTILE = '<script>alert("&")</script>\x1b[2J\u202e'


def test_plain_output_is_signed_numbers_and_their_sum() -> None:
    *lines, last = as_plain(FOUND).splitlines()
    words = ["+0.5000\tA", "-2.0000\tdull", "+0.2500\tfilm", "unread\t!"]
    assert lines == ["positive\t0.7500\tA dull  film! ", *words]
    assert all(number in last for number in ("+1.0000", "+2.2500", "-1.2500", "0.0000 %", "32"))
    missed = Explanation(FOUND.prediction, [WORDS], margin=0.75, baseline=2.25, steps=32)
    assert missed.error == pytest.approx(0.25 / 1.5)  # of what should have been explained
    assert "16.6667 %" in as_plain(missed)


def test_a_terminal_shows_the_text_in_colours_and_the_strongest_words(monkeypatch: pytest.MonkeyPatch) -> None:
    first, text, strongest, _ = as_terminal(FOUND).splitlines()
    assert first == "positive  75.0 %" and strongest == "dull -2.0000, A +0.5000, film +0.2500"
    assert re.sub(r"\x1b\[[\d;]*m", "", text) == "A dull film!"
    assert len(re.findall(r"48;2;\d+;\d+;\d+m", text)) == 3  # what is unread has no colour
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert wants_colour(terminal) and not wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(terminal)


def test_html_shows_every_word_with_its_number() -> None:
    page = Page(as_html(FOUND))
    assert page.text[1:5] == ["A", "dull", "film", "!"] and "75.0 %" in page.text[0]
    titles = [attributes["title"] for _, attributes in page.tags if "title" in attributes]
    assert titles == ["+0.5000", "-2.0000", "+0.2500", "not read"]
    words = [Word("", "a", 0.0), Word("", "b", None)]
    still = Explanation(FOUND.prediction, [words, []], margin=0.0, baseline=0.0, steps=1)
    assert as_html(still) and still.error == 0.0  # nothing is divided by zero


def test_a_text_or_label_is_data_and_never_markup_or_a_command_to_the_terminal() -> None:
    words = [Word(" ", HOSTILE, 1.0), Word(" ", HOSTILE, None)]
    hostile = Explanation(Prediction(HOSTILE, HOSTILE, 0.5), [words], margin=1.0, baseline=0.0, steps=1)
    content = "".join(html_page(HOSTILE, [as_html(hostile)]))
    page = Page(content)
    assert not page.found("script") and "\x1b" not in content and "\u202e" not in content
    assert "".join(page.text).count('<script>alert("&")</script>') == 6  # title, heading, answer, two words, strongest
    assert "http" not in content  # the page needs nothing beside itself
    for shown in (as_terminal(hostile), as_plain(hostile)):
        assert "\u202e" not in shown and "\x1b[2J" not in shown
