"""From a config and a corpus to everything a pre-training needs: rows, model, trainer, and the number of steps."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from src.data.masking import Masking
from src.data.packing import PackedRows, TokenizedCorpus
from src.data.tokenizer import PAD, special_ids, token_id
from src.interop.huggingface import MaskedLanguageModel
from src.interop.pretrained import fetch, load_pretrained_masked_lm, pretraining_of
from src.model.bert import BertForMaskedLM
from src.training.informed_start import start_from_counts
from src.training.loop import Trainer
from src.training.objectives import MaskedLanguageModelling
from src.training.rehearsal import STEPS_TO_MEASURE, STEPS_TO_WARM_UP, seconds_per_step
from src.training.setup import count_parameters, describe_place, describe_shape
from src.training.subjects import MaskedLMInTraining
from src.utils.config import EVALUATED_MASK_RATE, PretrainConfig
from src.utils.device import resolve_device, set_up_arithmetic, wants_bf16
from src.utils.errors import notice


@dataclass(frozen=True)
class PretrainSetup:
    """What a pre-training works with."""

    trainer: Trainer[BertForMaskedLM, PackedRows]
    subject: MaskedLMInTraining
    data: dict[str, Any]  # name, sizes and sum of the text, for run.json
    pretraining: dict[str, Any] | None  # run.json of the pre-training before this one, if this project did it

    @property
    def model(self) -> dict[str, Any]:
        """The model's shape, number of parameters and past, for run.json."""
        model = self.subject.masked_lm.model
        more = {"parameters": count_parameters(model), "pretraining": self.pretraining}
        return asdict(model.config) | more


def set_up_pretraining(config: PretrainConfig, corpus: TokenizedCorpus, begins: bool = True) -> PretrainSetup:
    """Builds model, rows and trainer.

    Args:
        config: all settings, the number of steps among them.
        corpus: the text.
        begins: whether to do what --begin-with asks; in vain where a checkpoint's weights replace those made here.

    Returns:
        The parts, the model on its device; what is not pre-trained is drawn from the seed.
    """
    device = resolve_device(config.run.device)
    set_up_arithmetic(device, config.run.num_threads)
    torch.manual_seed(config.run.seed)
    tokenizer = corpus.tokenizer
    base = None if config.model_name_or_path is None else fetch(config.model_name_or_path)
    if base is None:
        shape = replace(config.model, vocab_size=tokenizer.get_vocab_size(), pad_token_id=token_id(tokenizer, PAD))
        model = BertForMaskedLM(shape).to(device)
    else:
        masked_lm, report = load_pretrained_masked_lm(base, config)
        model = masked_lm.model.to(device)
        if begins:
            report.tell()
    model.bert.encoder.gradient_checkpointing = config.optimization.gradient_checkpointing
    if config.optimization.compile:
        model.bert.encoder.compile_layers()
    rate, only_mask_tokens = config.optimization.mask_rate, config.optimization.mask_replacement == "mask"
    train = _rows("training text", corpus.train, config, tokenizer, rate, only_mask_tokens)
    validation = _rows("held-out text", corpus.validation, config, tokenizer, EVALUATED_MASK_RATE, True)
    if begins and base is None and config.optimization.begin_with == "counts":
        notice("counting    which tokens keep company with which, for the start (--begin-with)")
        start_from_counts(model, corpus.train, train.counts, config.run.seed)
    bf16 = wants_bf16(config.run.precision, device)
    trainer = Trainer(model, train, MaskedLanguageModelling(), config.optimization, config.run.seed, bf16)
    subject = MaskedLMInTraining(
        MaskedLanguageModel(model, tokenizer, config.tokenization.seq_len), train, validation, device
    )
    return PretrainSetup(trainer, subject, _data(corpus), None if base is None else pretraining_of(base))


def with_steps(config: PretrainConfig, corpus: TokenizedCorpus) -> PretrainConfig:
    """Turns --minutes into --max-steps by timing a few steps of a training that is then thrown away.

    The real one is built anew from the same seed, so it is the same as if --max-steps had been given.

    Args:
        config: all settings.
        corpus: the text.

    Returns:
        The settings with the number of steps; the same if they had it.
    """
    optimization = config.optimization
    if optimization.max_steps is not None:
        return config
    rehearsed = replace(config, optimization=replace(optimization, max_steps=STEPS_TO_WARM_UP + STEPS_TO_MEASURE))
    seconds = seconds_per_step(set_up_pretraining(rehearsed, corpus, begins=False).trainer)
    steps = max(1, round(60 * optimization.minutes / seconds))
    notice(f"steps       {steps:,} in {optimization.minutes:g} minutes, at {1000 * seconds:.0f} ms a step")
    return replace(config, optimization=replace(optimization, max_steps=steps))


def describe(setup: PretrainSetup) -> None:
    """Says on standard error what is about to be trained on what."""
    trainer, data, rows = setup.trainer, setup.data, setup.subject.train
    shape = setup.subject.masked_lm.model.config
    notice(f"text        {data['train']:,} tokens of {data['documents']:,} documents: {data['name']}")
    notice(f"held out    {data['validation']:,} tokens; vocabulary {shape.vocab_size:,}")
    notice(f"model       {describe_shape(shape)}: {setup.model['parameters']:,} parameters")
    notice(
        f"steps       {trainer.total_steps:,}, {trainer.total_steps / trainer.steps_per_epoch:.2f} passes over "
        f"{len(rows):,} rows of {rows.seq_len}, {describe_place(trainer)}"
    )


def _rows(
    name: str,
    stream: NDArray[np.integer],
    config: PretrainConfig,
    tokenizer: Tokenizer,
    mask_rate: float,
    only_mask_tokens: bool,
) -> PackedRows:
    special = special_ids(tokenizer)
    masking = Masking(mask_rate, only_mask_tokens, special["mask"], list(special.values()), tokenizer.get_vocab_size())
    return PackedRows(name, stream, config.tokenization.seq_len, special["cls"], special["sep"], masking)


def _data(corpus: TokenizedCorpus) -> dict[str, Any]:
    return {
        "name": corpus.name,
        "documents": corpus.documents,
        "train": len(corpus.train),
        "validation": len(corpus.validation),
        "sha256": corpus.sha256,
    }
