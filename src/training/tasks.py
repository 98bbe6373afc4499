"""What is trained: each task has a model and its data, the loss of a batch, how to evaluate, and what to save."""

import copy
import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from src.data.dataset import Batch
from src.data.masking import NOT_MASKED, Masking, drop_words
from src.data.packing import PackedRows, TokenizedCorpus
from src.data.sources import Corpus, TextSplit
from src.data.tokenizer import build_tokenizer, special_token_ids
from src.evaluation.masked_lm import MaskedEvaluation, evaluate_masked_lm
from src.evaluation.metrics import EVALUATIONS, ClassifierEvaluation, Evaluation, Numbers, fit_temperature
from src.evaluation.predictor import classify
from src.interop import huggingface
from src.interop.huggingface import TEMPERATURE
from src.interop.model_card import classifier_card, masked_lm_card
from src.model.bert import BertForMaskedLM, BertForSequenceClassification
from src.training.distillation import distillation_loss, teacher_logits, with_unlabelled
from src.training.embedding_init import start_from_counts
from src.utils.config import CACHE_DIR, EVALUATED_MASK_RATE, BertConfig, OptimizerConfig, PretrainConfig, TrainConfig
from src.utils.device import set_up_device, use_fast_dropout, wants_bf16
from src.utils.errors import UsageError, counted

logger = logging.getLogger(__name__)

NO_LABEL = -1  # the label of a text that only a teacher has labelled


class ClassificationTask:
    """Training from random weights, or fine-tuning, on labelled sentences (Devlin et al. 2019, section 4.1)."""

    card = staticmethod(classifier_card)
    model_class = BertForSequenceClassification

    def __init__(self, config: TrainConfig, corpus: Corpus):
        self.config = config = replace(config, model=replace(config.model, problem_type=corpus.problem_type))
        self.problem_type = corpus.problem_type
        self.evaluation_class, self._evaluate = EVALUATIONS[self.problem_type]
        self.device = set_up_device(config.run.device, config.run.num_threads)
        self.bf16 = wants_bf16(config.run.precision, self.device)
        torch.manual_seed(config.run.seed)
        started = time.perf_counter()
        train, validation = corpus.splits["train"], corpus.splits["validation"]
        calibration = corpus.splits.get("calibration")
        others = [split for split in (validation, calibration) if split is not None]
        train = draw(train, config.data.max_train_samples, config.run.seed)
        self.num_labelled = len(train.texts)
        if config.distillation.unlabelled:
            train = with_unlabelled(train, others, config.distillation.unlabelled)
        base = None if config.model_name_or_path is None else huggingface.fetch(config.model_name_or_path)
        if base is None:
            texts = [*train.texts, *(train.pairs or [])]
            tokenizer = build_tokenizer(texts, config.tokenization, config.model.vocab_size)
            model = self.model_class(_shape(config.model, tokenizer), len(corpus.label_names))
            seq_len, long_text = config.tokenization.seq_len, config.data.long_text
            self.classifier = huggingface.Classifier(model, tokenizer, corpus.label_names, seq_len, long_text)
        else:
            self.classifier, report = huggingface.load_pretrained(base, corpus.label_names, config, self.model_class)
            report.tell()
        self.model = self.classifier.model.to(self.device)
        self.tokenizer, self.seq_len = self.classifier.tokenizer, self.classifier.seq_len
        self.num_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self.train, self.validation, *rest = (
            self.classifier.dataset(split.texts, split.labels, split.pairs) for split in (train, *others)
        )
        self.calibration = rest[0] if rest else None
        teacher, teacher_digest = config.distillation.teacher, None
        if teacher is not None:
            self.train.teacher_logits, teacher_digest = teacher_logits(
                teacher, train, corpus.label_names, CACHE_DIR, self.device, self.bf16
            )
        self.class_weights: Tensor | None = None
        if config.optimization.class_weights == "balanced":
            self.class_weights = balanced_weights(train.labels, len(corpus.label_names)).to(self.device)
        freeze(self.model, config.optimization.freeze_layers)
        _prepare(self.model, config.optimization)
        ids = special_token_ids(self.tokenizer)
        self._unk_token_id, self._special_ids = ids.pop("unk_token", None), list(ids.values())
        if self._unk_token_id is None and config.optimization.word_dropout > 0:
            raise UsageError("the tokenizer has no [UNK] to put in place of words; give --word-dropout 0")
        self.pretraining = None if base is None else huggingface.pretraining_of(base)
        content = [(split.texts, split.labels, split.pairs) for split in (train, *others)]
        batches = len(self.train.batches(config.optimization.batch_size, config.run.seed, epoch=0))
        steps_per_epoch = -(-batches // config.optimization.gradient_accumulation_steps)
        epochs = config.optimization.total_steps(steps_per_epoch) // steps_per_epoch
        if config.optimization.epochs is None and epochs > 2:
            logger.info(f"few texts   are read {epochs} times, for {config.optimization.min_steps} steps (--min-steps)")
        self.config = replace(config, optimization=replace(config.optimization, epochs=epochs))  # resumed runs keep it
        self.data = {
            "name": corpus.name,
            "label_names": corpus.label_names,
            "train_origin": train.origin,
            "train": self.num_labelled,
            "unlabelled": len(train.texts) - self.num_labelled,
            "validation_origin": validation.origin,
            "validation": len(self.validation.text_labels),
            "calibration": 0 if calibration is None else len(calibration.texts),
            "sha256": hashlib.sha256(json.dumps(content).encode()).hexdigest(),
            "validation_sha256": validation.sha256,
            "teacher": teacher_digest,  # SHA-256 of its weights and settings
            "tokenizer": hashlib.sha256(self.classifier.tokenizer.to_str().encode()).hexdigest(),
        }
        self.setup_seconds = time.perf_counter() - started

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Sums the cross-entropy of a batch's sentences, in nats; with a teacher, mixed with the distillation loss.

        Regression sums squared errors; multi-label classification sums the binary cross-entropy of every class.
        """
        input_ids, labels, config = batch["input_ids"], batch["labels"], self.config.optimization
        if self._unk_token_id is not None and config.word_dropout > 0:
            input_ids = drop_words(input_ids, config.word_dropout, self._special_ids, self._unk_token_id)
        logits = model(input_ids, batch["attention_mask"], batch["token_type_ids"]).float()  # (B, C)
        if self.problem_type == "regression":
            return F.mse_loss(logits.squeeze(-1), labels, reduction="sum")
        if self.problem_type == "multi_label_classification":
            return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        smoothing, distillation = config.label_smoothing, self.config.distillation
        loss = F.cross_entropy(
            logits, labels, self.class_weights, label_smoothing=smoothing, ignore_index=NO_LABEL, reduction="sum"
        )
        if "teacher_logits" not in batch:
            return loss
        taught = distillation_loss(logits, batch["teacher_logits"], distillation.temperature)
        return distillation.hard_label_weight * loss + (1 - distillation.hard_label_weight) * taught

    def num_targets(self, batch: Batch) -> int:
        """Counts the terms of a batch's loss: one per sentence, or with several labels one per class of each."""
        return batch["labels"].numel()

    def evaluate(self, model: nn.Module) -> ClassifierEvaluation:
        """Classifies the validation examples."""
        logits = classify(model, self.validation, self.device, together=True)
        return self._evaluate(logits, self.validation.text_labels, self.classifier.label_names)

    def calibrated(self, model: nn.Module, evaluation: Numbers) -> tuple[nn.Module, dict[str, Any]]:
        """Fits a temperature on the --calibration texts and divides the head of a copy by it (Guo et al. 2017, 4.2).

        Returns the copy and its evaluation, or without such texts the given model and evaluation.
        """
        if self.calibration is None or not isinstance(evaluation, Evaluation):
            return model, evaluation.as_dict()
        logits = classify(model, self.calibration, self.device, together=True)
        temperature, model = fit_temperature(logits, self.calibration.text_labels), copy.deepcopy(model)
        assert isinstance(model, BertForSequenceClassification)
        for parameter in model.classifier.parameters():
            parameter.data /= temperature
        numbers, before = self.evaluate(model).as_dict(), evaluation.calibration_error
        numbers |= {TEMPERATURE: temperature, "calibration_error_before": before}
        after = numbers["calibration_error"]
        logger.info(f"calibrated  by temperature {temperature:.3f}: calibration error {before:.1%}, now {after:.1%}")
        return model, numbers

    def save(self, folder: Path, model: nn.Module, temperature: float = 1.0) -> None:
        """Writes the classifier, with the weights of `model`, as `transformers` reads it."""
        assert isinstance(model, BertForSequenceClassification)
        huggingface.save_classifier(folder, replace(self.classifier, model=model, temperature=temperature))

    def log_start(self, total_steps: int, steps_per_epoch: int) -> None:
        """Says on standard error what is about to be trained on what."""
        names, targets = self.classifier.label_names, np.array(self.train.text_labels[: self.num_labelled])
        if self.problem_type == "regression":
            labels = f"{names[0]} from {targets.min():g} to {targets.max():g}"
        else:  # rows of 0 and 1 for each class, or indices of classes
            counts = targets.sum(0) if targets.ndim > 1 else np.bincount(targets, minlength=len(names))
            labels = ", ".join(f"{count:,.0f} {name}" for name, count in zip(names, counts, strict=True))
        logger.info(f"training    {len(targets):,} examples ({labels}) of {self.data['train_origin']}")
        logger.info(f"validation  {self.data['validation']:,} examples of {self.data['validation_origin']}")
        if self.calibration is not None:
            logger.info(f"calibration {self.data['calibration']:,} examples, which are not trained on (--calibration)")
        for name, dataset in (("training", self.train), ("validation", self.validation)):
            if count := sum(dataset.truncated):
                logger.info(f"truncated   {count:,} {name} texts to {self.seq_len} tokens (--seq-len)")
        length = np.mean(self.train.lengths)
        logger.info(f"vocabulary  {self.model.config.vocab_size:,} tokens; {length:.1f} tokens per training text")
        ids, unk = torch.cat(self.validation.input_ids), self._unk_token_id
        words = ids[~torch.isin(ids, torch.tensor(self._special_ids))]
        if unk is not None and (unknown := float(words.eq(unk).float().mean())) > 0.5:
            advice = "try --tokenizer wordpiece, or a checkpoint of their language"
            logger.warning(f"{unknown:.0%} of the tokens of the validation texts are unknown; {advice}")
        _log_sizes(self, f"{counted(total_steps // steps_per_epoch, 'epoch')} of {steps_per_epoch:,}")


class MaskedLMTask:
    """Pre-training: predicting masked tokens of unlabelled text (Devlin et al. 2019, section 3.1, task 1)."""

    evaluation_class = MaskedEvaluation
    card = staticmethod(masked_lm_card)

    # `initialize=False` skips --begin-with and the load report, where these weights are not used.
    def __init__(self, config: PretrainConfig, corpus: TokenizedCorpus, initialize: bool = True):
        self.config = config
        self.device = set_up_device(config.run.device, config.run.num_threads)
        self.bf16 = wants_bf16(config.run.precision, self.device)
        torch.manual_seed(config.run.seed)
        self.tokenizer, self.seq_len, settings = corpus.tokenizer, config.tokenization.seq_len, config.optimization
        base = None if config.model_name_or_path is None else huggingface.fetch(config.model_name_or_path)
        if base is None:
            self.model = BertForMaskedLM(_shape(config.model, self.tokenizer)).to(self.device)
        else:
            model, report = huggingface.load_pretrained_masked_lm(base, config)
            self.model = model.to(self.device)
            if initialize:
                report.tell()
        self.num_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self.train = self._rows("training text", corpus.train, settings.mask_rate, settings.mask_replacement == "mask")
        self.validation = self._rows("held-out text", corpus.validation, EVALUATED_MASK_RATE, True)
        if initialize and base is None and settings.begin_with == "counts":
            logger.info("counting    token co-occurrences for the initial embeddings (--begin-with)")
            start_from_counts(self.model, corpus.train, self.train.counts, config.run.seed)
        _prepare(self.model, config.optimization)
        self.pretraining = None if base is None else huggingface.pretraining_of(base)
        self.data = {
            "name": corpus.name,
            "documents": corpus.documents,
            "train": len(corpus.train),
            "validation": len(corpus.validation),
            "sha256": corpus.sha256,
        }
        self.setup_seconds = 0.0

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Computes the cross-entropy summed over a batch's masked tokens, in nats."""
        masked = batch["labels"] != NOT_MASKED  # (B, T)
        logits = model(batch["input_ids"], batch["attention_mask"], target_mask=masked)  # (N, V)
        return F.cross_entropy(logits.float(), batch["labels"][masked], reduction="sum")

    def num_targets(self, batch: Batch) -> int:
        """Counts the masked tokens that the loss of a batch sums over."""
        return int((batch["labels"] != NOT_MASKED).sum())

    def evaluate(self, model: nn.Module) -> MaskedEvaluation:
        """Predicts the masked tokens of the held-out rows."""
        assert isinstance(model, BertForMaskedLM)
        return evaluate_masked_lm(model, self.validation, self.train.counts, self.device)

    def save(self, folder: Path, model: nn.Module, temperature: float = 1.0) -> None:
        """Writes the masked language model, with the weights of `model`, as `transformers` reads it."""
        assert isinstance(model, BertForMaskedLM)
        huggingface.save_masked_lm(folder, huggingface.MaskedLanguageModel(model, self.tokenizer, self.seq_len))

    def log_start(self, total_steps: int, steps_per_epoch: int) -> None:
        """Says on standard error what is about to be trained on what."""
        data, shape = self.data, self.model.config
        logger.info(f"text        {data['train']:,} tokens of {data['documents']:,} documents: {data['name']}")
        logger.info(f"held out    {data['validation']:,} tokens; vocabulary {shape.vocab_size:,}")
        passes = f"{total_steps / steps_per_epoch:.2f} passes over {len(self.train):,} rows of {self.train.seq_len}"
        _log_sizes(self, f"{total_steps:,}, {passes}")

    def _rows(self, name: str, stream: NDArray[np.integer], mask_rate: float, only_mask_tokens: bool) -> PackedRows:
        ids, vocab_size = special_token_ids(self.tokenizer), self.tokenizer.get_vocab_size()
        masking = Masking(mask_rate, only_mask_tokens, ids["mask_token"], list(ids.values()), vocab_size)
        return PackedRows(name, stream, self.seq_len, ids["cls_token"], ids["sep_token"], masking)


Task = ClassificationTask | MaskedLMTask


def _log_sizes(task: Task, steps: str) -> None:
    shape, precision = task.model.config, "bf16" if task.bf16 else "fp32"
    layers, heads = counted(shape.num_hidden_layers, "layer"), counted(shape.num_attention_heads, "head")
    logger.info(f"model       {layers}, {shape.hidden_size} wide, {heads}: {task.num_parameters:,} parameters")
    logger.info(f"steps       {steps}, on {task.device} in {precision}")


def draw(split: TextSplit, count: int | None, seed: int) -> TextSplit:
    """Draws `count` examples at random, in their original order; None: all of them."""
    if count is None or count >= len(split.texts):
        return split
    kept = np.sort(np.random.default_rng(seed).choice(len(split.texts), size=count, replace=False)).tolist()
    return split.select(kept, split.origin)


def balanced_weights(labels: Sequence[int], num_classes: int) -> Tensor:
    """Returns class weights (C,) that give every class the same total; the mean weight of an example is 1."""
    counts = torch.bincount(torch.tensor([label for label in labels if label != NO_LABEL]), minlength=num_classes)
    weights = counts.sum() / (counts * (counts > 0).sum())  # (C,)
    return weights.where(counts > 0, 0.0)  # else label smoothing would use an absent class's infinity


def freeze(model: BertForSequenceClassification, layers: int | Literal["all"] | None) -> None:
    """Excludes the embeddings and the lowest layers from training, or with "all" the whole encoder."""
    if layers is None:
        return
    count = model.config.num_hidden_layers if layers == "all" else layers
    if count > model.config.num_hidden_layers:
        raise UsageError(f"freeze_layers = {count}, but the model has {model.config.num_hidden_layers} layers")
    model.bert.embedding.requires_grad_(False)
    model.bert.encoder.layers[:count].requires_grad_(False)


def _prepare(model: BertForSequenceClassification | BertForMaskedLM, config: OptimizerConfig) -> None:
    use_fast_dropout(model)
    model.bert.encoder.gradient_checkpointing = config.gradient_checkpointing
    if config.compile:
        model.bert.encoder.compile_layers()


def _shape(shape: BertConfig, tokenizer: Tokenizer) -> BertConfig:
    return replace(shape, vocab_size=tokenizer.get_vocab_size(), pad_token_id=special_token_ids(tokenizer)["pad_token"])
