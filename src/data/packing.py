"""Text as one long stream of token ids, kept on disk, and rows of fixed length cut from it: nothing is ever padded."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from src.data.batching import Batch
from src.data.documents import Documents
from src.data.masking import Masking
from src.data.tokenizer import SEP, build_tokenizer, token_id
from src.utils.config import VocabularyConfig
from src.utils.errors import DataError, notice
from src.utils.folder import new_folder, read_json, write_json

TOKENIZER, FACTS = "tokenizer.json", "corpus.json"
DOCUMENTS_AT_ONCE = 1000
# One document in so many is held out for evaluation.
HELD_OUT = 100
FORMAT = 1  # raised when the same text would give other files


@dataclass(frozen=True)
class TokenizedCorpus:
    """A corpus on disk: two streams of token ids, [SEP] after each document, and the tokenizer they were made with."""

    tokenizer: Tokenizer
    train: NDArray[np.integer]  # (tokens,), memory-mapped
    validation: NDArray[np.integer]
    documents: int
    sha256: str  # of the texts and of all that was done to them


def tokenized_corpus(documents: Documents, config: VocabularyConfig, vocab_size: int, cache: Path) -> TokenizedCorpus:
    """Builds a tokenizer on documents and tokenizes them, or finds the result in the cache.

    Args:
        documents: the text; one document in a hundred, at least one, is held out.
        config: kind of tokenizer and what is done to text.
        vocab_size: largest vocabulary.
        cache: folder of tokenized corpora; each has a name made of its content, so none is ever out of date.

    Returns:
        The corpus.

    Raises:
        DataError: there are fewer than two documents, or too few words.
    """
    sha256, count = _digest(documents, config, vocab_size)
    if count < 2:
        raise DataError(f"{documents.name} holds {count} documents; give two at least (blank lines divide a .txt file)")
    folder = cache / sha256[:16]
    if not (folder / FACTS).exists():
        notice(f"tokenizing  {count:,} documents of {documents.name} into {folder}")
        with new_folder(folder) as unfinished:
            _tokenize(unfinished, documents, config, vocab_size, held_out=min(HELD_OUT, count))
            write_json(unfinished / FACTS, {"name": documents.name, "documents": count, "sha256": sha256})
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    train, validation = (_stream(folder / f"{part}.bin", tokenizer) for part in ("train", "validation"))
    return TokenizedCorpus(tokenizer, train, validation, read_json(folder / FACTS)["documents"], sha256)


def _digest(documents: Documents, config: VocabularyConfig, vocab_size: int) -> tuple[str, int]:
    count, digest = 0, hashlib.sha256(json.dumps([FORMAT, asdict(config) | {"seq_len": 0}, vocab_size]).encode())
    for count, text in enumerate(documents.read(), start=1):  # noqa: B007  # the last number is their count
        digest.update(text.encode("utf-8", "replace") + b"\0")
    return digest.hexdigest(), count


def _tokenize(folder: Path, documents: Documents, config: VocabularyConfig, vocab_size: int, held_out: int) -> None:
    tokenizer = build_tokenizer((text for text, held in _parted(documents, held_out) if not held), config, vocab_size)
    tokenizer.no_truncation()
    tokenizer.save(str(folder / TOKENIZER))
    separator, kind = token_id(tokenizer, SEP), _kind(tokenizer)
    with (folder / "train.bin").open("wb") as train, (folder / "validation.bin").open("wb") as validation:
        parted = _parted(documents, held_out)
        while chunk := list(islice(parted, DOCUMENTS_AT_ONCE)):
            encodings = tokenizer.encode_batch_fast([text for text, _ in chunk], add_special_tokens=False)
            for encoding, (_, held) in zip(encodings, chunk, strict=True):
                (validation if held else train).write(np.array([*encoding.ids, separator], dtype=kind).tobytes())


def _parted(documents: Documents, held_out: int) -> Iterator[tuple[str, bool]]:
    for number, text in enumerate(documents.read(), start=1):
        yield text, number % held_out == 0


def _kind(tokenizer: Tokenizer) -> type[np.uint16] | type[np.uint32]:
    return np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.uint32


def _stream(path: Path, tokenizer: Tokenizer) -> NDArray[np.integer]:
    return np.memmap(path, dtype=_kind(tokenizer), mode="r")


class PackedRows:
    """Rows of fixed length out of a stream of tokens, each framed as [CLS] ... [SEP] and masked anew when read.

    A row begins where the one before ended, whatever document that is in (the "full sentences" of Liu et al. 2019,
    section 4.2); in every epoch the cuts fall elsewhere.

    Args:
        stream: token ids, shape (tokens,).
        seq_len: T, special tokens included.
        cls_token_id: begins every row.
        sep_token_id: ends every row.
        masking: chooses the tokens to predict.
    """

    def __init__(
        self, stream: NDArray[np.integer], seq_len: int, cls_token_id: int, sep_token_id: int, masking: Masking
    ):
        self.stream, self.seq_len, self.masking = stream, seq_len, masking
        self.cls_token_id, self.sep_token_id = cls_token_id, sep_token_id
        self.width = seq_len - 2
        self.rows = (len(stream) - (self.width - 1)) // self.width
        if self.rows < 1:
            raise DataError(
                f"{len(stream)} tokens do not fill a row of --seq-len {seq_len}; lower it or give more text (of which "
                f"one document in {HELD_OUT}, the last one at least, is held out)"
            )

    def __len__(self) -> int:
        """Returns the number of rows of an epoch."""
        return self.rows

    @cached_property
    def counts(self) -> Tensor:
        """How often each id occurs in the stream, int64, shape (V,)."""
        return torch.from_numpy(np.bincount(self.stream, minlength=self.masking.vocab_size))

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
        starts = int(random.integers(self.width)) + self.width * random.permutation(self.rows)
        return [starts[first : first + batch_size].tolist() for first in range(0, self.rows, batch_size)]

    def collate(self, indices: Sequence[int], generator: torch.Generator | None = None) -> Batch:
        """Makes one batch of rows, masked.

        Args:
            indices: where the rows begin in the stream.
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
