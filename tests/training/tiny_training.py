"""A training small enough to run hundreds of times: 36 and 12 made-up sentences, 1 layer, 16 wide."""

import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from src.data.sources import Corpus, TextSplit
from src.training.checkpoint import TENSORS, Progress, RunFolder, gather_random_states, save_state
from src.training.tasks import ClassificationTask
from src.training.trainer import StepReport, Trainer, run_epochs, stop_on_signals
from src.training.wandb_logger import WandbLogger
from src.utils.config import DataConfig, TrainConfig, with_options

GOOD, BAD = ("fine", "warm", "clever", "lovely"), ("dull", "cold", "stupid", "ugly")
OTHERS = ("a", "the", "film", "story", "is", "with", "actors", "and", "music", "scenes")
LABELS = ("negative", "positive")

# Every setting that matters, so that a better default changes no test.
COMMON: dict[str, Any] = {
    **{"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32},
    **{"warmup_ratio": 0.1, "weight_decay": 0.01, "max_grad_norm": 1.0, "gradient_accumulation_steps": 1},
    **{"adam_beta1": 0.9, "ema_decay": 0.0, "tokenizer": "wordlevel", "device": "cpu"},
}
SETTINGS: dict[str, Any] = COMMON | {
    "initializer_range": 0.2,  # at 0.02 so small a model says the same of every sentence
    **{"epochs": 2, "batch_size": 8, "learning_rate": 3e-3, "adam_beta2": 0.999, "adam_epsilon": 1e-8},
    **{"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "classifier_dropout": 0.1},
    **{"label_smoothing": 0.0, "word_dropout": 0.0, "min_frequency": 2, "seq_len": 64},
}
NO_DROPOUT: dict[str, Any] = dict.fromkeys(
    ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"), 0.0
)
ALL_RANDOMNESS: dict[str, Any] = {"word_dropout": 0.2, "ema_decay": 0.9, "label_smoothing": 0.1}
ALL_RANDOMNESS["gradient_accumulation_steps"] = 2


def sentences(count: int, seed: int) -> TextSplit:
    draw = random.Random(seed)
    texts = []
    for index in range(count):
        words = [*draw.choices(OTHERS, k=draw.randint(1, 9)), draw.choice(GOOD if index % 2 else BAD)]
        draw.shuffle(words)
        texts.append(" ".join(words))
    return TextSplit(texts, [index % 2 for index in range(count)], "made up")


def corpus(examples: int = 36) -> Corpus:
    return corpus_of(sentences(examples, 1), sentences(12, 2))


def corpus_of(train: TextSplit, validation: TextSplit, label_names: tuple[str, ...] = LABELS) -> Corpus:
    return Corpus("made-up", label_names, {"train": train, "validation": validation}, DataConfig())


def settings(**options: Any) -> TrainConfig:
    return with_options(TrainConfig(), SETTINGS | options)


def task(examples: int = 36, **options: Any) -> ClassificationTask:
    return ClassificationTask(settings(**options), corpus(examples))


def trainer(examples: int = 36, **options: Any) -> Trainer:
    return Trainer(task(examples, **options))


def train_epoch(trainer: Trainer) -> list[StepReport]:
    reports = [trainer.step_with_retry(batches) for batches in trainer.remaining_steps()]
    trainer.progress.epoch, trainer.progress.step_in_epoch = trainer.progress.epoch + 1, 0
    return reports


@dataclass
class Run:
    trainer: Trainer
    folder: RunFolder

    @property
    def progress(self) -> Progress:
        return self.trainer.progress

    def train(self, wandb: WandbLogger | None = None) -> None:
        with stop_on_signals(self.trainer):
            run_epochs(self.trainer, self.folder, wandb or WandbLogger())
        self.folder.finish(self.progress.training_seconds)


def begin(path: Path, **options: Any) -> Run:
    """A training at its beginning, in a new run's folder."""
    run = Run(trainer(**options), RunFolder(path))
    path.mkdir(parents=True, exist_ok=True)
    run.folder.begin(run.trainer.task)
    return run


def resume(path: Path, checkpoint: Path | None = None, **options: Any) -> Run:
    """A training of new objects at a checkpoint, the newest one unless named."""
    run = Run(trainer(**options), RunFolder(path))
    run.folder.checkpoint = checkpoint or run.folder.newest_checkpoint()
    run.folder.resume(run.trainer)
    return run


def after_each_step(run: Run, act: Callable[[int], None]) -> None:
    """Calls `act` with the number of each step before it is logged or saved."""
    original = run.trainer.training_step

    def training_step(batches: Any) -> Any:
        report = original(batches)
        act(run.progress.step)
        return report

    run.trainer.training_step = training_step  # type: ignore[method-assign]


def all_tensors(trainer: Trainer, with_random_states: bool = True) -> dict[str, Tensor]:
    """All tensors that a checkpoint would hold."""
    with tempfile.TemporaryDirectory() as folder:
        save_state(Path(folder), trainer, gather_random_states() if with_random_states else {})
        return load_file(Path(folder) / TENSORS)


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
