import torch

from src.evaluation.metrics import cell_width, examples_table

NAMES = ("negative", "neutral", "positive")


def texts_in(table: str) -> list[str]:
    return [line.partition(" %  ")[2] for line in table.splitlines()[1:]]


def test_the_draw_does_not_follow_the_predictions() -> None:
    texts, labels = [str(index) for index in range(100)], [index % 3 for index in range(100)]
    one, other = (
        texts_in(examples_table(texts, labels, logits, NAMES, 10, 80))
        for logits in (torch.zeros(100, 3), torch.eye(3)[labels])
    )
    assert one == other != texts[:10] and len(set(one)) == 10


def test_the_table_marks_wrong_predictions_and_cuts_any_text_to_the_width() -> None:
    logits = torch.tensor([[0.003, 0.01, 0.987], [0.5, 0.3, 0.2]]).log()
    table = examples_table(["日本", "not bad , not\nbad at all 日本"], [2, 2], logits, NAMES, count=9, width=58)
    header, wrong, right = sorted(table.splitlines(), key=lambda line: ("true" not in line, not line.startswith("x")))
    assert header.split() == ["true", "predicted", "confidence", "text"]
    assert right.split() == ["positive", "positive", "98.7", "%", "日本"]
    assert wrong.split()[:4] == ["x", "positive", "negative", "50.0"] and wrong.endswith("not bad , not\\nbad...")
    for part in ("日本", "e\u0301", "\x1b]0;evil\x07", "\ud800", "a\u202eb"):
        lines = examples_table([99 * part], [0], torch.zeros(1, 1), [99 * part], count=1, width=100).splitlines()
        assert len(lines) == 2 and all(line.isprintable() and cell_width(line) <= 100 for line in lines)
