"""A model folder on the Hugging Face hub: the model's own files and its card, and nothing else of the run."""

from pathlib import Path
from typing import Any

from src.data.hub import HUB_ID
from src.interop.huggingface import CONFIG, load_classifier, load_masked_lm
from src.interop.model_card import PLACE
from src.interop.pretrained import FILES
from src.utils.errors import CheckpointError, StorageError, UsageError, notice, require_packages
from src.utils.files import CARD, read_json


def upload(folder: Path, repository: str, license: str | None, language: str | None, private: bool) -> str:
    """Uploads a model folder in one commit, into a repository that is made if it does not exist.

    Args:
        folder: of a classifier or a masked language model; it has to load, and to match its manifest.
        repository: "owner/name".
        license: for the card, in place of what it says.
        language: likewise.
        private: make a new repository private.

    Returns:
        The repository's address.

    Raises:
        UsageError: the name cannot be one, there is no token, or no `huggingface_hub`.
        CheckpointError: the folder is damaged, foreign, or has no card.
        StorageError: the hub cannot be reached, or refuses.
    """
    require_packages("--push-to-hub", "huggingface_hub")
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    if not HUB_ID.fullmatch(repository):
        raise UsageError(f"--push-to-hub {repository} is no repository's name; write OWNER/NAME")
    card = completed_card(folder, repository, license, language)
    if huggingface_hub.get_token() is None:
        raise UsageError("no token of the hub is configured; run hf auth login, or set HF_TOKEN")
    api = huggingface_hub.HfApi()
    files: dict[str, Path | bytes] = {name: folder / name for name in FILES if (folder / name).exists()}
    files[CARD] = card.encode()
    additions = [huggingface_hub.CommitOperationAdd(name, content) for name, content in files.items()]
    try:
        address = api.create_repo(repository, private=private or None, exist_ok=True)
        api.create_commit(repository, additions, commit_message="Upload the model")
    except HFValidationError as error:
        raise UsageError(f"--push-to-hub: {error}") from None
    except Exception as error:  # the library's errors have no common base
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise StorageError(
            f"cannot upload to {api.endpoint}/{repository} ({reason}); check network, name, and the token's rights"
        ) from None
    return str(address)


def completed_card(folder: Path, repository: str, license: str | None, language: str | None) -> str:
    """Completes the card of a model that is about to be uploaded, once the model has been loaded.

    Args:
        folder: the model folder.
        repository: "owner/name", which the card's examples will load.
        license: in place of what the card says.
        language: likewise.

    Returns:
        The card, which `huggingface_hub` reads.

    Raises:
        CheckpointError: the model cannot be loaded, or its card is missing or no card.
    """
    from huggingface_hub import ModelCard

    task = _task_of_whole(folder)
    try:
        card: Any = ModelCard((folder / CARD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder / CARD} is missing; write this model card before others see the model"
        ) from None
    except Exception as error:  # YAML's own errors, UnicodeDecodeError, ValueError
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{folder / CARD} is no model card ({reason}); restore or correct it") from None
    known = {"license": "unknown", "library_name": "transformers", "pipeline_tag": task}
    for name, value in known.items():
        card.data[name] = card.data.get(name, value)
    for name, named in (("license", license), ("language", language)):
        if named is not None:
            card.data[name] = named
    if card.data["license"] == known["license"]:
        notice("license     unknown, says the card; name it with --license")
    return str(card).replace(PLACE, repository)


def _task_of_whole(folder: Path) -> str:
    """Loads a model, so that no broken one is uploaded; says what it is for."""
    architectures = read_json(folder / CONFIG).get("architectures")
    first = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if first.endswith("MaskedLM"):
        load_masked_lm(folder)
        return "fill-mask"
    load_classifier(folder)
    return "text-classification"
