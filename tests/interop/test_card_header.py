from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from src.interop.model_card import classifier_card, masked_lm_card
from src.utils.config import SHIPPED_CHECKPOINT
from tests.interop.test_model_card import EVALUATION, NUMBERS, PRETRAINING, fine_tuned

REVIEWS = PRETRAINING | {"data": PRETRAINING["data"] | {"name": "imdb:train + imdb:unsupervised"}}
WENT_ON = REVIEWS | {
    "config": REVIEWS["config"] | {"model_name_or_path": "distilbert/distilbert-base-uncased"},
    "model": REVIEWS["model"] | {"pretraining": None},
}


def header(run: dict[str, Any], folder: Path) -> Any:
    """What `huggingface_hub` reads of the card, from a file as anybody would."""
    (folder / "README.md").write_text(classifier_card(run, EVALUATION), encoding="utf-8")
    return ModelCard.load(folder / "README.md").data


def on(data: str, origin: str, pretraining: dict[str, Any] | None = None) -> dict[str, Any]:
    run = fine_tuned(None, pretraining)
    return run | {"data": run["data"] | {"name": data, "validation_origin": origin}}


def test_the_header_of_a_classifier_and_its_results_are_complete(tmp_path: Path) -> None:
    data = header(fine_tuned(None, None), tmp_path)
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
    for result in data.eval_results:
        assert result.task_type == "text-classification"
        assert (result.dataset_type, result.dataset_split) == ("stanfordnlp/sst2", "validation")


@pytest.mark.parametrize(
    ("model", "pretraining", "base", "license"),
    [
        ("/home/x/weights/books", REVIEWS, None, "mit"),
        ("google-bert/bert-base-uncased", None, "google-bert/bert-base-uncased", "unknown"),
        ("/home/x/models/theirs", None, None, "unknown"),
        ("/home/x/weights/more", WENT_ON, "distilbert/distilbert-base-uncased", "unknown"),
    ],
)
def test_a_base_on_the_hub_is_named_and_its_license_is_not_ours_to_give(
    model: str | None, pretraining: dict[str, Any] | None, base: str | None, license: str, tmp_path: Path
) -> None:
    data = header(fine_tuned(model, pretraining), tmp_path)
    assert (data.base_model, data.license) == (base, license)
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
    name: str, pretraining: dict[str, Any] | None, datasets: list[str] | None, language: str | None, tmp_path: Path
) -> None:
    data = header(on(name, f"{name}, a stratified tenth", pretraining), tmp_path)
    assert (data.datasets, data.language) == (datasets, language)
    assert {result.dataset_split for result in data.eval_results} == {None}  # a tenth is no split


def test_the_header_of_a_pretrained_model_is_complete() -> None:
    data: Any = ModelCard(masked_lm_card(REVIEWS, NUMBERS)).data
    assert (data.pipeline_tag, data.license, data.language) == ("fill-mask", "mit", "en")
    assert (data.datasets, data.metrics) == (["stanfordnlp/imdb"], ["accuracy"])
    (result,) = data.eval_results
    assert (result.task_type, result.metric_value, result.dataset_type) == ("fill-mask", 0.4567, "stanfordnlp/imdb")


def test_the_shipped_card_is_accepted_and_complete() -> None:
    data: Any = ModelCard.load(SHIPPED_CHECKPOINT / "README.md").data
    assert {"language", "license", "library_name", "pipeline_tag", "datasets", "metrics"} <= data.to_dict().keys()
    assert "model-index" in data.to_dict() and len(data.eval_results) == 3
