"""Model folders in Hugging Face's layout: what this project writes, `transformers` reads, and the other way round."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from src.interop.configs import from_hugging_face_config, to_hugging_face_config
from src.interop.key_tables import canonical_names, their_name, to_hugging_face
from src.interop.tokenizer_files import ReadingSettings, read_settings, read_tokenizer, save_tokenizer
from src.interop.weights import filled, read_tensors
from src.model.bert import BertForMaskedLM, BertForSequenceClassification
from src.utils.config import SENTIMENT_LABELS, BertConfig, LongText
from src.utils.errors import CheckpointError
from src.utils.files import read_json, verify, write_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Classifier:
    """A sentence classifier with all it needs to read text: what a model folder holds."""

    model: BertForSequenceClassification
    tokenizer: Tokenizer
    label_names: tuple[str, ...]
    seq_len: int  # most tokens of a text, [CLS] and [SEP] included
    long_text: LongText = "truncate"  # what becomes of longer texts


@dataclass(frozen=True)
class MaskedLanguageModel:
    """A model that names masked tokens, with its tokenizer: what a folder of pre-training holds."""

    model: BertForMaskedLM
    tokenizer: Tokenizer
    seq_len: int  # tokens of a row in pre-training, special ones included


def save_masked_lm(folder: Path, masked_lm: MaskedLanguageModel) -> None:
    """Writes a masked language model into an existing folder.

    Args:
        folder: where to; files of the same names are replaced.
        masked_lm: what to write.
    """
    _save(folder, masked_lm.model, to_hugging_face_config(masked_lm.model.config, "masked_lm"), torch.float32)
    reading = ReadingSettings(masked_lm.seq_len, "truncate")
    save_tokenizer(folder, masked_lm.tokenizer, reading, has_segments=masked_lm.model.config.type_vocab_size > 1)


def load_masked_lm(folder: Path) -> MaskedLanguageModel:
    """Reads a masked language model from a folder that this project or `transformers` wrote.

    Args:
        folder: holds config.json, model.safetensors and tokenizer.json.

    Returns:
        The model, in float32 on the CPU, in evaluation mode.

    Raises:
        CheckpointError: a file is missing, damaged or of another kind of model, or files do not fit each other.
    """
    config, _ = _read_config(folder)
    tokenizer = read_tokenizer(folder, config.vocab_size)
    state = from_checkpoint(folder, config)
    if their_name("masked_lm.transform.weight", config.model_type) not in state:
        raise CheckpointError(f"{folder / WEIGHTS} holds no masked-language-model head; name a pre-trained checkpoint")
    model = filled(lambda: BertForMaskedLM(config), config, state, folder / WEIGHTS)
    return MaskedLanguageModel(model.eval(), tokenizer, min(read_settings(folder).seq_len, config.longest_sequence))


def save_classifier(folder: Path, classifier: Classifier, dtype: torch.dtype = torch.float32) -> None:
    """Writes a classifier into an existing folder.

    Args:
        folder: where to; files of the same names are replaced.
        classifier: what to write.
        dtype: of the weights on disk; readers compute in float32 whatever it is.
    """
    config = classifier.model.config
    _save(folder, classifier.model, to_hugging_face_config(config, "classifier", classifier.label_names), dtype)
    reading = ReadingSettings(classifier.seq_len, classifier.long_text)
    save_tokenizer(folder, classifier.tokenizer, reading, has_segments=config.type_vocab_size > 1)


def load_classifier(folder: Path) -> Classifier:
    """Reads a classifier from a folder that this project or `transformers` wrote.

    Args:
        folder: holds config.json, model.safetensors, tokenizer.json and perhaps tokenizer_config.json.

    Returns:
        The classifier, in float32 on the CPU, in evaluation mode.

    Raises:
        CheckpointError: a file is missing, damaged or of another kind of model, or files do not fit each other.
    """
    config, label_names = _read_config(folder)
    tokenizer = read_tokenizer(folder, config.vocab_size)
    state = from_checkpoint(folder, config)
    model = _build(config, state, label_names, folder / WEIGHTS)
    if not label_names:
        label_names = SENTIMENT_LABELS if model.num_labels == 2 else tuple(map(str, range(model.num_labels)))
    reading = read_settings(folder)
    seq_len = min(reading.seq_len, config.longest_sequence)
    return Classifier(model.eval(), tokenizer, label_names, seq_len, reading.long_text)


def _save(
    folder: Path, model: BertForSequenceClassification | BertForMaskedLM, config: dict[str, Any], dtype: torch.dtype
) -> None:
    write_json(folder / CONFIG, config)
    state = to_hugging_face(model.state_dict(), model.config.model_type)
    save_file({name: tensor.to("cpu", dtype) for name, tensor in state.items()}, folder / WEIGHTS, {"format": "pt"})


def _read_config(folder: Path) -> tuple[BertConfig, tuple[str, ...]]:
    """Reads config.json of a folder whose manifest, if there is one, is right."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; name one that training or transformers wrote")
    found = from_hugging_face_config(read_json(folder / CONFIG), str(folder / CONFIG))
    verify(folder)
    return found


def from_checkpoint(folder: Path, config: BertConfig) -> dict[str, Tensor]:
    """Maps model.safetensors into memory, under canonical Hugging Face names.

    Raises:
        CheckpointError: the file is missing or damaged, or only a pickle is there.
    """
    path = folder / WEIGHTS
    if not path.exists():
        if (folder / "pytorch_model.bin").exists():
            raise CheckpointError(
                f"{folder} holds pytorch_model.bin, a pickle that could run code; convert it: load it with "
                "transformers and call save_pretrained(folder), which writes model.safetensors"
            )
        raise CheckpointError(f"{path} is missing; is {folder} a model folder?")
    return canonical_names(read_tensors(path), config.model_type)


def _build(
    config: BertConfig, state: dict[str, Tensor], labels: Sequence[str], path: Path
) -> BertForSequenceClassification:
    classifier = state.get(their_name("classifier.weight", config.model_type))
    if classifier is None:
        raise CheckpointError(f"{path} holds no classifier; fine-tune this encoder first with python -m src.train")
    if classifier.ndim != 2 or not len(classifier):
        raise CheckpointError(f"{path}: the classifier has shape {tuple(classifier.shape)}, which scores no classes")
    if labels and len(labels) != len(classifier):
        raise CheckpointError(f"{path} scores {len(classifier)} classes, config.json names {len(labels)}; restore both")
    return filled(lambda: BertForSequenceClassification(config, len(classifier)), config, state, path)
