import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread

from src.evaluation.attribution import Explanation, Word
from src.evaluation.predictor import Prediction, Predictor
from src.evaluation.visualize import as_html, as_text, attention_maps, draw_attention, html_page
from src.interop.huggingface import load_classifier
from tests.evaluation.some_predictions import HOSTILE, Page
from tests.interop.peers import LAYERS, H, their_model, tokenizer

WORDS = [
    Word("", "A", 0.5),
    Word(" ", "dull", -2.0),
    Word("  ", "film", 0.25),
    Word("", "!", None),
]
FOUND = Explanation(Prediction("A dull  film! ", "positive", 0.75), [WORDS], margin=1.0, baseline=2.25, steps=32)


def test_plain_output_is_signed_numbers_and_their_sum() -> None:
    *lines, last = as_text(FOUND, in_color=False).splitlines()
    words = ["+0.5000\tA", "-2.0000\tdull", "+0.2500\tfilm", "unread\t!"]
    assert lines == ["positive\t0.7500\tA dull  film! ", *words]
    assert all(number in last for number in ("+1.0000", "+2.2500", "-1.2500", "0.0000 %", "32"))
    missed = replace(FOUND, margin=0.75)
    assert missed.error == pytest.approx(0.25 / 1.5)  # of what should have been explained
    assert "16.6667 %" in as_text(missed, in_color=False)


def test_a_terminal_shows_the_text_in_colours_and_the_strongest_words() -> None:
    first, text, strongest, _ = as_text(FOUND, in_color=True).splitlines()
    assert first.startswith("positive\t0.7500") and strongest == "dull -2.0000, A +0.5000, film +0.2500"
    assert re.sub(r"\x1b\[[\d;]*m", "", text) == "A dull film!"
    assert len(re.findall(r"48;2;\d+;\d+;\d+m", text)) == 3  # what is unread has no colour


def test_html_shows_every_word_with_its_number_and_its_colour() -> None:
    page = Page(as_html(FOUND))
    assert page.text[2:6] == ["A", "dull", "film", "!"] and page.text[0] == "positive"
    words = page.found("span")
    assert [word["title"] for word in words[:4]] == ["+0.5000", "-2.0000", "+0.2500", "not read"]
    colors = [re.findall(r"rgba\((.*)\)", word["style"]) for word in words]
    assert colors[:4] == [["86, 180, 233, 0.150"], ["230, 159, 0, 0.600"], ["86, 180, 233, 0.075"], []]
    still = replace(FOUND, words=[[Word("", "a", 0.0), Word("", "b", None)], []], margin=0.0, baseline=0.0)
    assert as_html(still) and still.error == 0.0  # nothing is divided by zero


def test_a_text_or_label_is_data_and_never_markup_or_a_command_to_the_terminal() -> None:
    words = [Word(" ", HOSTILE, 1.0), Word(" ", HOSTILE, None)]
    hostile = Explanation(Prediction(HOSTILE, HOSTILE, 0.5), [words], margin=1.0, baseline=0.0, steps=1)
    content = html_page([as_html(hostile)])
    page = Page(content)
    assert not page.found("script") and "\x1b" not in content and "\u202e" not in content
    assert "".join(page.text).count("<script>alert('$x_1$')</script>") == 4  # label, two words, strongest
    assert "http:" not in content and "https:" not in content and "prefers-color-scheme: dark" in content
    for shown in (as_text(hostile, in_color=True), as_text(hostile, in_color=False)):
        assert "\u202e" not in shown and "\x1b[2J" not in shown


# transformers leaves config.json open in save_pretrained
@pytest.mark.filterwarnings("ignore:unclosed file .*config.json:ResourceWarning")
def test_maps_are_the_attentions_of_transformers(tmp_path: Path) -> None:
    theirs = their_model("roberta", "classifier")
    theirs.save_pretrained(tmp_path)
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    predictor = Predictor(load_classifier(tmp_path), torch.device("cpu"))
    tokens, weights = attention_maps(predictor, "a VERY sad film!")
    assert tokens == ["[CLS]", "a", "very", "sad", "film", "!", "[SEP]"]
    ids = torch.tensor([tokenizer().encode("a very sad film!").ids])
    wanted = torch.cat(theirs(ids, output_attentions=True).attentions)  # (layers, H, T, T)
    assert weights.shape == (LAYERS, H, 7, 7) and float(weights.std()) > 0.01
    torch.testing.assert_close(weights, wanted, rtol=0, atol=1e-5)
    assert attention_maps(predictor, "sad zebra")[0] == ["[CLS]", "sad", "[UNK]", "[SEP]"]


def test_any_size_and_any_token_is_drawn_with_a_bounded_number_of_pixels(tmp_path: Path) -> None:
    for layers, heads, tokens in ((1, 1, 1), (1, 1, 300), (12, 1, 40)):
        weights = torch.full((layers, heads, tokens, tokens), 1 / tokens)
        draw_attention(tmp_path / "maps.png", ["$x\u4e2d\x1b"] * tokens, weights, "a <title> $y$ " * 99)
        assert max(imread(tmp_path / "maps.png").shape) < 7000
