import shutil
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock, create_autospec

import huggingface_hub
import pytest
from huggingface_hub import HfApi, ModelCard

from src.interop.upload import completed_card
from src.utils.config import SHIPPED_CHECKPOINT
from tests.conftest import Programs, TrainedRun

UPLOADED = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"}


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What was asked of the hub; nothing of it reaches the world's, and no token of this machine is used."""
    hub = create_autospec(HfApi, instance=True, endpoint="https://hub.invalid")
    hub.create_repo.return_value = "https://hub.invalid/me/reviews"
    monkeypatch.setattr(huggingface_hub, "HfApi", Mock(return_value=hub))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_of_the_test")
    return hub


def test_an_upload_brings_the_model_and_its_card_to_the_hub_and_nothing_else(
    hub: Any, programs: Programs, sample_run: TrainedRun
) -> None:
    options = ("--push-to-hub", "me/reviews", "--private", "--license", "apache-2.0")
    answer = programs.export(sample_run.path, *options)
    assert (answer.code, answer.out) == (0, "https://hub.invalid/me/reviews\n"), answer.err
    hub.create_repo.assert_called_once_with("me/reviews", private=True, exist_ok=True)
    (repository, additions), _ = hub.create_commit.call_args
    files = {addition.path_in_repo: addition.as_file for addition in additions}
    assert repository == "me/reviews"
    assert files.keys() == UPLOADED  # run.json, which knows paths of this machine, stays here
    contents = {}
    for name, opened in files.items():
        with opened() as file:
            contents[name] = file.read()
    for name in UPLOADED - {"README.md"}:
        assert contents[name] == (sample_run.path / name).read_bytes()
    card: Any = ModelCard(contents["README.md"].decode())
    header = (card.data.license, card.data.language, card.data.pipeline_tag)
    assert header == ("apache-2.0", "en", "text-classification")
    assert 'model="me/reviews"' in card.text and str(sample_run.path.parent) not in card.content


# What is refused


def test_a_hub_that_refuses_or_does_not_answer_is_a_storage_error(hub: Any, programs: Programs) -> None:
    for error in (huggingface_hub.errors.OfflineModeIsEnabled("switched off"), OSError("401\nUnauthorized")):
        hub.create_repo.side_effect = error
        answer = programs.export(SHIPPED_CHECKPOINT, "--push-to-hub", "me/reviews")
        assert (answer.code, answer.out) == (6, "") and not hub.create_commit.called
        assert "https://hub.invalid/me/reviews" in answer.error and str(error).split()[-1] in answer.error


def test_without_a_token_or_the_package_the_user_is_told_how_to_get_one(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    answer = programs.export(SHIPPED_CHECKPOINT, "--push-to-hub", "me/reviews")
    assert (answer.code, answer.out) == (2, "") and "HF_TOKEN" in answer.error
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    answer = programs.export(SHIPPED_CHECKPOINT, "--push-to-hub", "me/reviews")
    assert (answer.code, answer.out) == (2, "") and "pip install huggingface_hub" in answer.error


def test_what_is_no_repositorys_name_is_a_usage_error(hub: Any, programs: Programs) -> None:
    for name in ("reviews", "me/re..views"):
        hub.create_repo.side_effect = huggingface_hub.errors.HFValidationError(name)
        answer = programs.export(SHIPPED_CHECKPOINT, "--push-to-hub", name)
        assert (answer.code, answer.out) == (2, "")
        assert "--push-to-hub" in answer.error and name in answer.error


def test_a_folder_that_is_damaged_or_has_no_card_is_refused(hub: Any, programs: Programs, tmp_path: Path) -> None:
    folder = copy(tmp_path)
    for file, content in (("README.md", "---\nlicense: [\n---\n# Mine\n"), ("README.md", None), ("config.json", "{}")):
        (folder / file).unlink()
        if content is not None:
            (folder / file).write_text(content)
        answer = programs.export(folder, "--push-to-hub", "me/reviews")
        assert (answer.code, answer.out) == (4, "") and not hub.create_repo.called
        assert str(folder / file) in answer.error


def copy(folder: Path) -> Path:
    return shutil.copytree(SHIPPED_CHECKPOINT, folder / "model")


# The card


def test_an_edited_card_is_completed_but_keeps_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy(tmp_path) / "README.md").write_text("---\nlicense: cc0-1.0\ncolour: red\n---\n# Mine\n")
    card: Any = ModelCard(completed_card(tmp_path / "model", "me/mine", None, "de"))
    assert card.text.strip() == "# Mine"
    assert card.data.to_dict() == {
        "license": "cc0-1.0",
        "colour": "red",
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "language": "de",
    }
    assert capsys.readouterr().err == ""
    (tmp_path / "model" / "README.md").write_text("---\nlanguage: en\n---\n# Mine\n")
    card = ModelCard(completed_card(tmp_path / "model", "me/mine", None, None))
    assert card.data.license == "unknown" and "--license" in capsys.readouterr().err


def test_a_masked_language_model_has_a_task_of_its_own(pretrained_run: TrainedRun) -> None:
    card: Any = ModelCard(completed_card(pretrained_run.path, "me/words", None, None))
    assert card.data.pipeline_tag == "fill-mask" and "me/words" in card.text
