import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from src.interop.model_card import classifier_card, completed_card, masked_lm_card
from src.utils.config import SHIPPED_CHECKPOINT
from src.utils.files import read_json
from tests.conftest import TrainedRun

EVALUATION = {"n": 872, "accuracy": 0.8543, "interval": [0.83, 0.88], "f1": 0.8541, "mcc": 0.709, "loss": 0.3456}
EVALUATION |= {"calibration_error": 0.079}
NUMBERS = {"n": 38_912, "accuracy": 0.4567, "loss": 2.9876, "unigram_accuracy": 0.0511, "unigram_loss": 6.4321}


def after(run: TrainedRun, base: str | None, pretraining: dict[str, Any] | None, data: str) -> dict[str, Any]:
    """The run.json of a training on other data that began with a model."""
    found = read_json(run.path / "run.json")
    found["data"] |= {"name": data}
    if "validation_origin" in found["data"]:
        found["data"]["validation_origin"] = f"{data}, split validation"
    found["config"]["model_name_or_path"] = base
    found["model"]["pretraining"] = pretraining
    return found


def read(card: str) -> tuple[Any, str]:
    """The header as `huggingface_hub` reads it, and the text with single spaces."""
    content: Any = ModelCard(card)
    return content.data, " ".join(content.text.split())


def test_the_card_of_a_classifier_names_data_training_and_results(sample_run: TrainedRun) -> None:
    data, text = read(classifier_card(after(sample_run, None, None, "stanfordnlp/sst2"), EVALUATION))
    facts = ("random weights", "stanfordnlp/sst2", "2 epochs", "negative, positive", "85.4 %", "83.0-88.0")
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
    assert "## Known limits" in text and "a gripping film" in text and "7.9 %" in text and "before" not in text
    calibrated = EVALUATION | {"calibration_temperature": 1.625, "calibration_error_before": 0.1234}
    _, text = read(classifier_card(after(sample_run, None, None, "tickets.csv"), calibrated))
    assert "12.3 % before" in text and "1.625" in text and "film" not in text and "Known limits" not in text
    found = {result.metric_name: result.metric_value for result in data.eval_results}
    assert found == {"Accuracy": 0.8543, "Macro F1": 0.8541, "MCC": 0.709}
    assert {(r.dataset_type, r.dataset_split) for r in data.eval_results} == {("stanfordnlp/sst2", "validation")}


def test_the_card_of_a_pretrained_model_has_the_numbers_beside_the_baselines(pretrained_run: TrainedRun) -> None:
    card = masked_lm_card(after(pretrained_run, None, None, "imdb:train + imdb:unsupervised"), NUMBERS)
    data, text = read(card)
    facts = ("random weights", "300 steps", "38,912 masked tokens", "imdb:train + imdb:unsupervised")
    assert [fact for fact in facts if fact not in text] == []
    rows = [line.replace("|", " ").split() for line in card.splitlines() if line.startswith("|")]
    assert rows[-2] == ["accuracy", "45.7", "%", "5.1", "%"]
    assert rows[-1][3:5] == ["2.988", "6.432"]
    assert (data.pipeline_tag, data.license, data.language) == ("fill-mask", "mit", "en")
    assert (data.datasets, data.metrics) == (["stanfordnlp/imdb"], ["accuracy"])
    (result,) = data.eval_results
    assert (result.metric_value, result.dataset_type) == (0.4567, "stanfordnlp/imdb")


def test_pre_trainings_are_told_from_the_first_on_and_no_path_is(
    sample_run: TrainedRun, pretrained_run: TrainedRun
) -> None:
    second = after(pretrained_run, "/home/x/books", after(pretrained_run, None, None, "books.txt"), "notes.txt")
    _, text = read(classifier_card(after(sample_run, "/home/x/more", second, "sst2"), EVALUATION))
    order = ("trained from more", "random weights", "1. 300 steps", "books.txt", "2. 300 steps", "notes.txt")
    places = [text.index(fact) for fact in order]
    assert places == sorted(places) and "/home" not in text
    _, text = read(masked_lm_card(second, NUMBERS))
    assert "trained from books" in text and "2. 300" not in text and "/home" not in text


@pytest.mark.parametrize(
    ("base", "earlier", "data", "expected"),  # of base_model, license, datasets, language
    [
        ("/home/x/books", (None, "imdb:train"), "sst2", (None, "mit", ["stanfordnlp/sst2", "stanfordnlp/imdb"], "en")),
        ("google-bert/bert", None, "stanfordnlp/sst2", ("google-bert/bert", "unknown", ["stanfordnlp/sst2"], "en")),
        ("/home/x/theirs", None, "bewertungen.csv", (None, "unknown", None, None)),
        ("/home/x/more", ("a/b", "imdb:train"), "notes.csv", ("a/b", "unknown", ["stanfordnlp/imdb"], None)),
    ],
)
def test_bases_and_data_are_named_as_the_hub_does_and_license_and_language_only_where_known(
    base: str, earlier: Any, data: str, expected: Any, sample_run: TrainedRun, pretrained_run: TrainedRun
) -> None:
    pretraining = None if earlier is None else after(pretrained_run, earlier[0], None, earlier[1])
    header, _ = read(classifier_card(after(sample_run, base, pretraining, data), EVALUATION))
    assert (header.base_model, header.license, header.datasets, header.language) == expected
    assert "/home" not in header.to_yaml()


def test_names_from_the_data_are_shown_as_they_are(sample_run: TrainedRun) -> None:
    run = after(sample_run, None, None, "a|b <img src=x>")
    run["data"] |= {"label_names": ["*no*", "[x](http://y)\n# z"], "validation_origin": "a|b"}
    _, text = read(classifier_card(run, EVALUATION))
    assert (
        r"Labels: \*no\*, \[x\](http://y)\\n\# z." in text
        and r"| a\|b | |" in text
        and "<img" not in text.replace(r"\<", "")
    )


def test_an_edited_card_is_completed_but_keeps_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(SHIPPED_CHECKPOINT, tmp_path / "model")
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\ncolour: red\n---\n# Mine\n")
    data, text = read(completed_card(folder, "me/mine", None, "de"))
    assert text == "# Mine" and data.to_dict() == {"license": "cc0-1.0", "colour": "red", "language": "de"}
    assert capsys.readouterr().err == ""
    (folder / "README.md").write_text("---\nlanguage: en\n---\n# Mine\n")
    data, _ = read(completed_card(folder, "me/mine", None, None))
    assert data.license == "unknown" and "--license" in capsys.readouterr().err


def test_a_masked_language_model_has_its_card_completed(pretrained_run: TrainedRun) -> None:
    data, text = read(completed_card(pretrained_run.path, "me/words", None, None))
    assert data.pipeline_tag == "fill-mask" and "me/words" in text
