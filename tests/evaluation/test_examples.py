import pytest
import torch

from src.evaluation.examples import Example, cell_width, draw_examples, examples_table

NAMES = ("negative", "neutral", "positive")


def test_an_example_carries_label_prediction_and_probability() -> None:
    logits = torch.tensor([[0.1, 0.1, 0.8], [0.6, 0.3, 0.1]]).log()
    drawn = draw_examples(["one", "two"], [2, 1], logits, NAMES, count=9, seed=0)
    one, two = sorted(drawn, key=lambda example: example.text)
    assert (one.label, one.predicted, two.label, two.predicted) == ("positive", "positive", "neutral", "negative")
    assert [one.score, two.score] == pytest.approx([0.8, 0.6])


def test_the_draw_follows_the_seed_and_not_the_predictions() -> None:
    texts, labels = [str(index) for index in range(100)], [index % 3 for index in range(100)]
    same, again, other = (
        [example.text for example in draw_examples(texts, labels, logits, NAMES, 10, seed)]
        for logits, seed in ((torch.zeros(100, 3), 1), (torch.eye(3)[labels], 1), (torch.zeros(100, 3), 2))
    )
    assert same == again != other and len(set(same)) == 10


def test_the_table_marks_wrong_predictions_and_cuts_any_text_to_the_width() -> None:
    wrong = Example("not bad , not\nbad at all 日本", "positive", "negative", 0.5)
    lines = examples_table([Example("日本", "positive", "positive", 0.987), wrong], width=56).splitlines()
    assert lines[1].split() == ["positive", "positive", "98.7", "%", "日本"]
    assert lines[2].split()[:4] == ["x", "positive", "negative", "50.0"] and lines[2].endswith("not bad , not\\nbad...")
    for part in ("日本", "e\u0301", "\x1b]0;evil\x07", "\ud800", "a\u202eb"):
        lines = examples_table([Example(99 * part, 99 * part, 99 * part, 1.0)], width=100).splitlines()
        assert len(lines) == 2 and all(line.isprintable() and cell_width(line) <= 100 for line in lines)
