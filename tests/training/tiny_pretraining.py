"""A pre-training small enough to run dozens of times: documents that each repeat one word, 1 layer, 16 wide."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.data.documents import Documents
from src.data.masking import Masking
from src.data.packing import PackedRows, TokenizedCorpus, tokenized_corpus
from src.training.tasks import MaskedLMTask
from src.training.trainer import Trainer
from src.utils.config import PretrainConfig, with_options
from tests.training.tiny_training import COMMON

WORDS = ("red", "green", "blue", "black", "white", "pink", "brown", "grey")

SETTINGS: dict[str, Any] = COMMON | {
    **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.02},
    **{"vocab_size": 64, "min_frequency": 1, "lowercase": True, "plain_text": True, "seq_len": 16},
    **{"max_steps": 16, "batch_size": 16, "learning_rate": 1e-2, "adam_beta2": 0.98, "adam_epsilon": 1e-6},
    **{"begin_with": "counts", "mask_rate": 0.15, "mask_replacement": "80-10-10", "num_threads": 1},
}
# All that draws random numbers or averages, so that a resumed run has the most to remember.
ALL_RANDOMNESS: dict[str, Any] = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "ema_decay": 0.9}


@dataclass
class Counted:
    """Documents that count how often they are read."""

    texts: Sequence[str]
    readings: int = field(default=0)

    def __iter__(self) -> Iterator[str]:
        self.readings += 1
        return iter(self.texts)

    @property
    def documents(self) -> Documents:
        return Documents("made up", self.__iter__)


def texts(count: int = 20, length: int = 60) -> list[str]:
    return [" ".join([WORDS[index % len(WORDS)]] * length) for index in range(count)]


def varied_texts(count: int = 20, length: int = 60) -> list[str]:
    """Texts whose words differ in frequency."""
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, [8, 6, 4, 3, 2, 2, 1, 1], k=length)) for _ in range(count)]


def settings(**options: Any) -> PretrainConfig:
    return with_options(PretrainConfig(), SETTINGS | options)


def arguments(**options: Any) -> list[str]:
    """The settings as options of `python -m src.pretrain`; None is an option not given, True is the default anyway."""
    given = {name: value for name, value in (SETTINGS | options).items() if value is not None and value is not True}
    return [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def write_texts(path: Path, count: int = 20, length: int = 60) -> Path:
    path.write_text("\n\n".join(texts(count, length)))
    return path


def corpus(cache: Path, written: Iterable[str] | None = None, **options: Any) -> TokenizedCorpus:
    config, found = settings(**options), list(texts() if written is None else written)
    return tokenized_corpus(Documents("made up", lambda: iter(found)), config.tokenization, 64, cache)


def task(cache: Path, written: Iterable[str] | None = None, **options: Any) -> MaskedLMTask:
    return MaskedLMTask(settings(**options), corpus(cache, written, **options))


def trainer(cache: Path, written: Iterable[str] | None = None, **options: Any) -> Trainer:
    return Trainer(task(cache, written, **options))


def masking(rate: float = 0.15, only_mask_tokens: bool = False, vocab_size: int = 100) -> Masking:
    """Masking of a vocabulary that begins with [PAD], [UNK], [CLS], [SEP] and [MASK]."""
    return Masking(rate, only_mask_tokens, mask_token_id=4, special_ids=range(5), vocab_size=vocab_size)


def rows_of(stream: Any, seq_len: int = 9, rate: float = 0.0, vocab_size: int = 100) -> PackedRows:
    """Rows of a stream of ids; as they are, unless there is a rate."""
    return PackedRows("made up", np.asarray(stream), seq_len, 2, 3, masking(rate, vocab_size=vocab_size))


def leaves_global_random_numbers_alone(act: Callable[[], Any]) -> bool:
    before = torch.get_rng_state()
    numpys: Any = np.random.get_state(legacy=False)
    act()
    after: Any = np.random.get_state(legacy=False)
    same = all(np.array_equal(numpys["state"][name], after["state"][name]) for name in numpys["state"])
    return torch.equal(torch.get_rng_state(), before) and same


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
