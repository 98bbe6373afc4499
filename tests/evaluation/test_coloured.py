import io
import re
from html.parser import HTMLParser

import pytest

from src.evaluation.attribution import Explanation
from src.evaluation.coloured import as_html, as_plain, as_terminal, html_page, wants_colour
from src.evaluation.predictor import Prediction
from src.evaluation.words import Word

WORDS = [
    Word("", "A", 0.5),
    Word(" ", "dull", -2.0),
    Word("  ", "film", 0.25),
    Word("", "!", None),
    Word(" ", "", None),
]
FOUND = Explanation(Prediction("A dull  film! ", "positive", 0.75), [WORDS], margin=1.0, baseline=2.25, steps=32)
HOSTILE = '<script>alert("&")</script>\x1b[2J\u202e'


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def hostile(label: str = "positive") -> Explanation:
    words = [Word(" ", HOSTILE, 1.0), Word(" ", HOSTILE, None)]
    return Explanation(Prediction(HOSTILE, label, 0.5), [words], margin=1.0, baseline=0.0, steps=1)


def test_plain_output_is_signed_numbers_and_their_sum() -> None:
    *lines, last = as_plain(FOUND).splitlines()
    words = ["+0.5000\tA", "-2.0000\tdull", "+0.2500\tfilm", "unread\t!"]
    assert lines == ["positive\t0.7500\tA dull  film! ", *words]
    assert all(number in last for number in ("+1.0000", "+2.2500", "-1.2500", "0.0000 %", "32"))
    missed = Explanation(FOUND.prediction, [WORDS], margin=0.75, baseline=2.25, steps=32)
    assert missed.error == pytest.approx(0.25 / 1.5)  # of what should have been explained
    assert "16.6667 %" in as_plain(missed)


def test_a_terminal_shows_the_text_in_colours_and_the_strongest_words() -> None:
    first, text, strongest, _ = as_terminal(FOUND).splitlines()
    assert first == "positive  75.0 %"
    assert re.sub(r"\x1b\[[\d;]*m", "", text) == "A dull film!"
    papers = re.findall(r"48;2;(\d+);(\d+);(\d+)m", text)
    assert papers[1] == ("230", "159", "0")  # the strongest word has the full colour, here the orange against
    assert int(papers[0][0]) < int(papers[0][2]) and len(papers) == 3  # blue for; not one for what is unread
    assert strongest == "dull -2.0000, A +0.5000, film +0.2500"


def test_colours_are_for_terminals_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert wants_colour(Terminal()) and not wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.titles: list[str | None] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.titles += [value for name, value in attrs if name == "title"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_shows_every_word_with_its_number() -> None:
    reader = Reader()
    reader.feed(as_html(FOUND))
    assert "A dull  film!" in reader.text and "75.0 %" in reader.text
    assert reader.titles == ["+0.5000", "-2.0000", "+0.2500", "not read"]


def test_a_text_or_label_is_data_and_never_markup_or_a_command_to_the_terminal() -> None:
    page = "".join(html_page(HOSTILE, [as_html(hostile(HOSTILE))]))
    reader = Reader()
    reader.feed(page)
    assert "script" not in reader.tags and "\x1b" not in page and "\u202e" not in page
    assert reader.text.count('<script>alert("&")</script>') == 6  # title, heading, answer, two words, strongest
    assert "http" not in page  # the page needs nothing beside itself
    assert "\u202e" not in as_terminal(hostile(HOSTILE)) and "\x1b[2J" not in as_terminal(hostile(HOSTILE))
    assert "\x1b" not in as_plain(hostile())


def test_without_any_contribution_nothing_is_divided_by_zero() -> None:
    words = [Word("", "a", 0.0), Word("", "b", None)]
    still = Explanation(FOUND.prediction, [words, []], margin=0.0, baseline=0.0, steps=1)
    assert "#ffffff" in as_html(still) and still.error == 0.0
