"""From a config and a corpus to everything a training needs: tokenizer, datasets, model, trainer."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from src.data.dataset import DSCreator
from src.data.sources import Corpus, TextSplit
from src.data.tokenizer import PAD, build_tokenizer, roles, token_id
from src.data.word_dropout import drop_probabilities
from src.evaluation.predictor import labelled_dataset
from src.interop.huggingface import Classifier
from src.interop.pretrained import fetch, load_pretrained, pretraining_of
from src.model.bert import BertForSequenceClassification
from src.training.distillation import teacher_logits, with_unlabelled
from src.training.loop import Trainer
from src.training.objectives import Classification
from src.training.subjects import ClassifierInTraining
from src.utils.config import CACHE_DIR, BertConfig, TrainConfig
from src.utils.device import resolve_device, set_up_arithmetic, wants_bf16
from src.utils.errors import UsageError, notice


@dataclass(frozen=True)
class ClassifierSetup:
    """What a training works with."""

    trainer: Trainer[BertForSequenceClassification, DSCreator]
    classifier: Classifier
    validation: DSCreator
    data: dict[str, Any]  # name, origins, sizes, labels and content's sum, for run.json
    pretraining: dict[str, Any] | None  # run.json of the pre-training, if this project did it

    @property
    def subject(self) -> ClassifierInTraining:
        """What is trained, for the session."""
        return ClassifierInTraining(self.classifier, self.validation, self.trainer.device)

    @property
    def model(self) -> dict[str, Any]:
        """The model's shape and past, and how it reads, for run.json."""
        model = self.classifier.model
        more = {"parameters": count_parameters(model), "pretraining": self.pretraining}
        return asdict(model.config) | more | {"seq_len": self.classifier.seq_len}


def set_up(config: TrainConfig, corpus: Corpus) -> ClassifierSetup:
    """Builds or loads the model, and builds datasets and trainer; says on standard error what they are.

    Args:
        config: all settings.
        corpus: with the splits "train" and "validation".

    Returns:
        The parts, the model on its device; what is not pre-trained is drawn from the seed.
    """
    device = resolve_device(config.run.device)
    set_up_arithmetic(device, config.run.num_threads)
    torch.manual_seed(config.run.seed)

    train_split = draw(corpus.splits["train"], config.data.max_train_samples, config.run.seed)
    train_split = with_unlabelled(train_split, config.distillation.unlabelled)
    folder = None if config.model_name_or_path is None else fetch(config.model_name_or_path)
    started = time.perf_counter()
    if folder is None:
        classifier = _from_scratch(config, train_split, corpus.label_names)
    else:
        classifier = _from_checkpoint(config, folder, corpus.label_names)
    train, validation = (
        labelled_dataset(classifier, split.texts, split.labels, split.pairs)
        for split in (train_split, corpus.splits["validation"])
    )
    making = time.perf_counter() - started
    freeze(classifier.model.to(device), config.optimization.freeze_layers)
    classifier.model.bert.encoder.gradient_checkpointing = config.optimization.gradient_checkpointing
    if config.optimization.compile:
        classifier.model.bert.encoder.compile_layers()

    bf16 = wants_bf16(config.run.precision, device)
    if config.distillation.teacher is not None:
        train.teacher_logits = teacher_logits(
            config.distillation.teacher, train_split, corpus.label_names, CACHE_DIR, device, bf16
        )
    objective = _objective(config, classifier, train, device)
    trainer = Trainer(classifier.model, train, objective, config.optimization, config.run.seed, bf16)
    trainer.state.progress.training_seconds = making
    pretraining = None if folder is None else pretraining_of(folder)
    data = _data(corpus, train, validation, _digest(train_split, corpus.splits["validation"]))
    setup = ClassifierSetup(trainer, classifier, validation, data, pretraining)
    _describe(setup, config.optimization.epochs)
    return setup


def count_parameters(model: torch.nn.Module) -> int:
    """Counts a model's parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def _objective(
    all_settings: TrainConfig, classifier: Classifier, train: DSCreator, device: torch.device
) -> Classification:
    config = all_settings.optimization
    tokens = {role: token_id(classifier.tokenizer, token) for role, token in roles(classifier.tokenizer).items()}
    unk_token_id = tokens.pop("unk", 0)
    chances = None
    if config.word_dropout or config.rare_word_dropout:
        counts = torch.bincount(torch.cat(train.input_ids), minlength=classifier.model.config.vocab_size)
        special_ids = list(tokens.values())
        chances = drop_probabilities(counts, config.word_dropout, config.rare_word_dropout, special_ids).to(device)
    return Classification(chances, unk_token_id, config.label_smoothing, all_settings.distillation)


def freeze(model: BertForSequenceClassification, layers: int | Literal["all"] | None) -> None:
    """Excludes the lower part of a model from training.

    Args:
        model: changed in place.
        layers: keep the embeddings and this many layers as they are; "all": the whole encoder, which makes it a
            feature extractor under a trained head; None: nothing.

    Raises:
        UsageError: there are fewer layers.
    """
    if layers is None:
        return
    count = model.config.num_hidden_layers if layers == "all" else layers
    if count > model.config.num_hidden_layers:
        raise UsageError(f"freeze_layers = {count}, but the model has {model.config.num_hidden_layers} layers")
    model.bert.embedding.requires_grad_(False)
    model.bert.encoder.layers[:count].requires_grad_(False)


def _from_scratch(config: TrainConfig, train: TextSplit, label_names: tuple[str, ...]) -> Classifier:
    texts = [*train.texts, *(train.pairs or [])]
    tokenizer = build_tokenizer(texts, config.tokenization, config.model.vocab_size)
    shape = replace(config.model, vocab_size=tokenizer.get_vocab_size(), pad_token_id=token_id(tokenizer, PAD))
    model = BertForSequenceClassification(shape, len(label_names))
    return Classifier(model, tokenizer, label_names, config.tokenization.seq_len, config.tokenization.long_text)


def _from_checkpoint(config: TrainConfig, folder: Path, label_names: tuple[str, ...]) -> Classifier:
    classifier, report = load_pretrained(folder, label_names, config)
    report.tell()
    return classifier


def _data(corpus: Corpus, train: DSCreator, validation: DSCreator, sha256: str) -> dict[str, Any]:
    return {
        "name": corpus.name,
        "label_names": corpus.label_names,
        "train_origin": corpus.splits["train"].origin,
        "train": sum(label >= 0 for label in train.text_labels),
        "unlabelled": sum(label < 0 for label in train.text_labels),
        "validation_origin": corpus.splits["validation"].origin,
        "validation": len(validation.text_labels),
        "sha256": sha256,
    }


def _digest(*splits: TextSplit) -> str:
    """Sums up texts and labels, to tell whether a resumed run finds those it began with."""
    content = hashlib.sha256()
    for split in splits:
        for part in (split.texts, split.labels, split.pairs):
            content.update(json.dumps(part).encode())
    return content.hexdigest()


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
    return split.select(kept, split.origin)


def _describe(setup: ClassifierSetup, epochs: int) -> None:
    trainer, data, shape = setup.trainer, setup.data, setup.classifier.model.config
    labelled = [label for label in setup.trainer.dataset.text_labels if label >= 0]
    counts = np.bincount(labelled, minlength=len(data["label_names"]))
    labels = ", ".join(f"{count:,} {name}" for name, count in zip(data["label_names"], counts, strict=True))
    notice(f"training    {len(labelled):,} examples ({labels}) of {data['train_origin']}")
    notice(f"validation  {data['validation']:,} examples of {data['validation_origin']}")
    for name, dataset in (("training", trainer.dataset), ("validation", setup.validation)):
        if any(dataset.truncated):
            notice(
                f"truncated   {sum(dataset.truncated):,} {name} texts to {setup.classifier.seq_len} tokens (--seq-len)"
            )
    notice(
        f"vocabulary  {shape.vocab_size:,} tokens; {np.mean(setup.trainer.dataset.lengths):.1f} tokens a training text"
    )
    notice(f"model       {describe_shape(shape)}: {setup.model['parameters']:,} parameters")
    notice(f"steps       {epochs} epochs of {trainer.steps_per_epoch:,}, {describe_place(trainer)}")


def describe_shape(shape: BertConfig) -> str:
    """Says in a few words how large a model is."""
    return f"{shape.num_hidden_layers} layers, {shape.hidden_size} wide, {shape.num_attention_heads} heads"


def describe_place(trainer: Trainer[Any, Any]) -> str:
    """Says where a training computes, and how exactly."""
    return f"on {trainer.device} in {'bf16' if trainer.bf16 else 'fp32'}"
