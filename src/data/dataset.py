"""`DSCreator`: a split of texts and labels as a PyTorch dataset of token ids, in batches of equal length.

Batches are grouped by length under a budget of tokens. SST-2's phrases have few distinct lengths, so nearly every
batch has a single one and needs neither padding nor mask. Only where one length runs out and the next begins does a
batch have both, padded to the longer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict, cast

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from src.data.tokenizer import encode, special_token_ids
from src.utils.config import LongText
from src.utils.errors import DataError


class Batch(TypedDict):
    """Tensors of one batch: ids and labels, a mask only if something is padded, segments only of text pairs."""

    input_ids: Tensor  # int64 (B, T)
    attention_mask: Tensor | None  # bool (B, T), True at real tokens; None: no padding
    token_type_ids: Tensor | None  # int64 (B, T); None: all in segment 0
    # int64 (B,), classes, -1 where there is no label; float (B,), numbers to predict; float (B, C), 1 for each label of
    # several; in pre-training int64 (B, T), the masked tokens
    labels: Tensor
    teacher_logits: NotRequired[Tensor]  # float (B, C), with a teacher


class DSCreator(Dataset[dict[str, Tensor]]):
    """Tokenizes a split, given as a Hugging Face `datasets` split or any mapping from column name to list.

    An example has at most `seq_len` tokens, special tokens included; `long_text` says what becomes of longer texts. The
    label column holds indices of classes, or what `TextSplit` has instead, the pair column second texts.
    """

    def __init__(
        self,
        split: Mapping[str, Sequence[Any]] | Any,
        tokenizer: Tokenizer,
        seq_len: int,
        text_column: str = "sentence",
        label_column: str = "label",
        pair_column: str | None = None,
        long_text: LongText = "truncate",
    ):
        texts, pairs = list(split[text_column]), None if pair_column is None else list(split[pair_column])
        # Of every text.
        self.text_labels: list[Any] = list(split[label_column])
        for what, column in (("labels", self.text_labels), ("second texts", texts if pairs is None else pairs)):
            if len(column) != len(texts):
                raise DataError(f"{len(texts)} texts and {len(column)} {what}; give one for each text")
        encoded = encode(tokenizer, texts, seq_len, pairs, long_text)
        self.truncated, self.unknown = encoded.truncated, encoded.unknown
        self.teacher_logits: Tensor | None = None  # float (N, C)
        # Of every example: a text, or a window of one.
        self.overflow_to_sample_mapping = encoded.overflow_to_sample_mapping  # the index of its text
        self.input_ids = [torch.tensor(ids) for ids in encoded.input_ids]  # int64, each (T_i,)
        self.token_type_ids = None if pairs is None else [torch.tensor(types) for types in encoded.token_type_ids]
        self.labels = list(torch.tensor([self.text_labels[text] for text in self.overflow_to_sample_mapping]))
        self.lengths = [len(ids) for ids in self.input_ids]
        self.pad_token_id = special_token_ids(tokenizer).get("pad_token", 0)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Returns one example: `input_ids`, int64 (T,), `labels`, int64 (), and of a pair `token_type_ids`, (T,)."""
        example = {"input_ids": self.input_ids[index], "labels": self.labels[index]}
        if self.token_type_ids is not None:
            example["token_type_ids"] = self.token_type_ids[index]
        if self.teacher_logits is not None:
            example["teacher_logits"] = self.teacher_logits[self.overflow_to_sample_mapping[index]]
        return example

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        """Groups the examples of an epoch by length; a batch has room for `batch_size` sentences of mean length."""
        budget = max(round(batch_size * (sum(self.lengths) / len(self.lengths))), max(self.lengths))
        return group_by_length(self.lengths, budget, seed, epoch)

    def collate(self, indices: Sequence[int]) -> Batch:
        """Makes a batch of the examples at `indices`."""
        return self.collate_fn([self[index] for index in indices], self.pad_token_id)

    @staticmethod
    def collate_fn(examples: Sequence[Mapping[str, Tensor]], pad_token_id: int = 0) -> Batch:
        """Stacks examples into one batch, padded on the right where lengths differ; any id will do, the mask hides it.

        DataLoader(dataset, batch_sampler=dataset.batches(32, seed=0, epoch=0), collate_fn=DSCreator.collate_fn)
        """
        columns = {name: [example[name] for example in examples] for name in examples[0]}
        ids, types = columns["input_ids"], columns.get("token_type_ids")
        lengths = torch.tensor([len(row) for row in ids])  # (B,)
        is_real = torch.arange(int(lengths.max())) < lengths[:, None]  # (B, T)
        batch = Batch(
            input_ids=pad_sequence(ids, batch_first=True, padding_value=pad_token_id),
            attention_mask=None if is_real.all() else is_real,
            token_type_ids=None if types is None else pad_sequence(types, batch_first=True),
            labels=torch.stack(columns["labels"]),
        )
        if "teacher_logits" in columns:
            batch["teacher_logits"] = torch.stack(columns["teacher_logits"])
        return batch


def group_by_length(
    lengths: Sequence[int], tokens_per_batch: int, seed: int = 0, epoch: int | None = None
) -> list[list[int]]:
    """Groups examples of equal or neighbouring length into batches, given as lists of indices into `lengths`.

    A batch has at most `tokens_per_batch` tokens, padding included; a longer example is a batch of its own. Seed and
    epoch fix the order of the batches and which examples of a length meet, but not the number of batches; without an
    epoch nothing is shuffled, and short batches come first.
    """
    order = np.arange(len(lengths))
    random = None if epoch is None else np.random.default_rng((seed, epoch))
    if random is not None:
        random.shuffle(order)
    order = order[np.argsort(np.asarray(lengths)[order], kind="stable")]
    batches: list[list[int]] = []
    for index in order.tolist():
        # Lengths only grow, so this example is the longest its batch would hold.
        if batches and (len(batches[-1]) + 1) * lengths[index] <= tokens_per_batch:
            batches[-1].append(index)
        else:
            batches.append([index])
    if random is not None:
        random.shuffle(batches)
    return batches


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Moves a batch from a CPU; to a GPU from pinned memory, so that the CPU does not wait for the copy."""
    moved, pin = cast(dict[str, Tensor | None], batch.copy()), device.type == "cuda"
    for name, tensor in moved.items():
        if tensor is not None:
            moved[name] = (tensor.pin_memory() if pin else tensor).to(device, non_blocking=pin)
    return cast(Batch, moved)
