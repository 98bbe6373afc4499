"""A pre-trained encoder with its own head or a new one: where fine-tuning, or more pre-training, begins."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from src.data import hub
from src.interop.huggingface import FILES, WEIGHTS, Classifier, LoadReport, load_config, load_tensors, load_weights
from src.interop.tokenizer import load_tokenizer
from src.model.bert import BertForMaskedLM, BertForSequenceClassification
from src.utils.config import BertConfig, PretrainConfig, TrainConfig, options_of
from src.utils.errors import CheckpointError, UsageError, notice
from src.utils.files import local_path, read_json
from src.utils.runs import CHECKPOINTS, RUN, stages, whole_run

# What a checkpoint leaves open: regularisation, and how texts are read.
RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
FREE = {*RATES, "plain_text", "seq_len"}


def fetch(name_or_path: str) -> Path:
    """Finds a model folder, or downloads it from the hub by an id such as "google-bert/bert-base-uncased".

    Raises:
        CheckpointError: there is no such folder, and the hub has no such model or does not answer.
    """
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
        raise CheckpointError(
            f"cannot get {name_or_path} from the hub ({reason}); check name and network, or name a folder"
        ) from None


def load_pretrained(folder: Path, label_names: Sequence[str], config: TrainConfig) -> tuple[Classifier, LoadReport]:
    """Loads an encoder, with its pooler if it has one and its classifier if it knows the same classes, to fine-tune it.

    The dropout rates of `config` replace the checkpoint's.

    Raises:
        CheckpointError: an encoder tensor is missing or has another shape, or a file is missing or damaged.
    """
    shape, known = _load_config(folder, config)
    tokenizer = load_tokenizer(folder, shape.vocab_size, config.tokenization.plain_text)
    # transformers calls classes LABEL_0, ... whose names it was not told; these may be any.
    nameless = tuple(f"LABEL_{number}" for number in range(len(label_names)))
    model, report = load_weights(
        lambda: BertForSequenceClassification(shape, len(label_names)),
        load_tensors(folder, shape),
        folder / WEIGHTS,
        required="bert.",
        drawn=() if known in ((), nameless, tuple(label_names)) else ("classifier.",),
    )
    seq_len = min(config.tokenization.seq_len, _trained_length(folder, shape))
    if seq_len < config.tokenization.seq_len:
        notice(f"positions   {folder} knows {seq_len} of them; longer texts are cut there, not at --seq-len")
    return Classifier(model, tokenizer, tuple(label_names), seq_len, config.data.long_text), report


def load_pretrained_masked_lm(folder: Path, config: PretrainConfig) -> tuple[BertForMaskedLM, LoadReport]:
    """Loads an encoder, with its masked-language-model head if there is one, to pre-train it further.

    Raises:
        CheckpointError: an encoder tensor is missing or has another shape, or a file is missing or damaged.
        UsageError: the rows that `config` asks for are longer than the model can read.
    """
    (shape, _), seq_len = _load_config(folder, config), config.tokenization.seq_len
    if seq_len > shape.longest_sequence:
        raise UsageError(f"--seq-len {seq_len} exceeds the {shape.longest_sequence} positions of {folder}; lower it")
    tensors = load_tensors(folder, shape)
    return load_weights(lambda: BertForMaskedLM(shape), tensors, folder / WEIGHTS, required="bert.")


def pretrained_tokenizer(folder: Path, config: PretrainConfig) -> Tokenizer:
    """Reads a checkpoint's tokenizer, and lets it undo what corpora do to text if the settings say so."""
    return load_tokenizer(folder, _load_config(folder, config)[0].vocab_size, config.tokenization.plain_text)


def pretraining_of(folder: Path) -> dict[str, Any] | None:
    """Returns the run.json of the pre-training here that a model, or a checkpoint of a run, goes back to, or None."""
    run_folder = folder.parent.parent if folder.parent.name == CHECKPOINTS else folder
    if not (run_folder / RUN).exists():
        return None
    run = read_json(run_folder / RUN)
    if run.get("task") == PretrainConfig.task:
        return run
    with whole_run(run_folder):
        return run["model"].get("pretraining")


def _load_config(folder: Path, config: TrainConfig | PretrainConfig) -> tuple[BertConfig, tuple[str, ...]]:
    """Reads a checkpoint's shape, with the dropout rates of the settings, and the names of its classes.

    Settings of model and vocabulary come with the checkpoint: those that differ from the defaults are refused.
    """
    usual = type(config)()
    given = options_of(config.model) | options_of(config.tokenization)
    expected = options_of(usual.model) | options_of(usual.tokenization)
    if fixed := [name for name in given if name not in FREE and given[name] != expected[name]]:
        raise UsageError(f"{', '.join(fixed)} come with {config.model_name_or_path}; drop those options or --preset")
    shape, label_names = load_config(folder)
    return replace(shape, **{rate: getattr(config.model, rate) for rate in RATES}), label_names


def _trained_length(folder: Path, shape: BertConfig) -> int:
    """Counts the positions a checkpoint was trained on: those of the longest rows of its pre-trainings here."""
    last = pretraining_of(folder)
    if last is None:
        return shape.longest_sequence
    with whole_run(folder):
        settings = [stage["config"] for stage in stages(last)]
        # What began elsewhere knows its whole table; the tokenizer's own limit is often set far below that.
        if settings[-1].get("model_name_or_path") is not None:
            return shape.longest_sequence
        return max(int(setting["tokenization"]["seq_len"]) for setting in settings)
