"""A pre-trained encoder under a head of its own or a fresh one: where fine-tuning, or more pre-training, begins."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor

from src.data import hub
from src.data.tokenizer import prepend_plain_text_normalizer
from src.interop.configs import from_hugging_face_config
from src.interop.huggingface import CONFIG, WEIGHTS, Classifier, MaskedLanguageModel, from_checkpoint
from src.interop.key_tables import from_hugging_face, their_name
from src.interop.tokenizer_files import read_tokenizer
from src.interop.weights import Model, finite, refuse_what_does_not_fit
from src.model.bert import BertForMaskedLM, BertForSequenceClassification
from src.utils.config import BertConfig, PretrainConfig, TrainConfig, options_of
from src.utils.errors import CheckpointError, UsageError, notice
from src.utils.files import read_json, verify
from src.utils.runs import CHECKPOINTS, RUN, stages, task_of, whole_run

# What a checkpoint leaves open: regularisation, and how texts are read.
RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
FREE = {*RATES, "plain_text", "seq_len", "long_text"}

SHORTEST = 3  # a row is [CLS], a word and [SEP]
FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]


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


def fetch(name_or_path: str) -> Path:
    """Finds a model folder, or downloads it from the hub.

    Args:
        name_or_path: folder, or hub id such as "google-bert/bert-base-uncased".

    Returns:
        The folder.

    Raises:
        CheckpointError: there is no such folder, and the hub has no such model or does not answer.
    """
    path = Path(name_or_path)
    with suppress(OSError, RuntimeError):  # too long for a file name, or ~ and no such user
        path = path.expanduser()
        if name_or_path and path.is_dir():
            return path
    if not hub.HUB_ID.fullmatch(name_or_path):
        raise CheckpointError(f"{name_or_path} is no folder, and no hub id like google-bert/bert-base-uncased")
    from huggingface_hub import snapshot_download

    try:
        offline = not hub.hub_answers(name_or_path, "models")
        return Path(snapshot_download(name_or_path, allow_patterns=FILES, local_files_only=offline))
    except Exception as error:  # the library's errors have no common base
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"cannot get {name_or_path} from the hub ({reason}); check name and network, or name a folder"
        ) from None


def load_pretrained(folder: Path, label_names: Sequence[str], config: TrainConfig) -> tuple[Classifier, LoadReport]:
    """Loads an encoder, with its pooler if it has one and its classifier if it knows the same classes, to fine-tune it.

    Args:
        folder: a model folder of the BERT, DistilBERT or RoBERTa family, whatever head it has.
        label_names: names of the classes to learn.
        config: its dropout rates replace the checkpoint's; it also says how texts are read.

    Returns:
        The classifier, and a report of what was mapped, newly initialised and left unused.

    Raises:
        CheckpointError: an encoder tensor is missing or has another shape, or a file is missing, damaged or foreign.
    """
    shape, known = _shape_and_labels(folder, config)
    tokenizer = pretrained_tokenizer(folder, config)
    # transformers calls classes so whose names it was not told; these may be any.
    nameless = tuple(f"LABEL_{number}" for number in range(len(label_names)))
    same_classes = known in ((), nameless, tuple(label_names))
    state = from_checkpoint(folder, shape)
    model, report = _filled(
        lambda: BertForSequenceClassification(shape, len(label_names)), shape, state, folder / WEIGHTS, same_classes
    )
    seq_len = min(config.tokenization.seq_len, _trained_length(folder, shape))
    if seq_len < config.tokenization.seq_len:
        notice(f"positions   {folder} knows {seq_len} of them; longer texts are cut there, not at --seq-len")
    return Classifier(model, tokenizer, tuple(label_names), seq_len, config.tokenization.long_text), report


def load_pretrained_masked_lm(folder: Path, config: PretrainConfig) -> tuple[MaskedLanguageModel, LoadReport]:
    """Loads an encoder, with its masked-language-model head if there is one, to pre-train it further.

    Args:
        folder: a model folder of the BERT, DistilBERT or RoBERTa family, whatever head it has.
        config: its dropout rates replace the checkpoint's; it also gives the length of rows.

    Returns:
        The model, and a report of what was mapped, newly initialised and left unused.

    Raises:
        CheckpointError: an encoder tensor is missing or has another shape, or a file is missing, damaged or foreign.
        UsageError: rows are longer than the model can read.
    """
    (shape, _), seq_len = _shape_and_labels(folder, config), config.tokenization.seq_len
    if seq_len > shape.longest_sequence:
        raise UsageError(f"--seq-len {seq_len} exceeds the {shape.longest_sequence} positions of {folder}; lower it")
    model, report = _filled(lambda: BertForMaskedLM(shape), shape, from_checkpoint(folder, shape), folder / WEIGHTS)
    return MaskedLanguageModel(model, pretrained_tokenizer(folder, config), seq_len), report


def pretrained_tokenizer(folder: Path, config: TrainConfig | PretrainConfig) -> Tokenizer:
    """Reads a checkpoint's tokenizer, and lets it undo what corpora do to text if the settings say so.

    Raises:
        CheckpointError: it is missing, damaged or of another model.
    """
    tokenizer = read_tokenizer(folder, _shape_and_labels(folder, config)[0].vocab_size)
    if config.tokenization.plain_text:
        prepend_plain_text_normalizer(tokenizer)
    return tokenizer


def pretraining_of(folder: Path) -> dict[str, Any] | None:
    """Finds out which pre-training of this project a model goes back to.

    Args:
        folder: of a run, or a checkpoint in one.

    Returns:
        The content of the pre-training's run.json, or None where there was none or no run.json tells.
    """
    place = folder.parent.parent if folder.parent.name == CHECKPOINTS else folder
    if not (place / RUN).exists():
        return None
    run = read_json(place / RUN)
    if task_of(run) == PretrainConfig.task:
        return run
    with whole_run(place):
        past: dict[str, Any] | None = run["model"].get("pretraining")
    return past


def _refuse_what_is_fixed(config: TrainConfig | PretrainConfig) -> None:
    """Refuses settings of model and vocabulary that come with the checkpoint: those that differ from the defaults."""
    usual = type(config)()
    given = options_of(config.model) | options_of(config.tokenization)
    expected = options_of(usual.model) | options_of(usual.tokenization)
    if fixed := [name for name in given if name not in FREE and given[name] != expected[name]]:
        raise UsageError(f"{', '.join(fixed)} come with {config.model_name_or_path}; drop those options or --preset")


def _shape_and_labels(folder: Path, config: TrainConfig | PretrainConfig) -> tuple[BertConfig, tuple[str, ...]]:
    """Reads a checkpoint's shape, with the dropout rates of the settings, and the names of its classes."""
    _refuse_what_is_fixed(config)
    shape, label_names = from_hugging_face_config(read_json(folder / CONFIG), str(folder / CONFIG))
    verify(folder)
    return replace(shape, **{rate: getattr(config.model, rate) for rate in RATES}), label_names


def _trained_length(folder: Path, shape: BertConfig) -> int:
    """Finds how many positions a checkpoint was trained on: those of the longest rows of its pre-trainings here."""
    last = pretraining_of(folder)
    with whole_run(folder):
        settings = [] if last is None else [stage["config"] for stage in stages(last)]
        lengths = [int(setting["tokenization"]["seq_len"]) for setting in settings]
        if min(lengths, default=SHORTEST) < SHORTEST:
            raise ValueError(f"rows of {min(lengths)} tokens")
        # What began elsewhere knows its whole table; the tokenizer's own limit is often set far below that.
        from_scratch = bool(settings) and settings[-1].get("model_name_or_path") is None
    return max(lengths) if from_scratch else shape.longest_sequence


def _filled(
    build: Callable[[], Model],
    shape: BertConfig,
    checkpoint: dict[str, Tensor],
    where: Path,
    keep_classifier: bool = True,
) -> tuple[Model, LoadReport]:
    """Builds a model whose encoder, and as much of the rest as fits, is the checkpoint's."""
    refuse_what_does_not_fit(build, shape, checkpoint, where, part="bert.")
    model, family = build(), shape.model_type
    parameters = model.state_dict()
    found = from_hugging_face(checkpoint, parameters, family)
    found = {key: tensor for key, tensor in found.items() if tensor.shape == parameters[key].shape}
    # A head of other classes, or half a head, is of no use.
    if not keep_classifier or not {"classifier.weight", "classifier.bias"} <= set(found):
        found = {key: tensor for key, tensor in found.items() if not key.startswith("classifier.")}
    model.load_state_dict(finite(found, where), strict=False)
    mapped = {their_name(key, family) for key in found}
    initialised = [their_name(key, family) for key in parameters if key not in found]
    unused = sorted(name for name in checkpoint if name not in mapped)
    return model, LoadReport(sorted(mapped), initialised, unused)
