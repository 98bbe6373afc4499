import math

import pytest
import torch

from src.evaluation.examples import Example, cell_width, draw_examples, examples_table, fit_cells, pad_cells

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
    examples = [
        Example("a fine film", "positive", "positive", 0.987),
        Example("not bad , not\nbad at all", "positive", "negative", 0.5),
    ]
    assert examples_table(examples, width=56).splitlines() == [
        "  true      predicted  confidence  text",
        "  positive  positive       98.7 %  a fine film",
        "x positive  negative       50.0 %  not bad , not\\nbad...",
    ]


def test_no_text_breaks_the_table() -> None:
    for part in ("日本", "e\u0301", "\x1b]0;evil\x07", "\ud800", "a\u202eb"):
        text = 99 * part
        lines = examples_table([Example(text, text, text, 1.0)], width=100).splitlines()
        assert len(lines) == 2
        assert all(line.isprintable() and cell_width(line) <= 100 for line in lines)
        "\n".join(lines).encode("utf-8")


def test_cells_are_counted_cut_and_padded_by_columns_not_characters() -> None:
    assert (cell_width("ab"), cell_width("日本"), cell_width("e\u0301")) == (2, 4, 1)
    assert fit_cells("abcdef", 6) == "abcdef"
    assert fit_cells("abcdefg", 6) == "abc..."
    assert fit_cells("日本日本", 6) == "日..."
    assert pad_cells("日", 4) == "日  "
    assert pad_cells("ab", 4, right=True) == "  ab"
