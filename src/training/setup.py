"""From a config and a corpus to everything a training needs: tokenizer, datasets, model, trainer."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from src.data.dataset import DSCreator
from src.data.sources import Corpus, TextSplit
from src.data.tokenizer import CLS, PAD, SEP, UNK, build_tokenizer, token_id
from src.interop.huggingface import Classifier
from src.model.bert import BertForSequenceClassification
from src.training.loop import Trainer
from src.utils.config import TrainConfig
from src.utils.device import resolve_device, set_up_arithmetic, wants_bf16
from src.utils.errors import notice


@dataclass(frozen=True)
class Setup:
    """What a training works with."""

    trainer: Trainer
    classifier: Classifier
    validation: DSCreator
    data: dict[str, Any]  # name, origins, sizes and labels, for run.json

    @property
    def parameters(self) -> int:
        """Number of the model's parameters."""
        return sum(parameter.numel() for parameter in self.classifier.model.parameters())


def set_up(config: TrainConfig, corpus: Corpus) -> Setup:
    """Builds tokenizer, datasets, model and trainer, and says on standard error what they are.

    Args:
        config: all settings.
        corpus: with the splits "train" and "validation".

    Returns:
        The parts, the model on its device with fresh weights drawn from the seed.
    """
    device = resolve_device(config.run.device)
    set_up_arithmetic(device, config.run.num_threads)
    torch.manual_seed(config.run.seed)

    train_split = draw(corpus.splits["train"], config.data.max_train_samples, config.run.seed)
    tokenizer = build_tokenizer(train_split.texts, config.tokenization, config.model.vocab_size)
    seq_len = config.tokenization.seq_len
    train, validation = (
        DSCreator({"sentence": split.texts, "label": split.labels}, tokenizer, seq_len)
        for split in (train_split, corpus.splits["validation"])
    )

    shape = replace(config.model, vocab_size=tokenizer.get_vocab_size(), pad_token_id=token_id(tokenizer, PAD))
    model = BertForSequenceClassification(shape, len(corpus.label_names)).to(device)
    special_ids = [token_id(tokenizer, token) for token in (PAD, CLS, SEP)]
    trainer = Trainer(
        model,
        train,
        config.optimization,
        config.run.seed,
        token_id(tokenizer, UNK),
        special_ids,
        wants_bf16(config.run.precision, device),
    )
    classifier = Classifier(model, tokenizer, corpus.label_names, seq_len)
    data = {
        "name": corpus.name,
        "label_names": corpus.label_names,
        "train_origin": corpus.splits["train"].origin,
        "train": len(train),
        "validation_origin": corpus.splits["validation"].origin,
        "validation": len(validation),
    }
    setup = Setup(trainer, classifier, validation, data)
    _describe(setup)
    return setup


def draw(split: TextSplit, count: int | None, seed: int) -> TextSplit:
    """Draws `count` examples at random, in their old order; all of them for None.

    Args:
        split: the examples.
        count: how many to keep.
        seed: of the draw.

    Returns:
        The drawn examples.
    """
    if count is None or count >= len(split.texts):
        return split
    kept = np.sort(np.random.default_rng(seed).choice(len(split.texts), size=count, replace=False)).tolist()
    return replace(split, texts=[split.texts[i] for i in kept], labels=[split.labels[i] for i in kept])


def _describe(setup: Setup) -> None:
    trainer, data, shape = setup.trainer, setup.data, setup.classifier.model.config
    counts = np.bincount(trainer.dataset.labels, minlength=len(data["label_names"]))
    labels = ", ".join(f"{count:,} {name}" for name, count in zip(data["label_names"], counts, strict=True))
    notice(f"training    {data['train']:,} examples ({labels}) of {data['train_origin']}")
    notice(f"validation  {data['validation']:,} examples of {data['validation_origin']}")
    for name, dataset in (("training", trainer.dataset), ("validation", setup.validation)):
        if any(dataset.truncated):
            notice(
                f"truncated   {sum(dataset.truncated):,} {name} texts to {setup.classifier.seq_len} tokens (--seq-len)"
            )
    notice(f"vocabulary  {shape.vocab_size:,} tokens; {np.mean(trainer.dataset.lengths):.1f} tokens a training text")
    notice(
        f"model       {shape.num_hidden_layers} layers, {shape.hidden_size} wide, {shape.num_attention_heads} heads: "
        f"{setup.parameters:,} parameters"
    )
    notice(
        f"steps       {trainer.config.epochs} epochs of {trainer.steps_per_epoch:,}, on {trainer.device} "
        f"in {'bf16' if trainer.bf16 else 'fp32'}"
    )
