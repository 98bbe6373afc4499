import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from src.interop.model_card import classifier_card, completed_card, masked_lm_card
from src.utils.config import SHIPPED_CHECKPOINT
from tests.conftest import TrainedRun

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
EVALUATION = {"n": 872, "accuracy": 0.8543, "interval": [0.83, 0.88], "f1": 0.8541, "mcc": 0.709, "loss": 0.3456}


def after(run: dict[str, Any], base: str | None, pretraining: dict[str, Any] | None, data: str) -> dict[str, Any]:
    """The run.json of a training on other data that began with a model."""
    return run | {
        "data": run["data"] | {"name": data},
        "config": run["config"] | {"model_name_or_path": base},
        "model": run["model"] | {"pretraining": pretraining},
    }


REVIEWS = after(PRETRAINING, None, None, "imdb:train + imdb:unsupervised")
DISTILBERT = after(PRETRAINING, "distilbert/distilbert-base-uncased", None, "imdb:train")


def fine_tuned(base: str | None, pretraining: dict[str, Any] | None, data: str = "stanfordnlp/sst2") -> dict[str, Any]:
    run = after(PRETRAINING, base, pretraining, data)
    origin = f"{data}, split validation" if data == "stanfordnlp/sst2" else f"{data}, a stratified tenth"
    run["data"] |= {"label_names": ["negative", "positive"], "train": 67_349, "validation_origin": origin}
    run["model"] |= {"seq_len": 62}
    settings = run["config"]
    settings["tokenization"] = {"seq_len": 128, "long_text": "truncate"}
    settings["optimization"] = {"epochs": 2, "batch_size": 32, "learning_rate": 0.0002}
    return run


def read(card: str) -> tuple[Any, str]:
    """The header as `huggingface_hub` reads it, and the text with single spaces."""
    content: Any = ModelCard(card)
    return content.data, " ".join(content.text.split())


def test_the_card_of_a_classifier_names_data_training_and_results() -> None:
    data, text = read(classifier_card(fine_tuned(None, None), EVALUATION))
    facts = ("random weights", "67,349 examples", "stanfordnlp/sst2", "2 epochs", "62 tokens", "85.4 %", "83.0-88.0")
    assert [fact for fact in facts if fact not in text] == []
    named = data.to_dict()
    assert len(named.pop("model-index")) == 1
    assert named == {
        "language": "en",
        "license": "mit",
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["bert"],
        "datasets": ["stanfordnlp/sst2"],
        "metrics": ["accuracy", "f1", "matthews_correlation"],
    }
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    assert found == {"accuracy": 0.8543, "f1": 0.8541, "matthews_correlation": 0.709}
    places = {(result.dataset_type, result.dataset_split) for result in data.eval_results}
    assert places == {("stanfordnlp/sst2", "validation")}


def test_the_card_of_a_pretrained_model_has_the_numbers_beside_the_baselines() -> None:
    card = masked_lm_card(REVIEWS, NUMBERS)
    data, text = read(card)
    facts = ["5,399,808 parameters", "4 layers", "256 wide", "random weights", "75,000", "20,000,123", "rate 0.3"]
    facts += ["rows of 128", "12,345 steps", "32 rows", "learning rate 0.001", "seed 7", "38,912"]
    assert [fact for fact in facts if fact not in text] == []
    rows = [line.replace("|", " ").split() for line in card.splitlines() if line.startswith("|")]
    assert rows[-2] == ["accuracy", "45.7", "%", "5.1", "%"]
    assert rows[-1][3:5] == ["2.988", "6.432"]
    assert (data.pipeline_tag, data.license, data.language) == ("fill-mask", "mit", "en")
    assert (data.datasets, data.metrics) == (["stanfordnlp/imdb"], ["accuracy"])
    assert [(result.metric_value, result.dataset_type) for result in data.eval_results] == [
        (0.4567, "stanfordnlp/imdb")
    ]


def test_pre_trainings_are_told_from_the_first_on_and_no_path_is() -> None:
    second = after(PRETRAINING, "/home/x/books", PRETRAINING, "notes.txt")
    _, text = read(classifier_card(fine_tuned("/home/x/more", second), EVALUATION))
    order = ("trained from more", "random weights", "1. 12,345 steps", "books.txt", "2. 12,345 steps", "notes.txt")
    places = [text.index(fact) for fact in order]
    assert places == sorted(places) and "/home" not in text
    _, text = read(masked_lm_card(second, NUMBERS))
    assert "trained from books" in text and "2. 12,345" not in text and "/home" not in text


@pytest.mark.parametrize(
    ("base", "pretraining", "named", "license"),
    [
        ("/home/x/weights/books", REVIEWS, None, "mit"),
        ("google-bert/bert-base-uncased", None, "google-bert/bert-base-uncased", "unknown"),
        ("/home/x/models/theirs", None, None, "unknown"),
        ("/home/x/weights/more", DISTILBERT, "distilbert/distilbert-base-uncased", "unknown"),
    ],
)
def test_a_base_on_the_hub_is_named_and_its_license_is_not_ours_to_give(
    base: str | None, pretraining: dict[str, Any] | None, named: str | None, license: str
) -> None:
    data, _ = read(classifier_card(fine_tuned(base, pretraining), EVALUATION))
    assert (data.base_model, data.license) == (named, license)
    assert "/home" not in data.to_yaml()


@pytest.mark.parametrize(
    ("name", "pretraining", "datasets", "language"),
    [
        ("sst2", REVIEWS, ["stanfordnlp/sst2", "stanfordnlp/imdb"], "en"),  # folders in the hub's layout
        ("stanfordnlp/sst2", PRETRAINING, ["stanfordnlp/sst2"], None),  # on books in who knows what language
        ("bewertungen.csv", None, None, None),
    ],
)
def test_data_is_named_as_the_hub_does_and_a_language_only_where_it_is_known(
    name: str, pretraining: dict[str, Any] | None, datasets: list[str] | None, language: str | None
) -> None:
    data, _ = read(classifier_card(fine_tuned(None, pretraining, name), EVALUATION))
    assert (data.datasets, data.language) == (datasets, language)
    split = "validation" if name == "stanfordnlp/sst2" else None  # a tenth is no split
    assert {result.dataset_split for result in data.eval_results} == {split}


def test_an_edited_card_is_completed_but_keeps_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(SHIPPED_CHECKPOINT, tmp_path / "model")
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\ncolour: red\n---\n# Mine\n")
    data, text = read(completed_card(folder, "me/mine", None, "de"))
    ours = {"library_name": "transformers", "pipeline_tag": "text-classification", "language": "de"}
    assert text == "# Mine" and data.to_dict() == {"license": "cc0-1.0", "colour": "red"} | ours
    assert capsys.readouterr().err == ""
    (folder / "README.md").write_text("---\nlanguage: en\n---\n# Mine\n")
    data, _ = read(completed_card(folder, "me/mine", None, None))
    assert data.license == "unknown" and "--license" in capsys.readouterr().err


def test_a_masked_language_model_has_a_task_of_its_own(pretrained_run: TrainedRun) -> None:
    data, text = read(completed_card(pretrained_run.path, "me/words", None, None))
    assert data.pipeline_tag == "fill-mask" and "me/words" in text
