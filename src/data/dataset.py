"""`DSCreator`: a split of texts and labels as a PyTorch dataset of token ids."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor
from torch.utils.data import Dataset

from src.data.batching import Batch, collate, group_by_length

# Tokenizing time grows with the text, whatever truncation keeps. No language has words this long on average.
CHARACTERS_PER_TOKEN = 100


def encode(tokenizer: Tokenizer, texts: Sequence[str], seq_len: int) -> list[Encoding]:
    """Tokenizes texts, framed by the tokenizer's special tokens and cut to `seq_len` tokens.

    Args:
        tokenizer: its truncation is set, its padding switched off.
        texts: any strings.
        seq_len: most tokens kept of a text, special tokens included.

    Returns:
        One encoding a text; `overflowing` is not empty where a text was cut.
    """
    tokenizer.enable_truncation(seq_len)
    tokenizer.no_padding()
    limit = seq_len * CHARACTERS_PER_TOKEN
    # Half a surrogate pair, which bytes that are not UTF-8 become in sys.argv, would stop `tokenizers`.
    cleaned = [text[:limit].encode("utf-8", "replace").decode() for text in texts]
    encodings: list[Encoding] = tokenizer.encode_batch(cleaned)
    return encodings


class DSCreator(Dataset[dict[str, Tensor]]):
    """Wraps a split of labelled texts for any sequence length, tokenized once.

    Args:
        split: a Hugging Face `datasets` split, or any mapping from column name to list.
        tokenizer: text to ids.
        seq_len: most tokens of a text, special tokens included.
        text_column: name of the column of texts.
        label_column: name of the column of class indices.

    Attributes:
        input_ids: token ids, int64, each of shape (T_i,).
        labels: class indices.
        lengths: tokens of every text.
        truncated: whether a text had more tokens than `seq_len`.
        unknown: whether the tokenizer knows no word of a text.
    """

    def __init__(
        self,
        split: Mapping[str, Sequence[Any]] | Any,
        tokenizer: Tokenizer,
        seq_len: int,
        text_column: str = "sentence",
        label_column: str = "label",
    ):
        texts = list(split[text_column])
        self.labels: list[int] = list(split[label_column])
        encodings = encode(tokenizer, texts, seq_len)
        self.input_ids = [torch.tensor(encoding.ids) for encoding in encodings]
        self.lengths = [len(encoding) for encoding in encodings]
        self.truncated = [
            bool(encoding.overflowing) or len(text) > seq_len * CHARACTERS_PER_TOKEN
            for encoding, text in zip(encodings, texts, strict=True)
        ]
        unk_token = getattr(tokenizer.model, "unk_token", None)
        self.unknown = [_only_unknown(encoding, unk_token) for encoding in encodings]
        pad_token_id = tokenizer.token_to_id("[PAD]")
        self.pad_token_id: int = 0 if pad_token_id is None else pad_token_id

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Returns one example: `input_ids`, int64 (T,), and `labels`, int64 ()."""
        return {"input_ids": self.input_ids[index], "labels": torch.tensor(self.labels[index])}

    def grouped(self, tokens_per_batch: int, seed: int = 0, epoch: int | None = None) -> list[list[int]]:
        """Groups the examples by length into batches; see `group_by_length`."""
        return group_by_length(self.lengths, tokens_per_batch, seed, epoch)

    def collate(self, indices: Sequence[int]) -> Batch:
        """Makes one batch of the examples at `indices`."""
        ids = [self.input_ids[index] for index in indices]
        return collate(ids, [self.labels[index] for index in indices], self.pad_token_id)


def _only_unknown(encoding: Encoding, unk_token: str | None) -> bool:
    words = [token for token, special in zip(encoding.tokens, encoding.special_tokens_mask, strict=True) if not special]
    return bool(words) and all(token == unk_token for token in words)
