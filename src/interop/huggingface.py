"""Model folders in Hugging Face's layout: what this project writes, `transformers` reads, and the other way round."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from src.data import hub
from src.data.dataset import DSCreator
from src.interop.config import HOLDERS, class_name, from_hugging_face_config, to_hugging_face_config, unnamed_labels
from src.interop.key_tables import canonical_name, their_name
from src.interop.tokenizer import TOKENIZER_FILES, load_lengths, load_tokenizer, save_tokenizer
from src.model.bert import Bert, BertForMaskedLM, BertForSequenceClassification, Pretrained
from src.utils.config import BertConfig, LongText, PretrainConfig, TrainConfig, options_of
from src.utils.errors import CheckpointError, UsageError, checkpoint_errors
from src.utils.files import check_regular_file, local_path, read_json, verify, write_json
from src.utils.runs import CHECKPOINTS, RUN, stages, whole_run

logger = logging.getLogger(__name__)

CONFIG, WEIGHTS = "config.json", "model.safetensors"
INDEX, SHARDS = "model.safetensors.index.json", "model-*-of-*.safetensors"  # of weights in several files
FILES = [CONFIG, WEIGHTS, INDEX, SHARDS, *TOKENIZER_FILES]  # all that is read from a model folder

# Settings that a checkpoint does not fix: regularisation, and how texts are read.
RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
FREE = {*RATES, "problem_type", "plain_text", "seq_len"}

# A key of config.json. To transformers "temperature" is a setting of text generation, which it drops.
TEMPERATURE = "calibration_temperature"

# The decoder of masked tokens has no parameters of its own; it shares these.
TIED = {"bert.embedding.token.weight": "weight", "masked_lm.bias": "bias"}

Model = BertForSequenceClassification | BertForMaskedLM
AnyModel = TypeVar("AnyModel", bound=Pretrained)


@dataclass(frozen=True)
class Classifier:
    """A sentence classifier with all it needs to read text: what a model folder holds."""

    model: BertForSequenceClassification
    tokenizer: Tokenizer
    label_names: tuple[str, ...]
    seq_len: int  # most tokens of a text, [CLS] and [SEP] included
    long_text: LongText = "truncate"  # what becomes of longer texts
    temperature: float = 1.0  # the head's weights and bias are already divided by it (Guo et al. 2017)

    def dataset(
        self, texts: Sequence[str], labels: Sequence[Any] | None = None, pairs: Sequence[str] | None = None
    ) -> DSCreator:
        """Tokenizes texts, or pairs of texts, as the model expects them; without labels all are set to 0."""
        split = {"sentence": texts, "label": [0] * len(texts) if labels is None else labels, "pair": pairs}
        pair_column = None if pairs is None else "pair"
        dataset = DSCreator(split, self.tokenizer, self.seq_len, pair_column=pair_column, long_text=self.long_text)
        if self.model.config.type_vocab_size == 1 and any(row.any() for row in dataset.token_type_ids or []):
            raise UsageError("the model has one segment (type_vocab_size 1), but a pair needs two; give one text")
        return dataset


@dataclass(frozen=True)
class MaskedLanguageModel:
    """A model that predicts masked tokens, with its tokenizer: what a folder of pre-training holds."""

    model: BertForMaskedLM
    tokenizer: Tokenizer
    seq_len: int  # tokens of a row in pre-training, special ones included


@dataclass(frozen=True)
class LoadReport:
    """What became of a checkpoint's tensors, by their names in the checkpoint."""

    mapped: list[str]
    initialised: list[str]  # not loaded from the checkpoint, so drawn at random
    unused: list[str]

    def tell(self) -> None:
        """Logs the report."""
        logger.info(f"pretrained  {len(self.mapped)} tensors loaded")
        for what, names in (("newly initialised", self.initialised), ("left unused", self.unused)):
            if names:
                logger.info(f"            {what}: {', '.join(names)}")


def save_classifier(folder: Path, classifier: Classifier, dtype: torch.dtype = torch.float32) -> None:
    """Writes a classifier into an existing folder, its weights in `dtype`; readers compute in float32."""
    config = classifier.model.config
    values = to_hugging_face_config(config, "classifier", classifier.label_names)
    _save(folder, classifier.model, values | {TEMPERATURE: classifier.temperature}, dtype)
    save_tokenizer(folder, classifier.tokenizer, config, classifier.seq_len, classifier.long_text)


def save_masked_lm(folder: Path, masked_lm: MaskedLanguageModel) -> None:
    """Writes a masked language model into an existing folder."""
    config = masked_lm.model.config
    _save(folder, masked_lm.model, to_hugging_face_config(config, "masked_lm"))
    save_tokenizer(folder, masked_lm.tokenizer, config, masked_lm.seq_len)


def _save(folder: Path, model: Model, config: dict[str, Any], dtype: torch.dtype = torch.float32) -> None:
    if type(model) not in (BertForSequenceClassification, BertForMaskedLM):
        # A type that transformers does not know: opened as a BERT, the model would give other logits.
        name = type(model).__name__
        config = config | {"architectures": [name], "model_type": f"{model.config.model_type}-{name}"}
    write_json(folder / CONFIG, config)
    tensors = {
        their_name(key, model.config.model_type): tensor.to("cpu", dtype).contiguous()
        for key, tensor in model.state_dict().items()
    }
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def load_classifier(folder: Path) -> Classifier:
    """Reads a classifier from a folder that this project or `transformers` wrote, in evaluation mode on the CPU."""
    model, label_names = _load(BertForSequenceClassification, folder)
    tokenizer, (seq_len, long_text) = load_tokenizer(folder, model.config.vocab_size), load_lengths(folder)
    seq_len, temperature = min(seq_len, model.config.longest_sequence), read_json(folder / CONFIG).get(TEMPERATURE, 1.0)
    return Classifier(model, tokenizer, label_names, seq_len, long_text, temperature)


def load_masked_lm(folder: Path) -> MaskedLanguageModel:
    """Reads a masked language model as `load_classifier` reads a classifier."""
    model, _ = _load(BertForMaskedLM, folder)
    tokenizer, (seq_len, _) = load_tokenizer(folder, model.config.vocab_size), load_lengths(folder)
    return MaskedLanguageModel(model, tokenizer, min(seq_len, model.config.longest_sequence))


def from_pretrained(model_class: type[AnyModel], name_or_path: str | Path) -> AnyModel:
    """Loads a model of a class from a folder or from the hub, in evaluation mode on the CPU; `Bert` has no head."""
    folder = fetch(str(name_or_path))
    if not issubclass(model_class, Bert):
        return _load(model_class, folder)[0]
    config, _ = load_config(folder)
    model = BertForSequenceClassification(config, num_labels=1)
    model.bert = model_class(config)
    load_weights(model, folder, required="bert.")
    return model.bert.eval()


def _load(model_class: type[AnyModel], folder: Path) -> tuple[AnyModel, tuple[str, ...]]:
    """Reads a model with a head, and the names of its classes, if it has any."""
    is_classifier = issubclass(model_class, BertForSequenceClassification)
    config, label_names = load_config(folder, "classifier" if is_classifier else "masked_lm", model_class.__name__)
    label_names = label_names or unnamed_labels(2)  # which transformers does not write
    model = model_class(config, *[len(label_names)] * is_classifier)
    load_weights(model, folder)
    return model.eval(), label_names


def load_config(folder: Path, head: str | None = None, own: str = "") -> tuple[BertConfig, tuple[str, ...]]:
    """Reads shape and class names from a folder, and checks its manifest and, if given, its head (or class `own`)."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; name one that training or transformers wrote")
    path = folder / CONFIG
    values = read_json(path)
    with checkpoint_errors(path):
        if own and class_name(values) == own and "model_type" in values:
            values["model_type"] = values["model_type"].removesuffix(f"-{own}")
        config, label_names = from_hugging_face_config(values, path)
    name = class_name(values)
    if head is not None and name not in ("", own) and not name.endswith(HOLDERS[head]):
        raise CheckpointError(f"{path}: {name} has no head {HOLDERS[head][0]}; train one first")
    verify(folder)
    D, L = config.hidden_size, config.num_hidden_layers
    rows = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
    rows += L * (4 * D + 2 * config.intermediate_size)
    if rows * D > sum(tensor.numel() for tensor in _read_tensors(folder, config.model_type).values()):
        raise CheckpointError(f"{path} describes a model that is larger than {WEIGHTS}; restore both")
    return config, label_names


def load_weights(model: Pretrained, folder: Path, required: str = "", drawn: tuple[str, ...] = ()) -> LoadReport:
    """Loads the weights of a folder into a model with random weights, in place.

    Parameters whose names begin with `required` must be in the checkpoint; those that begin with `drawn` stay random.
    """
    tensors, path = _read_tensors(folder, model.config.model_type), folder / WEIGHTS
    names = {key: their_name(key, model.config.model_type) for key in model.state_dict()}
    for ours, kind in TIED.items() if isinstance(model, BertForMaskedLM) else ():
        name = their_name(f"masked_lm.decoder.{kind}", model.config.model_type)
        if name in tensors and names[ours] in tensors and not tensors[name].equal(tensors[names[ours]]):
            raise CheckpointError(f"{path}: {name} is not {names[ours]}, but this model ties them; load another")
    found: dict[str, Tensor] = {}
    for key, parameter in model.state_dict().items():
        tensor, name, shape = tensors.get(names[key]), names[key], tuple(parameter.shape)
        if tensor is not None and tensor.shape == shape and not key.startswith(drawn):
            if not tensor.is_floating_point() or not tensor.float().isfinite().all():
                raise CheckpointError(f"{path}: {name} holds {tensor.dtype}, or NaN or infinity; restore an older one")
            found[key] = tensor
        elif key.startswith(required):
            there = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
            advice = "restore it, or train a model that has it first"
            raise CheckpointError(f"{path}: {name} {there}, not {shape}; {advice}")
    model.load_state_dict(found, strict=False)
    mapped = {names[key] for key in found}
    initialised = [name for key, name in names.items() if key not in found]
    return LoadReport(sorted(mapped), initialised, sorted(tensors.keys() - mapped))


def _read_tensors(folder: Path, model_type: str) -> dict[str, Tensor]:
    """Maps model.safetensors into memory, under canonical Hugging Face names; what is not used is never read."""
    path, index = folder / WEIGHTS, folder / INDEX
    if not path.exists() and not index.exists() and (folder / "pytorch_model.bin").exists():
        what = f"{folder} holds pytorch_model.bin, a pickle that could run code"
        raise CheckpointError(f"{what}; load it in transformers, whose save_pretrained(folder) writes {WEIGHTS}")
    names = {WEIGHTS}
    if not path.exists() and index.exists():
        with checkpoint_errors(index):
            names = {Path(name).name for name in read_json(index)["weight_map"].values()}
    tensors: dict[str, Tensor] = {}
    for path in (folder / name for name in sorted(names)):
        check_regular_file(path)
        with checkpoint_errors(path):
            tensors |= {canonical_name(name, model_type): tensor for name, tensor in load_file(path).items()}
    return tensors


def fetch(name_or_path: str) -> Path:
    """Finds a model folder, or downloads it from the hub by an id such as "google-bert/bert-base-uncased"."""
    path = local_path(name_or_path)
    if path is not None and path.is_dir():
        return path
    if not hub.HUB_ID.fullmatch(name_or_path):
        raise CheckpointError(f"{name_or_path} is no folder, and no hub id like google-bert/bert-base-uncased")
    from huggingface_hub import snapshot_download

    try:
        offline = not hub.hub_answers(name_or_path, "model")
        return Path(snapshot_download(name_or_path, allow_patterns=FILES, local_files_only=offline))
    except Exception as error:  # the library's errors have no common base
        reason = (str(error) or type(error).__name__).splitlines()[0]
        what = f"cannot get {name_or_path} from the hub ({reason})"
        raise CheckpointError(f"{what}; check name and network, or name a folder") from None


def load_pretrained(
    folder: Path,
    label_names: Sequence[str],
    config: TrainConfig,
    model_class: type[BertForSequenceClassification] = BertForSequenceClassification,
) -> tuple[Classifier, LoadReport]:
    """Loads an encoder to fine-tune, its pooler if there is one, and its classifier if it has the same classes."""
    shape, known = _load_config(folder, config)
    tokenizer = load_tokenizer(folder, shape.vocab_size, config.tokenization.plain_text)
    # A checkpoint without class names may have these classes.
    same = ((), unnamed_labels(len(label_names)), tuple(label_names))
    drawn: tuple[str, ...] = () if known in same else ("classifier.",)
    name = class_name(read_json(folder / CONFIG))
    if name and not name.endswith(("Model", *HOLDERS["classifier"], *HOLDERS["masked_lm"])):
        logger.info(f"head        {name} has another kind of head; only its encoder is loaded")
        drawn = ("classifier.",) if shape.model_type == "bert" else ("classifier.", "pooler.")
    model = model_class(shape, len(label_names))
    report = load_weights(model, folder, required="bert.", drawn=drawn)
    seq_len = min(config.tokenization.seq_len, _trained_length(folder, shape))
    if seq_len < config.tokenization.seq_len:
        logger.info(f"positions   {folder} has {seq_len} of them; longer texts are cut there, not at --seq-len")
    return Classifier(model, tokenizer, tuple(label_names), seq_len, config.data.long_text), report


def load_pretrained_masked_lm(folder: Path, config: PretrainConfig) -> tuple[BertForMaskedLM, LoadReport]:
    """Loads an encoder, with its masked-language-model head if there is one, to pre-train it further."""
    (shape, _), seq_len = _load_config(folder, config), config.tokenization.seq_len
    if seq_len > shape.longest_sequence:
        raise UsageError(f"--seq-len {seq_len} exceeds the {shape.longest_sequence} positions of {folder}; lower it")
    model = BertForMaskedLM(shape)
    return model, load_weights(model, folder, required="bert.")


def pretrained_tokenizer(folder: Path, config: PretrainConfig) -> Tokenizer:
    """Reads a checkpoint's tokenizer, which with `plain_text` also undoes what corpora do to text."""
    return load_tokenizer(folder, _load_config(folder, config)[0].vocab_size, config.tokenization.plain_text)


def pretraining_of(folder: Path) -> dict[str, Any] | None:
    """Returns the run.json of this project's pre-training that a model or checkpoint started from, or None."""
    run_folder = folder.parent.parent if folder.parent.name == CHECKPOINTS else folder
    if not (run_folder / RUN).exists():
        return None
    run = read_json(run_folder / RUN)
    if run.get("task") == PretrainConfig.task:
        return run
    with whole_run(run_folder):
        return run["model"].get("pretraining")


def _load_config(folder: Path, config: TrainConfig | PretrainConfig) -> tuple[BertConfig, tuple[str, ...]]:
    """Reads a checkpoint's shape and class names; dropout rates and problem type come from the settings."""
    # The checkpoint fixes model and vocabulary, so options for them that differ from the defaults are refused.
    usual, given = options_of(type(config)()), options_of(config.model) | options_of(config.tokenization)
    if fixed := [name for name in given if name not in FREE and given[name] != usual[name]]:
        raise UsageError(f"{', '.join(fixed)} come with {config.model_name_or_path}; drop those options or --preset")
    shape, label_names = load_config(folder)
    return replace(shape, **{name: getattr(config.model, name) for name in (*RATES, "problem_type")}), label_names


def _trained_length(folder: Path, shape: BertConfig) -> int:
    """Returns the longest row of a checkpoint's pre-trainings here, or all its positions if it began elsewhere."""
    last = pretraining_of(folder)
    if last is None:
        return shape.longest_sequence
    with whole_run(folder):
        settings = [stage["config"] for stage in stages(last)]
        # A model from elsewhere has trained all its positions; the limit of its tokenizer is often set far lower.
        if settings[-1].get("model_name_or_path") is not None:
            return shape.longest_sequence
        return max(int(setting["tokenization"]["seq_len"]) for setting in settings)
