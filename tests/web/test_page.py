from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src.evaluation.predictor import Predictor
from src.utils.config import SHIPPED_CHECKPOINT
from src.web.limits import SENTENCES, TEXT_CHARACTERS, RateLimit

gradio = pytest.importorskip("gradio")


@pytest.fixture
def visit(tmp_path: Path) -> Any:
    from src.web.page import Visit

    return Visit(Predictor.load(SHIPPED_CHECKPOINT, "cpu"), RateLimit(most=3), tmp_path)


def visitor(address: str = "10.0.0.1") -> Any:
    return SimpleNamespace(client=SimpleNamespace(host=address))


def test_every_sentence_has_an_answer_and_the_first_its_attention(visit: Any) -> None:
    html, picture = visit.answer("a charming film\n\n a <b>bore</b>\n", visitor())
    assert html.count('class="explained"') == 2 and "positive" in html and "negative" in html
    assert ">charming</span>" in html and "<b>bore" not in html
    assert Path(picture).read_bytes().startswith(b"\x89PNG") and visit.folder in Path(picture).parents


def test_what_is_too_long_is_cut_and_said_to_be(visit: Any) -> None:
    many, _ = visit.answer("film\n" * (SENTENCES + 3), visitor())
    assert many.count('class="explained"') == SENTENCES and f"first {SENTENCES} sentences" in many
    long, _ = visit.answer("a " * TEXT_CHARACTERS, visitor())
    assert f"{TEXT_CHARACTERS:,} characters" in long and long.count("<span") <= TEXT_CHARACTERS / 2
    assert "64 tokens" in long


def test_a_client_that_asks_too_often_has_to_wait_and_others_do_not(visit: Any) -> None:
    for _ in range(3):
        with pytest.raises(gradio.Error, match="CSV"):
            visit.table(None, "", visitor())
    for ask, given in ((visit.table, (None, "")), (visit.answer, ("film",))):
        with pytest.raises(gradio.Error, match="wait"):
            ask(*given, visitor())
    with pytest.raises(gradio.Error, match="sentence"):  # of nothing typed
        visit.answer(" \n\t", visitor("10.0.0.3"))
    assert visit.answer("film", visitor("10.0.0.2"))[0]


def test_a_table_comes_back_with_predictions_or_an_error_for_people(visit: Any, tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("text\nfilm\n")
    output, _ = visit.table(str(tmp_path / "texts.csv"), None, visitor())
    assert Path(output).name == "predictions.csv" and "predicted_label" in Path(output).read_text()
    (tmp_path / "bad.csv").write_text("<b>\nfilm\n")
    with pytest.raises(gradio.Error, match="&lt;b&gt;"):
        visit.table(str(tmp_path / "bad.csv"), "", visitor())
