import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from src.interop.upload import completed_card
from src.utils.config import REPOSITORY, SHIPPED_CHECKPOINT
from tests.conftest import Answer, Programs, TrainedRun
from tests.interop.hub_server import TOKEN, Hub, running_hub

UPLOADED = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


def upload(endpoint: str, home: Path, *arguments: object, **environment: str) -> Answer:
    """Runs the program in a process of its own, since `huggingface_hub` reads its environment once."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING_FACE"))}
    # Without xet, the protocol of one server in the world.
    own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}
    command = [sys.executable, "-m", "src.export", *map(str, arguments)]
    variables = kept | own | environment
    ended = subprocess.run(command, cwd=REPOSITORY, env=variables, capture_output=True, text=True, timeout=300)
    return Answer(ended.returncode, ended.stdout, ended.stderr)


def test_an_upload_brings_the_model_and_its_card_to_the_hub_and_nothing_else(
    hub: Hub, sample_run: TrainedRun, tmp_path: Path
) -> None:
    options = ("--push-to-hub", "me/reviews", "--private", "--license", "apache-2.0")
    answer = upload(hub.url, tmp_path, sample_run.path, *options, HF_TOKEN=TOKEN)
    assert (answer.code, answer.out) == (0, f"{hub.url}/me/reviews\n"), answer.err
    (created,) = hub.created
    assert (created["name"], created["organization"], created["visibility"]) == ("reviews", "me", "private")
    assert len(hub.commits) == 1
    files = hub.files["me/reviews"]
    assert files.keys() == UPLOADED  # run.json, which knows paths of this machine, stays here
    for name in UPLOADED - {"README.md"}:
        assert files[name] == (sample_run.path / name).read_bytes()
    card: Any = ModelCard(files["README.md"].decode())
    header = (card.data.license, card.data.language, card.data.pipeline_tag)
    assert header == ("apache-2.0", "en", "text-classification")
    assert 'model="me/reviews"' in card.text and str(sample_run.path.parent) not in card.content


# What is refused


@pytest.fixture(autouse=True)
def own_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub above in place of the world's, and no token of this machine."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "*")


def test_a_hub_that_refuses_the_token_is_silent_or_switched_off_is_a_storage_error(
    hub: Hub, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    def push(fact: str) -> None:
        answer = programs.export(SHIPPED_CHECKPOINT, "--push-to-hub", "me/reviews")
        assert (answer.code, answer.out, hub.files) == (6, "", {})
        assert "me/reviews" in answer.error and fact in answer.error

    with monkeypatch.context() as patch:
        patch.setenv("HF_TOKEN", "hf_of_somebody")
        push("401")
    with monkeypatch.context() as patch, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        patch.setattr(constants, "ENDPOINT", endpoint)
        push(endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    push("HF_HUB_OFFLINE")


def test_without_a_token_or_the_package_the_user_is_told_how_to_get_one(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    answer = programs.export(SHIPPED_CHECKPOINT, "--push-to-hub", "me/reviews")
    assert (answer.code, answer.out) == (2, "") and "HF_TOKEN" in answer.error
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    answer = programs.export(SHIPPED_CHECKPOINT, "--push-to-hub", "me/reviews")
    assert (answer.code, answer.out) == (2, "") and "pip install huggingface_hub" in answer.error


def test_what_is_no_repositorys_name_is_a_usage_error(programs: Programs) -> None:
    for name in ("reviews", "me/re..views"):
        answer = programs.export(SHIPPED_CHECKPOINT, "--push-to-hub", name)
        assert (answer.code, answer.out) == (2, "")
        assert "--push-to-hub" in answer.error and name in answer.error


def test_a_folder_that_is_damaged_or_has_no_card_is_refused(hub: Hub, programs: Programs, tmp_path: Path) -> None:
    folder = copy(tmp_path)
    for file, content in (("README.md", "---\nlicense: [\n---\n# Mine\n"), ("README.md", None), ("config.json", "{}")):
        (folder / file).unlink()
        if content is not None:
            (folder / file).write_text(content)
        answer = programs.export(folder, "--push-to-hub", "me/reviews")
        assert (answer.code, answer.out, hub.files) == (4, "", {})
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
