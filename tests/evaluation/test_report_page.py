import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

from sklearn.metrics import classification_report

from src.evaluation.answers import Answers
from src.evaluation.charts import Chart
from src.evaluation.report_page import most_confident_mistakes, report_page
from tests.evaluation.some_answers import FEW, HOSTILE, drawn, hostile, in_pairs

VOID = {"meta", "img", "br", "source"}
CHART = Chart("line", "Line", "It goes up.", lambda axes, theme: None)


class Page(HTMLParser):
    """Reads a page strictly: what opens has to close, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style" and data.strip():
            self.text.append(data)

    def found(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(answers: Answers | None, missing: tuple[str, ...] = ()) -> str:
    facts = {"command": HOSTILE, "accuracy": "60 %"}
    return report_page("A run", facts, missing, [(CHART, b"light", b"dark")], answers)


def test_the_page_holds_its_pictures_for_light_and_dark() -> None:
    page = Page(page_of(FEW))
    dark, light = page.found("source")[0], page.found("img")[0]
    assert light["src"] == f"data:image/png;base64,{base64.b64encode(b'light').decode()}"
    assert dark["srcset"] == f"data:image/png;base64,{base64.b64encode(b'dark').decode()}"
    assert dark["media"] == "(prefers-color-scheme: dark)" and light["alt"] == "Line. It goes up."


def test_the_page_needs_nothing_but_itself() -> None:
    content = page_of(hostile(), ("See https://example.org for more.",))
    page = Page(content)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "form", "a"})
    addresses = [
        value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "srcset", "href")
    ]
    assert addresses and all(address.startswith("data:image/png;base64,") for address in addresses)
    assert "url(" not in content and "@import" not in content
    policy = [meta["content"] for meta in page.found("meta") if "http-equiv" in meta]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_data_is_shown_as_it_is_and_never_obeyed() -> None:
    content = page_of(hostile(), (HOSTILE,))
    shown = HOSTILE.encode("unicode_escape").decode()  # control characters and what turns the direction of writing
    page = Page(content)
    assert not any("script" in tag or "onerror" in attributes for tag, attributes in page.tags)
    # The fact, what is missing, two classes, and two mistakes of two texts each.
    assert sum(shown in text for text in page.text) == 1 + 1 + 2 + 2 * 2
    assert "\x1b" not in content and "\u202e" not in content
    content.encode("utf-8")


def test_the_surest_twenty_mistakes_are_listed_and_long_texts_and_names_cut() -> None:
    assert most_confident_mistakes(FEW) == [4, 2]
    page = Page(page_of(FEW))
    texts = [text for text in page.text if text in FEW.texts or text.endswith(" %") or text in FEW.label_names]
    assert texts[-8:] == ["97.0 %", "bad", "good", "well", "91.0 %", "good", "bad", "it is n't dull"]
    assert Page(page_of(in_pairs())).text[-2:] == ["it is n't dull", "three"]  # both texts of a pair
    answers = drawn()
    rows = most_confident_mistakes(answers)
    others = {row for row, right in enumerate(answers.right) if not right} - set(rows)
    assert len(rows) == 20 and not any(answers.right[row] for row in rows)
    assert min(answers.scores[row] for row in rows) >= max(answers.scores[row] for row in others)
    long = page_of(replace(FEW, texts=["x" * 9999] * 5, label_names=("n" * 99, "p" * 99)))
    assert max(map(len, re.findall("x+", long))) == 400 and max(map(len, re.findall("<td>(n+)…", long))) == 30


def test_the_classes_have_the_rates_of_scikit_learn() -> None:
    answers = drawn()
    report = classification_report(answers.true, answers.predicted, output_dict=True, target_names=answers.label_names)
    text = Page(page_of(answers)).text
    for name in answers.label_names:
        _, texts, _, *rates = text[text.index(name) - 5 : text.index(name)]
        assert texts == f"{report[name]['support']:.0f}"
        assert rates == [f"{100 * report[name][rate]:.1f} %" for rate in ("recall", "precision")]
    assert "-" in Page(page_of(replace(FEW, true=[1] * 5))).text  # the recall of a class that never occurs


def test_without_labels_or_answers_the_page_is_silent_or_says_what_is_missing() -> None:
    assert "every answer is right" in page_of(replace(FEW, true=FEW.predicted))
    assert "mistakes" not in page_of(replace(FEW, true=None))
    assert "There is no model." in Page(page_of(None, ("There is no model.",))).text
