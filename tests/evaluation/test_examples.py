import math

import pytest
import torch

from src.evaluation.examples import Example, cell_width, draw_examples, examples_table

NAMES = ("negative", "neutral", "positive")
LOGITS = torch.tensor([[0.0, 0.0, math.log(2)], [5.0, 0.0, 0.0], [0.0, math.log(8), 0.0]])


def test_an_example_carries_label_answer_and_probability() -> None:
    drawn = draw_examples(["one", "two", "three"], [2, 1, 1], LOGITS, NAMES, count=9, seed=0)
    by_text = {example.text: example for example in drawn}
    assert len(drawn) == len(by_text) == 3
    assert (by_text["one"].label, by_text["one"].predicted) == ("positive", "positive")
    assert (by_text["two"].label, by_text["two"].predicted) == ("neutral", "negative")
    assert by_text["one"].score == pytest.approx(2 / 4)
    assert by_text["three"].score == pytest.approx(8 / 10)


def test_the_draw_follows_the_seed_and_not_the_answers() -> None:
    texts, labels = [str(index) for index in range(100)], torch.arange(100) % 3
    draws = [
        [example.text for example in draw_examples(texts, labels, logits, NAMES, 10, seed)]
        for logits, seed in ((torch.zeros(100, 3), 1), (torch.eye(3)[labels], 1), (torch.zeros(100, 3), 2))
    ]
    assert draws[0] == draws[1] != draws[2]
    assert all(len(set(draw)) == 10 for draw in draws)
    assert draw_examples([], [], torch.zeros(0, 3), NAMES, 10, 0) == []


def test_the_table_marks_wrong_answers_and_cuts_texts() -> None:
    wrong = Example("not bad , not\nbad at all 日本日本", "positive", "negative", 0.5)
    lines = examples_table([Example("日本", "positive", "positive", 0.987), wrong], width=56).splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["positive", "positive", "98.7", "%"],
        ["x", "positive", "negative", "50.0"],
    ]
    assert lines[1].endswith("日本") and lines[2].endswith("not bad , not\\nbad...")


def test_no_text_breaks_the_table() -> None:
    for part in ("日本", "e\u0301", "\x1b]0;evil\x07", "\ud800", "a\u202eb"):
        text = 99 * part
        lines = examples_table([Example(text, text, text, 1.0)], width=100).splitlines()
        assert len(lines) == 2
        assert all(line.isprintable() and cell_width(line) <= 100 for line in lines)
        "\n".join(lines).encode("utf-8")
