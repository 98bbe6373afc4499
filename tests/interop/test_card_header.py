from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import EvalResult, ModelCard

from src.interop.model_card import classifier_card, masked_lm_card
from src.utils.config import SHIPPED_CHECKPOINT
from tests.interop.test_model_card import CLASSIFIER, EVALUATION, NUMBERS
from tests.interop.test_model_card import RUN as PRETRAINING

REVIEWS = PRETRAINING | {"data": PRETRAINING["data"] | {"name": "imdb:train + imdb:unsupervised"}}


def header(run: dict[str, Any], folder: Path) -> Any:
    """What `huggingface_hub` reads of the card, from a file as anybody would."""
    (folder / "README.md").write_text(classifier_card(run, EVALUATION), encoding="utf-8")
    return ModelCard.load(folder / "README.md").data


def fine_tuned(model: str | None, pretraining: dict[str, Any] | None, data: str = "stanfordnlp/sst2") -> dict[str, Any]:
    return CLASSIFIER | {
        "config": CLASSIFIER["config"] | {"model_name_or_path": model},
        "model": CLASSIFIER["model"] | {"pretraining": pretraining},
        "data": CLASSIFIER["data"] | {"name": data, "validation_origin": f"{data}, split validation"},
    }


def test_the_header_of_a_classifier_is_complete(tmp_path: Path) -> None:
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


def test_the_results_measured_come_back_as_results_of_the_hub(tmp_path: Path) -> None:
    data = header(fine_tuned(None, None), tmp_path)
    assert data.model_name == "BERT 4/256 on stanfordnlp/sst2"
    assert all(isinstance(result, EvalResult) for result in data.eval_results)
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    assert found == {"accuracy": 0.8543, "f1": 0.8541, "matthews_correlation": 0.709}
    for result in data.eval_results:
        assert (result.task_type, result.task_name) == ("text-classification", "Text Classification")
        assert (result.dataset_type, result.dataset_split) == ("stanfordnlp/sst2", "validation")
        assert result.dataset_name == "stanfordnlp/sst2, split validation"


@pytest.mark.parametrize(
    ("model", "pretraining", "base", "license"),
    [
        (None, None, None, "mit"),
        ("/home/x/weights/books", REVIEWS, None, "mit"),
        ("google-bert/bert-base-uncased", None, "google-bert/bert-base-uncased", "unknown"),
        ("/home/x/models/theirs", None, None, "unknown"),
    ],
)
def test_a_base_on_the_hub_is_named_and_its_license_is_not_ours_to_give(
    model: str | None, pretraining: dict[str, Any] | None, base: str | None, license: str, tmp_path: Path
) -> None:
    data = header(fine_tuned(model, pretraining), tmp_path)
    assert (data.base_model, data.license) == (base, license)
    assert "/home" not in data.to_yaml()


def test_a_base_on_the_hub_is_found_behind_a_pretraining_that_went_on_with_it(tmp_path: Path) -> None:
    went_on = REVIEWS | {
        "config": REVIEWS["config"] | {"model_name_or_path": "distilbert/distilbert-base-uncased"},
        "model": REVIEWS["model"] | {"pretraining": None},
    }
    data = header(fine_tuned("/home/x/weights/more", went_on), tmp_path)
    assert (data.base_model, data.license) == ("distilbert/distilbert-base-uncased", "unknown")


@pytest.mark.parametrize(
    ("name", "pretraining", "datasets", "language"),
    [
        ("sst2", None, ["stanfordnlp/sst2"], "en"),  # a folder in the hub's layout
        ("stanfordnlp/sst2", REVIEWS, ["stanfordnlp/sst2", "stanfordnlp/imdb"], "en"),
        ("stanfordnlp/sst2", PRETRAINING, ["stanfordnlp/sst2"], None),  # on books in who knows what language
        ("sample", None, None, "en"),
        ("bewertungen.csv", None, None, None),
        ("owner/reviews", None, ["owner/reviews"], None),
    ],
)
def test_data_is_named_as_the_hub_does_and_a_language_only_where_it_is_known(
    name: str, pretraining: dict[str, Any] | None, datasets: list[str] | None, language: str | None, tmp_path: Path
) -> None:
    data = header(fine_tuned(None, pretraining, name), tmp_path)
    assert (data.datasets, data.language) == (datasets, language)


def test_a_validation_part_that_is_no_split_is_named_but_not_as_one(tmp_path: Path) -> None:
    run = fine_tuned(None, None, "reviews.csv")
    run["data"]["validation_origin"] = "reviews.csv, a stratified tenth"
    for result in header(run, tmp_path).eval_results:
        assert (result.dataset_name, result.dataset_split) == ("reviews.csv, a stratified tenth", None)


def test_the_header_of_a_pretrained_model_is_complete() -> None:
    data: Any = ModelCard(masked_lm_card(REVIEWS, NUMBERS)).data
    assert (data.pipeline_tag, data.license, data.language) == ("fill-mask", "mit", "en")
    assert (data.datasets, data.metrics) == (["stanfordnlp/imdb"], ["accuracy"])
    (result,) = data.eval_results
    assert (result.task_type, result.metric_value, result.dataset_type) == ("fill-mask", 0.4567, "stanfordnlp/imdb")
    assert result.dataset_name == "imdb:train + imdb:unsupervised, held-out documents"


def test_the_shipped_card_is_accepted_and_complete() -> None:
    data: Any = ModelCard.load(SHIPPED_CHECKPOINT / "README.md").data
    assert {"language", "license", "library_name", "pipeline_tag", "datasets", "metrics"} <= data.to_dict().keys()
    assert "model-index" in data.to_dict() and len(data.eval_results) == 3
