"""`DSCreator`: a split of texts and labels as a PyTorch dataset of token ids."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import Dataset

from src.data.batching import Batch, collate, group_by_length
from src.data.encoding import encode
from src.data.tokenizer import roles
from src.utils.config import LongText


class DSCreator(Dataset[dict[str, Tensor]]):
    """Wraps a split of labelled texts for any sequence length, tokenized once.

    Args:
        split: a Hugging Face `datasets` split, or any mapping from column name to list.
        tokenizer: text to ids.
        seq_len: most tokens of an example, special tokens included.
        text_column: name of the column of texts.
        label_column: name of the column of class indices.
        pair_column: name of the column of second texts, if there is one.
        long_text: what becomes of texts with more tokens; in windows, a text becomes several examples.

    Attributes:
        input_ids: token ids of every example, int64, each of shape (T_i,).
        token_type_ids: segments of every example, int64, each (T_i,); None where all is segment 0.
        labels: class index of every example.
        text_labels: class index of every text.
        lengths: tokens of every example.
        owners: for every example, the index of its text in the split.
        truncated: for every text, whether some of it is not read.
        unknown: for every text, whether the tokenizer knows none of its words.
        teacher_logits: for every text, a teacher's logits, float (N, C); None: there is no teacher.
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
        pairs = None if pair_column is None else list(split[pair_column])
        texts = encode(tokenizer, list(split[text_column]), seq_len, pairs, long_text)
        windows = [(owner, window) for owner, text in enumerate(texts) for window in text.windows]
        self.input_ids = [torch.tensor(window.input_ids) for _, window in windows]
        self.token_type_ids = None if pairs is None else [torch.tensor(window.token_type_ids) for _, window in windows]
        self.owners = [owner for owner, _ in windows]
        self.text_labels: list[int] = list(split[label_column])
        self.labels = [self.text_labels[owner] for owner in self.owners]
        self.lengths = [len(ids) for ids in self.input_ids]
        self.truncated = [text.truncated for text in texts]
        self.unknown = [text.unknown for text in texts]
        self.teacher_logits: Tensor | None = None
        # Where there is no padding token any id will do: the mask hides it.
        self.pad_token_id: int = tokenizer.token_to_id(roles(tokenizer).get("pad", "")) or 0

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Returns one example: `input_ids`, int64 (T,), `labels`, int64 (), and of a pair `token_type_ids`, (T,)."""
        example = {"input_ids": self.input_ids[index], "labels": torch.tensor(self.labels[index])}
        return example if self.token_type_ids is None else example | {"token_type_ids": self.token_type_ids[index]}

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        """Divides the examples into batches of equal length.

        Args:
            batch_size: sentences of mean length; their tokens are the budget of every batch.
            seed: of the order.
            epoch: with the seed, fixes the order.

        Returns:
            Lists of indices; their number does not depend on seed or epoch.
        """
        mean_length = sum(self.lengths) / len(self)
        return self.grouped(max(round(batch_size * mean_length), max(self.lengths)), seed, epoch)

    def grouped(self, tokens_per_batch: int, seed: int = 0, epoch: int | None = None) -> list[list[int]]:
        """Groups the examples by length into batches; see `group_by_length`."""
        return group_by_length(self.lengths, tokens_per_batch, seed, epoch)

    def collate(self, indices: Sequence[int]) -> Batch:
        """Makes one batch of the examples at `indices`."""
        types = None if self.token_type_ids is None else [self.token_type_ids[index] for index in indices]
        labels = [self.labels[index] for index in indices]
        batch = collate([self.input_ids[index] for index in indices], labels, self.pad_token_id, types)
        if self.teacher_logits is not None:
            batch["teacher_logits"] = self.teacher_logits[[self.owners[index] for index in indices]]
        return batch
