from typing import Any

from huggingface_hub import ModelCard

from src.interop.model_card import classifier_card, masked_lm_card

PRETRAINING: dict[str, Any] = {
    "data": {"name": "books.txt + films:train", "documents": 75_000, "train": 20_000_123},
    "model": {"model_type": "bert", "num_hidden_layers": 4, "hidden_size": 256, "parameters": 5_399_808},
    "config": {
        "tokenization": {"seq_len": 128},
        "optimization": {"mask_rate": 0.3, "max_steps": 12_345, "batch_size": 32, "learning_rate": 0.001},
        "run": {"seed": 7},
    },
}
NUMBERS = {"n": 38_912, "accuracy": 0.4567, "loss": 2.9876, "unigram_accuracy": 0.0511, "unigram_loss": 6.4321}
TRAINING: dict[str, Any] = {
    "data": {
        "name": "stanfordnlp/sst2",
        "label_names": ["negative", "positive"],
        "train": 67_349,
        "validation_origin": "stanfordnlp/sst2, split validation",
    },
    "model": PRETRAINING["model"] | {"parameters": 5_466_370, "pretraining": None, "seq_len": 62},
    "config": {
        "model_name_or_path": None,
        "tokenization": {"seq_len": 128, "long_text": "truncate"},
        "optimization": {"epochs": 2, "batch_size": 32, "learning_rate": 0.0002},
        "run": {"seed": 3},
    },
}
EVALUATION = {"n": 872, "accuracy": 0.8543, "interval": [0.83, 0.88], "f1": 0.8541, "mcc": 0.709, "loss": 0.3456}


def fine_tuned(base: str | None, pretraining: dict[str, Any] | None) -> dict[str, Any]:
    """The run.json of a classifier that began with a model."""
    return TRAINING | {
        "config": TRAINING["config"] | {"model_name_or_path": base},
        "model": TRAINING["model"] | {"pretraining": pretraining},
    }


def words(card: str) -> str:
    content: Any = ModelCard(card)
    return " ".join(content.text.split())


def test_the_card_of_a_pretrained_model_tells_model_data_training_and_numbers_beside_the_baselines() -> None:
    card = masked_lm_card(PRETRAINING, NUMBERS)
    facts = ["books.txt + films:train", "5,399,808 parameters", "4 layers", "256 wide", "random weights", "75,000"]
    facts += ["20,000,123", "rate 0.3", "rows of 128", "12,345 steps", "32 rows", "learning rate 0.001", "seed 7"]
    assert [fact for fact in facts if fact not in words(card)] == []
    table = [line.strip("|").split("|") for line in card.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line] for line in table]
    assert "38,912" in head[0]
    numbers = [[cell.split()[0] for cell in row] for row in rows]
    assert numbers == [["accuracy", "45.7", "5.1"], ["loss", "2.988", "6.432"]]


def test_the_card_of_a_classifier_says_what_it_was_trained_from_the_first_first_but_no_path() -> None:
    found = words(classifier_card(fine_tuned(None, None), EVALUATION))
    facts = ("random weights", "67,349 examples", "stanfordnlp/sst2", "2 epochs", "62 tokens", "85.4 %", "83.0-88.0")
    assert [fact for fact in facts if fact not in found] == []
    second = PRETRAINING | {
        "config": PRETRAINING["config"] | {"model_name_or_path": "/home/x/books"},
        "data": PRETRAINING["data"] | {"name": "notes.txt"},
        "model": PRETRAINING["model"] | {"pretraining": PRETRAINING},
    }
    found = words(classifier_card(fine_tuned("/home/x/more", second), EVALUATION))
    order = ("trained from more", "random weights", "1. 12,345 steps", "books.txt", "2. 12,345 steps", "notes.txt")
    places = [found.index(fact) for fact in order]
    assert places == sorted(places) and "/home" not in found
    found = words(masked_lm_card(second, NUMBERS))
    assert "trained from books" in found and "2. 12,345" not in found and "/home" not in found
