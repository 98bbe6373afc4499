import csv
import sys
from pathlib import Path

import datasets
import pytest

from src.data.documents import sentences
from src.utils.config import SHIPPED_CHECKPOINT
from tests.benchmarks import review_sentences
from tests.benchmarks.review_sentences import agreed

REVIEWS = [
    'I liked it very much.<br /><br />The actors are so good! "It has a heart." Short one.',
    "the actors are SO good! A terrible and boring waste of time.",
]


def test_sentences_have_ordinary_length_and_come_once() -> None:
    assert list(sentences(REVIEWS)) == [
        (0, "I liked it very much."),
        (0, "The actors are so good!"),
        (0, '"It has a heart.'),
        (1, "A terrible and boring waste of time."),
    ]


def test_those_on_whose_label_both_agree_are_chosen_half_of_the_surest() -> None:
    found = [(f"Text {number}", "positive" if number % 2 else "negative") for number in range(4000)]
    answers = [("positive", 0.99 if number < 2000 else 0.9) for number in range(4000)]
    chosen = agreed(found, answers)
    assert chosen == agreed(found, answers) and len({text for text, _ in chosen}) == len(chosen)
    numbers = [int(text.removeprefix("text ")) for text, label in chosen if label == "positive"]
    assert len(numbers) == len(chosen) and all(number % 2 for number in numbers) and numbers != sorted(numbers)
    assert len([number for number in numbers if number >= 2000]) == 1000
    assert 400 < len([number for number in numbers if number < 2000]) < 600


@pytest.mark.deep
def test_reviews_become_files_to_train_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    for split in ("train", "test"):
        rows = datasets.Dataset.from_dict({"text": REVIEWS, "label": [1, 0]}, features=features)
        rows.to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    arguments = ["--dataset", str(tmp_path), "--classifier", str(SHIPPED_CHECKPOINT), "--output-dir", "made/here"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["review_sentences", *arguments])
    monkeypatch.setattr(review_sentences, "VALIDATION", 1)
    review_sentences.main()
    read = {}
    for name in ("train", "validation"):
        with (tmp_path / "made" / "here" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            read[name] = list(csv.reader(file))
    assert read["train"][0] == read["validation"][0] == ["text", "label"] and len(read["validation"]) == 2
    labels = dict(read["train"][1:] + read["validation"][1:])
    assert labels["a terrible and boring waste of time."] == "negative"
