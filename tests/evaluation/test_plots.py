import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.evaluation.examples import Example
from src.evaluation.metrics import Evaluation, evaluate
from src.evaluation.page import Page
from src.evaluation.plots import results_picture
from tests.evaluation.some_answers import pixels_of

RIGHT, WRONG = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
FINE = Example("a charming and often affecting journey", "positive", "positive", 0.9)
FLAWED = Example("it 's slow -- very , very slow .", "negative", "positive", 0.6)


def evaluation_of(classes: int, n: int = 872, accuracy: float = 0.8) -> Evaluation:
    draw = random.Random(0)
    labels = [draw.randrange(classes) for _ in range(n)]
    predicted = [label if draw.random() < accuracy else draw.randrange(classes) for label in labels]
    names = ["negative", "positive"] if classes == 2 else [f"class {index} with a name" for index in range(classes)]
    return evaluate(torch.eye(classes)[predicted], labels, names)


def picture_of(path: Path, examples: list[Example], classes: int = 2) -> np.ndarray[Any, Any]:
    results_picture(path / "results.png", evaluation_of(classes), examples, "BERT on SST-2")
    return pixels_of(path / "results.png")


def count(pixels: np.ndarray[Any, Any], color: tuple[int, int, int]) -> int:
    return int((pixels[..., :3] == color).all(axis=-1).sum())


def test_the_picture_has_its_size_empty_margins_and_an_opaque_background(tmp_path: Path) -> None:
    pixels = picture_of(tmp_path, [FLAWED] * 20)
    assert pixels.shape == (900, 1600, 4)
    assert (pixels[..., 3] == 255).all()
    assert 0.5 < count(pixels, (255, 255, 255)) / (900 * 1600) < 0.98
    edges = [pixels[:40], pixels[-55:], pixels[:, :55], pixels[:, -55:]]
    assert all((edge == 255).all() for edge in edges)


def test_wrong_answers_are_vermillion_and_right_ones_blue(tmp_path: Path) -> None:
    halves = {name: picture_of(tmp_path, [example])[:, 650:] for name, example in (("fine", FINE), ("bad", FLAWED))}
    assert count(halves["fine"], RIGHT) > 900 and count(halves["fine"], WRONG) == 0
    assert count(halves["bad"], WRONG) > 600 and count(halves["bad"], RIGHT) == 0


def test_the_bars_are_as_long_as_the_numbers_say(tmp_path: Path) -> None:
    evaluation = evaluation_of(2)
    row = picture_of(tmp_path, [FINE, FLAWED])[253, 60:590]
    assert count(row[None], RIGHT) + 3 == pytest.approx(530 * evaluation.accuracy, abs=4)
    bar = picture_of(tmp_path, [FINE])[217, 1390:1470]
    assert count(bar[None], RIGHT) == pytest.approx(80 * FINE.score, abs=1)


def test_any_number_of_classes_and_examples_is_drawn(tmp_path: Path) -> None:
    for classes, examples in ((2, 0), (3, 1), (5, 12), (13, 2)):
        half = picture_of(tmp_path, [FINE] * examples, classes)[100:, 650:]
        assert (count(half, RIGHT) > 0) == (examples > 0)


def test_no_text_warns_or_fails(tmp_path: Path) -> None:
    for text in ("$\\frac{$ _x^2_ 日本語 \U0001f600 \x1b[31m\n\t\u202e \ud800", "", "a" * 5000):
        results = evaluate(torch.eye(2), [0, 1], ("$a$", text or "empty"))
        results_picture(tmp_path / "results.png", results, [Example(text, text, text, 1.0)], text)
        assert pixels_of(tmp_path / "results.png").shape == (900, 1600, 4)


def test_equal_results_make_equal_files_whatever_the_users_settings(tmp_path: Path) -> None:
    import matplotlib

    results_picture(tmp_path / "one.png", evaluation_of(2), [FINE], "title")
    settings = {"figure.dpi": 50, "savefig.bbox": "tight", "savefig.transparent": True, "font.family": "serif"}
    with matplotlib.rc_context(settings):
        results_picture(tmp_path / "two.png", evaluation_of(2), [FINE], "title")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_text_beyond_the_last_line_is_cut() -> None:
    page = Page()
    lines = page.wrap("word " * 99, 200, 13, 2)
    assert len(lines) == 2
    assert lines[1].endswith("…") and not lines[0].endswith("…")
    assert 150 < page.text((0, 0), lines[1], 13) <= 200
    assert len(page.wrap("a" * 99, 200, 13, 3)) == 3
    assert page.text((0, 0), "x" * 999, 13, room=120) <= 120
    assert page.text((0, 0), "short", 13, room=120) < 120
