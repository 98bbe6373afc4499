"""Model folders in Hugging Face's layout: what this project writes, `transformers` reads, and the other way round."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from src.interop.config import from_hugging_face_config, to_hugging_face_config
from src.interop.key_tables import canonical_names, their_name, to_hugging_face
from src.interop.tokenizer import TOKENIZER, TOKENIZER_CONFIG, VOCABULARY, load_lengths, load_tokenizer, save_tokenizer
from src.model.bert import BertForMaskedLM, BertForSequenceClassification
from src.utils.config import SENTIMENT_LABELS, BertConfig, LongText
from src.utils.errors import CheckpointError, notice
from src.utils.files import check_regular_file, read_json, verify, write_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FILES = [CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG, VOCABULARY]  # all that is read of a model
LARGEST_WEIGHTS = 2**35  # bytes, 32 GiB; BERT large has 1.3

Model = TypeVar("Model", BertForSequenceClassification, BertForMaskedLM)


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


@dataclass(frozen=True)
class LoadReport:
    """What became of a checkpoint's tensors, by their names there."""

    mapped: list[str]
    initialised: list[str]  # absent there, drawn at random here
    unused: list[str]

    def tell(self) -> None:
        """Says it on standard error."""
        notice(f"pretrained  {len(self.mapped)} tensors taken over")
        if self.initialised:
            notice(f"            newly initialised: {', '.join(self.initialised)}")
        if self.unused:
            notice(f"            left unused: {', '.join(self.unused)}")


def save_classifier(folder: Path, classifier: Classifier, dtype: torch.dtype = torch.float32) -> None:
    """Writes a classifier into an existing folder, its weights in `dtype`; readers compute in float32."""
    config = classifier.model.config
    _save(folder, classifier.model, to_hugging_face_config(config, "classifier", classifier.label_names), dtype)
    save_tokenizer(folder, classifier.tokenizer, config, classifier.seq_len, classifier.long_text)


def save_masked_lm(folder: Path, masked_lm: MaskedLanguageModel) -> None:
    """Writes a masked language model into an existing folder."""
    config = masked_lm.model.config
    _save(folder, masked_lm.model, to_hugging_face_config(config, "masked_lm"))
    save_tokenizer(folder, masked_lm.tokenizer, config, masked_lm.seq_len)


def load_classifier(folder: Path) -> Classifier:
    """Reads a classifier from a folder that this project or `transformers` wrote, in evaluation mode on the CPU.

    Raises:
        CheckpointError: a file is missing, damaged or of another kind of model, or files do not fit each other.
    """
    config, label_names = load_config(folder)
    tokenizer = load_tokenizer(folder, config.vocab_size)
    tensors = load_tensors(folder, config)
    classifier = tensors.get(their_name("classifier.weight", config.model_type))
    if classifier is None:
        raise CheckpointError(f"{folder / WEIGHTS} holds no classifier; fine-tune it first with python -m src.train")
    num_labels = len(label_names) or len(classifier)
    if not label_names:
        label_names = SENTIMENT_LABELS if num_labels == 2 else tuple(map(str, range(num_labels)))
    model, _ = load_weights(lambda: BertForSequenceClassification(config, num_labels), tensors, folder / WEIGHTS)
    seq_len, long_text = load_lengths(folder)
    return Classifier(model.eval(), tokenizer, label_names, min(seq_len, config.longest_sequence), long_text)


def load_masked_lm(folder: Path) -> MaskedLanguageModel:
    """Reads a masked language model from a folder that this project or `transformers` wrote, as `load_classifier`."""
    config, _ = load_config(folder)
    tokenizer = load_tokenizer(folder, config.vocab_size)
    tensors = load_tensors(folder, config)
    if their_name("masked_lm.transform.weight", config.model_type) not in tensors:
        raise CheckpointError(f"{folder / WEIGHTS} holds no masked-language-model head; name a pre-trained checkpoint")
    model, _ = load_weights(lambda: BertForMaskedLM(config), tensors, folder / WEIGHTS)
    return MaskedLanguageModel(model.eval(), tokenizer, min(load_lengths(folder)[0], config.longest_sequence))


def load_config(folder: Path) -> tuple[BertConfig, tuple[str, ...]]:
    """Reads a model's shape and the names of its classes from a folder whose manifest, if there is one, is right.

    Raises:
        CheckpointError: there is no such folder or file, a file is damaged, or it is another kind of model.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; name one that training or transformers wrote")
    found = from_hugging_face_config(read_json(folder / CONFIG), folder / CONFIG)
    verify(folder)
    return found


def load_tensors(folder: Path, config: BertConfig) -> dict[str, Tensor]:
    """Maps model.safetensors into memory, under canonical Hugging Face names; what is not used is never read.

    Raises:
        CheckpointError: the file is missing or damaged, or only a pickle is there.
    """
    path = folder / WEIGHTS
    if not path.exists() and (folder / "pytorch_model.bin").exists():
        raise CheckpointError(
            f"{folder} holds pytorch_model.bin, a pickle that could run code; convert it: load it with "
            "transformers and call save_pretrained(folder), which writes model.safetensors"
        )
    check_regular_file(path, LARGEST_WEIGHTS)
    try:
        tensors = canonical_names(load_file(path), config.model_type)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); restore or download it again") from None
    if config.num_hidden_layers > len(tensors):  # before so many layers are built
        raise CheckpointError(f"{path} has {len(tensors)} tensors, config.json says {config.num_hidden_layers} layers")
    return tensors


def load_weights(
    build: Callable[[], Model], tensors: dict[str, Tensor], path: Path, required: str = "", drawn: tuple[str, ...] = ()
) -> tuple[Model, LoadReport]:
    """Builds a model with a checkpoint's weights.

    Args:
        build: makes the model, with random weights.
        tensors: the checkpoint's, under canonical Hugging Face names.
        path: the file they come from, for messages.
        required: how the names of parameters begin that the checkpoint must have; others stay random without it.
        drawn: how the names of parameters begin that stay random in any case.

    Raises:
        CheckpointError: a required parameter is missing or has another shape, or one holds no finite numbers.
    """
    with torch.device("meta"):  # shapes alone, in case they are beyond any memory
        empty = build()
    names = {key: their_name(key, empty.config.model_type) for key in empty.state_dict()}
    found: dict[str, Tensor] = {}
    for key, parameter in empty.state_dict().items():
        tensor, name, shape = tensors.get(names[key]), names[key], tuple(parameter.shape)
        if tensor is not None and tensor.shape == shape and not key.startswith(drawn):
            if not tensor.is_floating_point() or not tensor.float().isfinite().all():
                raise CheckpointError(f"{path}: {name} holds {tensor.dtype}, or NaN or infinity; restore an older one")
            found[key] = tensor
        elif key.startswith(required):
            there = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
            raise CheckpointError(f"{path}: {name} {there}, config.json makes it {shape}; restore both files")
    model = build()
    model.load_state_dict(found, strict=False)
    mapped = {names[key] for key in found}
    initialised = [names[key] for key in names if key not in found]
    return model, LoadReport(sorted(mapped), initialised, sorted(tensors.keys() - mapped))


def _save(folder: Path, model: Model, config: dict[str, Any], dtype: torch.dtype = torch.float32) -> None:
    write_json(folder / CONFIG, config)
    tensors = to_hugging_face(model.state_dict(), model.config.model_type)
    save_file({name: tensor.to("cpu", dtype) for name, tensor in tensors.items()}, folder / WEIGHTS, {"format": "pt"})
