"""Text as one long stream of token ids, kept on disk, and rows of fixed length cut from it: nothing is ever padded."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from src.data.batching import Batch
from src.data.documents import Documents, pieces
from src.data.masking import Masking
from src.data.tokenizer import build_tokenizer, special_ids
from src.utils.config import VocabularyConfig
from src.utils.errors import DataError, notice
from src.utils.files import is_whole, new_folder

TOKENIZER = "tokenizer.json"
PIECES_AT_ONCE = 1000
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
    documents: Documents, config: VocabularyConfig, vocab_size: int, cache: Path, tokenizer: Tokenizer | None = None
) -> TokenizedCorpus:
    """Builds a tokenizer on documents, unless there is one, and tokenizes them, or finds the result in the cache.

    Args:
        documents: the text; one document in a hundred (in twenty of fewer than 1,000), at least one, is held out.
        config: kind of tokenizer and what is done to text.
        vocab_size: largest vocabulary.
        cache: folder of tokenized corpora; each has a name made of its content, so none is ever out of date.
        tokenizer: that of a checkpoint, in place of a new one as the two arguments above describe it.

    Returns:
        The corpus.

    Raises:
        DataError: there are fewer than two documents, or too few words.
    """
    notice(f"reading     {documents.name}")
    recipe = (
        [FORMAT, asdict(config) | {"seq_len": 0}, vocab_size] if tokenizer is None else [FORMAT, tokenizer.to_str()]
    )
    sha256, count = _digest(documents, recipe)
    if count < 2:
        raise DataError(f"{documents.name} holds {count} documents; give two at least (blank lines divide a .txt file)")
    folder = cache / sha256[:16]
    if not is_whole(folder):
        notice(f"tokenizing  {count:,} documents into {folder}")
        with new_folder(folder) as unfinished:
            held_out = HELD_OUT if count >= LARGE else min(HELD_OUT_OF_SMALL, count)
            if tokenizer is None:
                train_text = (piece.text for piece in _pieces(documents, held_out) if not piece.held_out)
                tokenizer = build_tokenizer(train_text, config, vocab_size)
            _tokenize(unfinished, documents, tokenizer, held_out)
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    train, validation = (_stream(folder / f"{part}.bin", tokenizer) for part in ("train", "validation"))
    return TokenizedCorpus(documents.name, tokenizer, train, validation, count, sha256)


def _digest(documents: Documents, recipe: list[Any]) -> tuple[str, int]:
    count, digest = 0, hashlib.sha256(json.dumps(recipe).encode())
    for count, text in enumerate(documents.read(), start=1):  # noqa: B007  # the last number is their count
        digest.update(text.encode("utf-8", "replace") + b"\0")
    return digest.hexdigest(), count


def _tokenize(folder: Path, documents: Documents, tokenizer: Tokenizer, held_out: int) -> None:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # Not its own `save`, whose errors are of no type that tells a full disk.
    (folder / TOKENIZER).write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    separator, kind = special_ids(tokenizer)["sep"], _kind(tokenizer)
    with (folder / "train.bin").open("wb") as train, (folder / "validation.bin").open("wb") as validation:
        every = _pieces(documents, held_out)
        while chunk := list(islice(every, PIECES_AT_ONCE)):
            encodings = tokenizer.encode_batch_fast([piece.text for piece in chunk], add_special_tokens=False)
            for encoding, piece in zip(encodings, chunk, strict=True):
                ids = [*encoding.ids, separator] if piece.ends_document else encoding.ids
                (validation if piece.held_out else train).write(np.array(ids, dtype=kind).tobytes())


@dataclass(frozen=True)
class _Piece:
    text: str
    held_out: bool
    ends_document: bool


def _pieces(documents: Documents, held_out: int) -> Iterator[_Piece]:
    for number, document in enumerate(documents.read(), start=1):
        parts = list(pieces(document))
        for part, text in enumerate(parts, start=1):
            yield _Piece(text, number % held_out == 0, part == len(parts))


def _kind(tokenizer: Tokenizer) -> type[np.uint16] | type[np.uint32]:
    return np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.uint32


def _stream(path: Path, tokenizer: Tokenizer) -> NDArray[np.integer]:
    return np.memmap(path, dtype=_kind(tokenizer), mode="r")


class PackedRows:
    """Rows of fixed length out of a stream of tokens, each framed as [CLS] ... [SEP] and masked anew when read.

    A row begins where the one before ended, in the middle of a document or a word; in every epoch the cuts fall
    elsewhere.

    Args:
        name: of the text, for messages.
        stream: token ids, shape (tokens,).
        seq_len: T, special tokens included.
        cls_token_id: begins every row.
        sep_token_id: ends every row.
        masking: chooses the tokens to predict.
    """

    def __init__(
        self,
        name: str,
        stream: NDArray[np.integer],
        seq_len: int,
        cls_token_id: int,
        sep_token_id: int,
        masking: Masking,
    ):
        self.stream, self.seq_len, self.masking = stream, seq_len, masking
        self.cls_token_id, self.sep_token_id = cls_token_id, sep_token_id
        self.width = seq_len - 2
        # The first row begins up to width - 1 tokens late, so that the number of rows is the same in every epoch.
        self.row_count = (len(stream) - (self.width - 1)) // self.width
        if self.row_count < 1:
            raise DataError(
                f"{name}: {len(stream)} tokens, but rows of --seq-len {seq_len} need {2 * self.width - 1}; lower it or "
                "give more text"
            )

    def __len__(self) -> int:
        """Returns the number of rows of an epoch."""
        return self.row_count

    @cached_property
    def counts(self) -> Tensor:
        """How often each id occurs in the stream, int64, shape (V,)."""
        counts = np.zeros(self.masking.vocab_size, dtype=np.int64)
        for start in range(0, len(self.stream), TOKENS_AT_ONCE):
            counts += np.bincount(self.stream[start : start + TOKENS_AT_ONCE], minlength=len(counts))
        return torch.from_numpy(counts)

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        """Divides the rows of an epoch into batches.

        Args:
            batch_size: rows of a batch.
            seed: of the order and of where the rows begin.
            epoch: with the seed, fixes both.

        Returns:
            Lists of positions in the stream where rows begin; their number does not depend on seed or epoch.
        """
        random = np.random.default_rng((seed, epoch))
        starts = int(random.integers(self.width)) + self.width * random.permutation(self.row_count)
        return [starts[first : first + batch_size].tolist() for first in range(0, self.row_count, batch_size)]

    def collate(self, indices: Sequence[int], generator: torch.Generator | None = None) -> Batch:
        """Makes one batch of rows, masked.

        Args:
            indices: positions in the stream where the rows begin.
            generator: of the masks; PyTorch's own if unset.

        Returns:
            The batch; labels are those of `Masking`.
        """
        input_ids = torch.full((len(indices), self.seq_len), self.sep_token_id)  # (B, T)
        input_ids[:, 0] = self.cls_token_id
        rows = np.stack([self.stream[start : start + self.width] for start in indices])
        input_ids[:, 1:-1] = torch.from_numpy(rows.astype(np.int64))
        masked, labels = self.masking(input_ids, generator)
        return Batch(input_ids=masked, attention_mask=None, token_type_ids=None, labels=labels)


def log_frequencies(counts: Tensor) -> Tensor:
    """Computes the natural logarithm of the share each token has of a text.

    One is added to every count, so that a token the text lacks is unlikely, not impossible.

    Args:
        counts: how often each id occurs, int64, shape (V,).

    Returns:
        float32, shape (V,).
    """
    return ((counts + 1) / (counts + 1).sum()).log()
