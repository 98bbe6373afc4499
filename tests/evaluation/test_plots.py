import random
from pathlib import Path

import matplotlib
import pytest
import torch

from src.evaluation.examples import Example
from src.evaluation.metrics import Evaluation, evaluate
from src.evaluation.page import Page
from src.evaluation.plots import results_picture
from tests.evaluation.some_answers import pixels_of

FINE = Example("a charming and often affecting journey", "positive", "positive", 0.9)


def evaluation_of(classes: int) -> Evaluation:
    draw = random.Random(0)
    labels, predicted = (draw.choices(range(classes), k=872) for _ in range(2))
    return evaluate(torch.eye(classes)[predicted], labels, [f"class {index} with a name" for index in range(classes)])


@pytest.mark.parametrize(("classes", "examples"), [(2, 0), (3, 1), (13, 20)])
def test_any_number_of_classes_and_examples_is_drawn(classes: int, examples: int, tmp_path: Path) -> None:
    results_picture(tmp_path / "results.png", evaluation_of(classes), [FINE] * examples, "BERT on SST-2")
    pixels = pixels_of(tmp_path / "results.png")
    assert pixels.shape == (900, 1600, 4) and (pixels[..., 3] == 255).all() and pixels.std() > 1


def test_no_text_warns_or_fails(tmp_path: Path) -> None:
    for text in ("$\\frac{$ _x^2_ 日本語 \U0001f600 \x1b[31m\n\t\u202e \ud800", "", "a" * 5000):
        results = evaluate(torch.eye(2), [0, 1], ("$a$", text or "empty"))
        results_picture(tmp_path / "results.png", results, [Example(text, text, text, 1.0)], text)


def test_equal_results_make_equal_files_whatever_the_users_settings(tmp_path: Path) -> None:
    results_picture(tmp_path / "one.png", evaluation_of(2), [FINE], "title")
    settings = {"figure.dpi": 50, "savefig.bbox": "tight", "savefig.transparent": True, "font.family": "serif"}
    with matplotlib.rc_context(settings):
        results_picture(tmp_path / "two.png", evaluation_of(2), [FINE], "title")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_text_beyond_the_last_line_is_cut() -> None:
    page = Page()
    lines = page.wrap("word " * 99, 200, 13, 2)
    assert len(lines) == 2 and lines[1].endswith("…") and not lines[0].endswith("…")
    assert len(page.wrap("a" * 99, 200, 13, 3)) == 3
    assert page.text((0, 0), "short", 13, room=120) < page.text((0, 0), "x" * 999, 13, room=120) <= 120
