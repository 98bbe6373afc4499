from typing import Any

import pytest
from huggingface_hub import ModelCard

from src.interop.model_card import classifier_card, masked_lm_card

RUN: dict[str, Any] = {
    "data": {"name": "books.txt + films:train", "documents": 75_000, "train": 20_000_123},
    "model": {"model_type": "bert", "num_hidden_layers": 4, "hidden_size": 256, "parameters": 5_399_808},
    "config": {
        "tokenization": {"seq_len": 128},
        "optimization": {"mask_rate": 0.3, "max_steps": 12_345, "batch_size": 32, "learning_rate": 0.001},
        "run": {"seed": 7},
    },
}
NUMBERS = {"n": 38_912, "accuracy": 0.4567, "loss": 2.9876, "unigram_accuracy": 0.0511, "unigram_loss": 6.4321}


def test_the_card_of_a_pretrained_model_says_what_it_is_in_the_hubs_format() -> None:
    card: Any = ModelCard(masked_lm_card(RUN, NUMBERS))
    assert card.data.pipeline_tag == "fill-mask"
    words = " ".join(card.text.split())
    assert words.startswith("# BERT 4/256, pre-trained on books.txt + films:train ")
    for part in (
        "5,399,808 parameters in 4 layers, 256 wide, trained from random weights to predict masked tokens (rate 0.3)",
        "of 75,000 documents, 20,000,123 tokens, in rows of 128: 12,345 steps of 32 rows",
        "learning rate 0.001, seed 7. No labels were used.",
    ):
        assert part in words


def test_the_card_of_a_pretrained_model_shows_its_numbers_beside_the_baselines() -> None:
    lines = masked_lm_card(RUN, NUMBERS).splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert table[0] == ["38,912 masked tokens (15%) of held-out documents", "this model", "most frequent token, always"]
    assert table[2:] == [["accuracy", "45.7 %", "5.1 %"], ["loss in nats", "2.988", "6.432 (token frequencies)"]]


CLASSIFIER: dict[str, Any] = {
    "data": {
        "name": "stanfordnlp/sst2",
        "label_names": ["negative", "positive"],
        "train": 67_349,
        "validation_origin": "stanfordnlp/sst2, split validation",
    },
    "model": {
        "model_type": "bert",
        "num_hidden_layers": 4,
        "hidden_size": 256,
        "parameters": 5_466_370,
        "pretraining": None,
        "seq_len": 62,
    },
    "config": {
        "model_name_or_path": None,
        "tokenization": {"seq_len": 128, "long_text": "truncate"},
        "optimization": {"epochs": 2, "batch_size": 32, "learning_rate": 0.0002},
        "run": {"seed": 3},
    },
}
EVALUATION = {"n": 872, "accuracy": 0.8543, "interval": [0.83, 0.88], "f1": 0.8541, "mcc": 0.709, "loss": 0.3456}


def described(model_name_or_path: str | None, pretraining: dict[str, Any] | None) -> str:
    run = CLASSIFIER | {
        "config": CLASSIFIER["config"] | {"model_name_or_path": model_name_or_path},
        "model": CLASSIFIER["model"] | {"pretraining": pretraining},
    }
    card: Any = ModelCard(classifier_card(run, EVALUATION))
    assert "A text is read up to 62 tokens" in card.text  # fewer than asked for, if the checkpoint knows fewer
    return " ".join(card.text.split())


@pytest.mark.parametrize(
    "model, said",
    [
        (None, "random weights"),
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
        ("/home/somebody/models/my-bert", "my-bert"),
    ],
)
def test_the_card_of_a_classifier_says_what_it_was_trained_from_but_no_path(model: str | None, said: str) -> None:
    assert f"256 wide, trained from {said} on 67,349 examples of stanfordnlp/sst2: 2 epochs" in described(model, None)


def test_the_card_of_a_classifier_tells_of_the_pretrainings_that_came_before() -> None:
    first = (
        "Pre-trained before, without labels, to predict masked tokens, from random weights: "
        "1. 12,345 steps of 32 rows of 128 tokens of books.txt + films:train (75,000 documents, 20,000,123 tokens) "
    )
    card = described("/home/somebody/weights/books", RUN)
    assert "trained from books on 67,349 examples" in card and f"seed 3. {first}Labels: negative" in card
    more = RUN | {"config": RUN["config"] | {"model_name_or_path": "/home/x/books"}, "model": {"pretraining": RUN}}
    more = more | {"data": RUN["data"] | {"name": "notes.txt"}}
    second = "2. 12,345 steps of 32 rows of 128 tokens of notes.txt (75,000 documents, 20,000,123 tokens) Labels:"
    assert first + second in described("/home/somebody/weights/more", more)


def test_the_card_of_a_pretraining_that_went_on_tells_of_the_one_before() -> None:
    base = {
        "config": RUN["config"] | {"model_name_or_path": "/home/x/books"},
        "model": RUN["model"] | {"pretraining": RUN},
    }
    words = " ".join(masked_lm_card(RUN | base, NUMBERS).split())
    assert "256 wide, trained from books to predict" in words and "/home" not in words
    assert "from random weights: 1. 12,345 steps" in words
