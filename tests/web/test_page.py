import csv
import re
import time
from pathlib import Path

import pytest

from src.evaluation.predictor import Predictor
from src.utils.config import SHIPPED_CHECKPOINT

pytest.importorskip("gradio")
from starlette.responses import JSONResponse

from src.web import page


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(SHIPPED_CHECKPOINT, "cpu")


def classify(predictor: Predictor, folder: Path, content: str, column: str = "") -> tuple[list[list[str]], str]:
    (folder / "texts.csv").write_text(content, encoding="utf-8")
    said, output = page.classify_table(predictor, str(folder / "texts.csv"), column, folder)
    if output is None:
        return [], said
    with Path(output).open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream)), said


def test_every_sentence_has_an_answer_and_the_first_its_attention(predictor: Predictor, tmp_path: Path) -> None:
    html, picture = page.explain_sentences(predictor, "a charming film\n\n a <b>bore</b>\n", tmp_path)
    assert html.count('class="explained"') == 2 and "positive" in html and "negative" in html
    assert ">charming</span>" in html and "<b>bore" not in html
    assert picture and Path(picture).read_bytes().startswith(b"\x89PNG") and tmp_path in Path(picture).parents
    said, picture = page.explain_sentences(predictor, " \n\t", tmp_path)  # nothing is typed
    assert "sentence" in said and picture is None


def test_what_is_too_long_is_cut_short(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many, _ = page.explain_sentences(predictor, "film\n" * (page.SENTENCES + 3), tmp_path)
    assert many.count('class="explained"') == page.SENTENCES and f"first {page.SENTENCES} sentences" in many
    long, _ = page.explain_sentences(predictor, "a " * page.TEXT_CHARACTERS, tmp_path)
    assert f"{page.TEXT_CHARACTERS:,} characters" in long and long.count("<span") <= page.TEXT_CHARACTERS / 2
    assert "too long" in long
    monkeypatch.setattr(page, "TEXT_CHARACTERS", len("a bore"))
    rows, said = classify(predictor, tmp_path, "text\na bore\na bore? no! a charming and wonderful film\n")
    assert rows[1][1:] == rows[2][1:] and rows[1][1] == "negative" and "1 texts" in said


def test_every_row_of_a_table_comes_back_with_label_and_confidence(predictor: Predictor, tmp_path: Path) -> None:
    table = 'id,text\n007,"a charming, ""fine"" film"\nNA,a bore\n3, \n'
    (header, fine, bore, blank), _ = classify(predictor, tmp_path, table)
    assert header == ["id", "text", "predicted_label", "predicted_score"]
    wanted = [round(one.score or 0, 6) for one in predictor.predict(['a charming, "fine" film', "a bore"])]
    assert fine == ["007", 'a charming, "fine" film', "positive", str(wanted[0])]
    assert bore == ["NA", "a bore", "negative", str(wanted[1])]
    assert blank == ["3", " ", "", ""]
    (header, row), _ = classify(predictor, tmp_path, "words,=1+1\na bore,-x\n", " words ")
    assert header[:2] == ["words", "'=1+1"] and row == ["a bore", "'-x", *bore[2:]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text\n" + "film\n" * (page.CSV_ROWS + 1), "1,001 rows.*1,000"),
        ("<b>\nfilm\n", "text.*&lt;b&gt;"),
        ("text\nfilm,dull\n", ":2: "),
        ("text,predicted_label\nfilm,good\n", "predicted_label"),
    ],
)
def test_no_table_is_an_error_without_a_path(content: str, message: str, predictor: Predictor, tmp_path: Path) -> None:
    rows, said = classify(predictor, tmp_path, content)
    assert rows == [] and re.search(message, said) and str(tmp_path) not in said
    assert page.classify_table(predictor, None, "", tmp_path)[1] is None


def test_a_client_that_asks_too_often_has_to_wait_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = page.Gate(JSONResponse({}))
    monkeypatch.setattr(time, "time", lambda: 59.0)
    assert all(gate.admits("10.0.0.1") for _ in range(page.CALLS))
    assert not gate.admits("10.0.0.1") and gate.admits("10.0.0.2")
    monkeypatch.setattr(time, "time", lambda: 60.0)
    assert gate.admits("10.0.0.1")
