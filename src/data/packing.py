"""Text as one long stream of token ids, kept on disk, and rows of fixed length cut from it: nothing is ever padded."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from src.data.dataset import Batch
from src.data.documents import Documents
from src.data.masking import Masking
from src.data.tokenizer import SPELLINGS, build_tokenizer, special_token_ids
from src.utils.config import TokenizerConfig
from src.utils.errors import DataError
from src.utils.files import cached_folder

logger = logging.getLogger(__name__)
TOKENIZER = "tokenizer.json"
LONGEST_PIECE = 100_000  # characters: tokenizing time grows faster than the text
DOCUMENTS_AT_ONCE = 100
TOKENS_AT_ONCE = 10_000_000
# One document in so many is held out for evaluation: fewer of a large corpus than of a small one.
HELD_OUT, LARGE, HELD_OUT_OF_SMALL = 100, 1000, 20
FORMAT = 1  # raised when the same text would give other files


@dataclass(frozen=True)
class TokenizedCorpus:
    """A corpus on disk: two streams of token ids, [SEP] after each document, and the tokenizer they were made with."""

    name: str
    tokenizer: Tokenizer
    train: NDArray[np.integer]  # (tokens,), memory-mapped
    validation: NDArray[np.integer]
    documents: int
    sha256: str  # of the texts and of all that was done to them


def tokenized_corpus(
    documents: Documents, config: TokenizerConfig, vocab_size: int, cache: Path, tokenizer: Tokenizer | None = None
) -> TokenizedCorpus:
    """Builds a tokenizer on documents, unless a checkpoint's is given, and tokenizes them, or finds all in the cache.

    One document in a hundred (in twenty of fewer than 1,000), at least one, is held out. The folders of the cache are
    named by a digest of text and settings, so none is ever out of date.

    Raises:
        DataError: there are fewer than two documents, or too few words, or the tokenizer lacks a special token.
    """
    logger.info(f"reading     {documents.name}")
    how = [asdict(config) | {"seq_len": 0}, vocab_size] if tokenizer is None else [tokenizer.to_str()]
    count, digest = 0, hashlib.sha256(json.dumps([FORMAT, *how]).encode())
    for document in documents.read():
        count += 1
        digest.update(document.encode("utf-8", "replace") + b"\0")
    if count < 2:
        raise DataError(f"{documents.name} holds {count} documents; give two at least (blank lines divide a .txt file)")
    folder = cache / digest.hexdigest()[:16]
    held_out = HELD_OUT if count >= LARGE else min(HELD_OUT_OF_SMALL, count)
    with cached_folder(folder) as unfinished:
        if unfinished is not None:
            logger.info(f"tokenizing  {count:,} documents into {folder}")
            if tokenizer is None:
                training = (text for number, text in enumerate(documents.read(), start=1) if number % held_out)
                tokenizer = build_tokenizer((part for text in training for part in pieces(text)), config, vocab_size)
            _write_streams(unfinished, documents, tokenizer, held_out)
    tokenizer = Tokenizer.from_str((folder / TOKENIZER).read_text("utf-8"))
    train, validation = (
        np.memmap(folder / f"{part}.bin", dtype=_dtype(tokenizer), mode="r") for part in ("train", "validation")
    )
    return TokenizedCorpus(documents.name, tokenizer, train, validation, count, digest.hexdigest())


def pieces(document: str) -> list[str]:
    """Cuts a document, at blanks if it has any, into parts that are tokenized in reasonable time; none is blank."""
    parts = []
    while len(document) > LONGEST_PIECE:
        end = document.rfind(" ", 1, LONGEST_PIECE)
        end = LONGEST_PIECE if end < 0 else end
        parts.append(document[:end])
        document = document[end:]
    return [part for part in (*parts, document) if part.strip()]


def _write_streams(folder: Path, documents: Documents, tokenizer: Tokenizer, held_out: int) -> None:
    special = special_token_ids(tokenizer)
    if missing := [spellings[0] for name, spellings in SPELLINGS.items() if name not in special]:
        raise DataError(f"the tokenizer has no {missing[0]}; name a checkpoint that was pre-trained by masking")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # Not its own `save`, whose errors are of no type that tells a full disk.
    (folder / TOKENIZER).write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    sep_token_id = special["sep_token"]
    numbered = enumerate(documents.read(), start=1)
    with (folder / "train.bin").open("wb") as train, (folder / "validation.bin").open("wb") as validation:
        while chunk := [(number, pieces(text)) for number, text in islice(numbered, DOCUMENTS_AT_ONCE)]:
            parts = [part for _, of_document in chunk for part in of_document]
            encodings = iter(tokenizer.encode_batch_fast(parts, add_special_tokens=False))
            for number, of_document in chunk:
                ids = [index for _ in of_document for index in next(encodings).ids]
                stream = train if number % held_out else validation
                stream.write(np.array([*ids, sep_token_id], dtype=_dtype(tokenizer)).tobytes())


def _dtype(tokenizer: Tokenizer) -> type[np.uint16] | type[np.uint32]:
    return np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.uint32


@dataclass(eq=False)
class PackedRows:
    """Rows of fixed length out of a stream of tokens, each framed as [CLS] ... [SEP] and masked whenever it is read.

    A row begins where the one before ended, in the middle of a document or a word; in every epoch the cuts fall
    elsewhere.
    """

    name: str  # of the text, for messages
    stream: NDArray[np.integer]  # token ids, (tokens,)
    seq_len: int  # T, special tokens included
    cls_token_id: int
    sep_token_id: int
    masking: Masking

    def __post_init__(self) -> None:
        self.width = self.seq_len - 2
        # The first row begins up to width - 1 tokens late, so that the number of rows is the same in every epoch.
        self.row_count = (len(self.stream) - (self.width - 1)) // self.width
        if self.row_count < 1:
            problem = f"{len(self.stream)} tokens, but rows of --seq-len {self.seq_len} need {2 * self.width - 1}"
            raise DataError(f"{self.name}: {problem}; lower it or give more text")

    def __len__(self) -> int:
        return self.row_count

    @cached_property
    def counts(self) -> Tensor:
        """How often each id occurs in the stream, int64, shape (V,)."""
        counts = np.zeros(self.masking.vocab_size, dtype=np.int64)
        for start in range(0, len(self.stream), TOKENS_AT_ONCE):
            counts += np.bincount(self.stream[start : start + TOKENS_AT_ONCE], minlength=len(counts))
        return torch.from_numpy(counts)

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        """Divides the rows of an epoch into batches, given as the positions in the stream where the rows begin."""
        random = np.random.default_rng((seed, epoch))
        starts = int(random.integers(self.width)) + self.width * random.permutation(self.row_count)
        return [starts[first : first + batch_size].tolist() for first in range(0, self.row_count, batch_size)]

    def collate(self, indices: Sequence[int], generator: torch.Generator | None = None) -> Batch:
        """Makes one batch, masked by random numbers of `generator`, of the rows that begin at `indices`."""
        input_ids = torch.full((len(indices), self.seq_len), self.sep_token_id)  # (B, T)
        input_ids[:, 0] = self.cls_token_id
        rows = np.stack([self.stream[start : start + self.width] for start in indices])
        input_ids[:, 1:-1] = torch.from_numpy(rows.astype(np.int64))
        masked, labels = self.masking(input_ids, generator)
        return Batch(input_ids=masked, attention_mask=None, token_type_ids=None, labels=labels)


def log_frequencies(counts: Tensor) -> Tensor:
    """Computes the natural logarithm of each token's share of a text from its counts (V,), as float32 (V,).

    One is added to every count, so that a token the text lacks is unlikely, not impossible.
    """
    return ((counts + 1) / (counts + 1).sum()).log()
