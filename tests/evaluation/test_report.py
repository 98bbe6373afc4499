import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from src.evaluation import report
from src.evaluation.predictions import Predictions, write_predictions
from src.utils.config import ReportConfig
from tests.evaluation.some_predictions import FEW, HOSTILE, IN_PAIRS, MALICIOUS, Page, drawn, renamed

RUN: dict[str, Any] = {"command": ["x", HOSTILE], "data": {"name": HOSTILE}, "model": {"parameters": 3}}
RUN |= {"started": "today", "finished": None, "config": {"run": {"epochs": 3, "name": HOSTILE}, "preset": None}}


@pytest.fixture
def page_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reports predictions of a hostile run, without the time that drawing takes."""
    monkeypatch.setattr(report, "draw_charts", lambda path, *_, dark: path.write_bytes(b"dark" if dark else b"light"))

    def make(predictions: Predictions) -> str:
        (tmp_path / "run.json").write_text(json.dumps(RUN))
        write_predictions(tmp_path / "some.jsonl", predictions)
        page = report.write_report(ReportConfig(tmp_path, predictions=tmp_path / "some.jsonl"))
        return page.read_text(encoding="utf-8")

    return make


def test_the_page_holds_its_pictures_for_light_and_dark_and_needs_nothing_else(page_of: Any) -> None:
    content = page_of(MALICIOUS)
    page = Page(content)
    light, dark = (f"data:image/png;base64,{base64.b64encode(name).decode()}" for name in (b"light", b"dark"))
    assert {picture["src"] for picture in page.found("img")} == {light}
    assert {(s["srcset"], s["media"]) for s in page.found("source")} == {(dark, "(prefers-color-scheme: dark)")}
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "form", "a"})
    assert "url(" not in content and "@import" not in content
    policy = [meta["content"] for meta in page.found("meta") if "http-equiv" in meta]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_data_is_shown_as_it_is_and_never_obeyed(page_of: Any) -> None:
    content = page_of(MALICIOUS)
    page = Page(content)
    assert not any("script" in tag or "onerror" in attributes for tag, attributes in page.tags)
    shown = HOSTILE.encode("unicode_escape").decode()  # control characters and what turns the direction of writing
    # What the run was trained on, a setting, and two mistakes of two texts each; in the command, quotes are doubled.
    assert sum(shown in text for text in page.text) == 2 + 2 * 2
    assert "\x1b" not in content and "\u202e" not in content and "None" not in content


def test_the_surest_twenty_mistakes_are_listed_and_long_texts_and_names_cut(page_of: Any) -> None:
    expected = ["97.0%", "bad", "good", "well", "91.0%", "good", "bad", "it is n't dull"]
    assert Page(page_of(FEW)).text[-8:] == expected
    assert Page(page_of(IN_PAIRS)).text[-2:] == ["it is n't dull", "three"]  # both texts of a pair
    predictions = drawn()
    wrong = [score for score, right in zip(predictions.score, predictions.right, strict=True) if not right]
    shown = [text for text in Page(page_of(predictions)).text if re.fullmatch(r"[\d.]+%", text)]
    assert shown[-20:] == [f"{score:.1%}" for score in sorted(wrong, reverse=True)[:20]]
    long = page_of(replace(renamed(FEW, "n" * 99, "p" * 99), text=["x" * 9999] * 5))
    assert max(map(len, re.findall("x+", long))) <= 400 and max(map(len, re.findall("n+|p+", long))) <= 30
