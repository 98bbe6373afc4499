"""What a foreign tokenizer.json may ask for: the parts that tokenizers of the BERT family are made of, in sane sizes.

The library that runs it takes any file at its word: some parts end the whole program, others make a gigabyte of a line.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from src.utils.errors import CheckpointError
from src.utils.files import check_regular_file, without_duplicates

# Half a million tokens, the largest vocabulary of a BERT, are ten million bytes.
LARGEST_FILE, MOST_VALUES = 16_000_000, 600_000
MOST_GROWTH = 100  # times as long a text may become
MOST_SPECIAL_TOKENS = 8  # RoBERTa frames a pair with four

PARTS = {
    "model": {"WordPiece", "WordLevel", "BPE"},
    "normalizer": {
        *("Sequence", "BertNormalizer", "Replace", "Lowercase", "Strip", "StripAccents", "NFC", "NFD", "NFKC", "NFKD"),
    },
    "pre_tokenizer": {
        *("Sequence", "BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Split", "Punctuation", "Digits"),
        *("ByteLevel",),
    },
    "post_processor": {"Sequence", "TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel"},
}


def read_tokenizer_json(path: Path) -> Tokenizer:
    """Reads a tokenizer.json of unknown origin.

    Args:
        path: the file.

    Returns:
        The tokenizer.

    Raises:
        CheckpointError: it is damaged, too large, or made of parts that no BERT has.
    """
    check_regular_file(path, LARGEST_FILE)
    try:
        raw = path.read_bytes()
        if sum(raw.count(sign) for sign in (b"[", b"{", b",")) > MOST_VALUES:
            raise CheckpointError(
                f"{path} holds more than {MOST_VALUES:,} values; restore it from where the model came"
            )
        content = json.loads(raw, object_pairs_hook=without_duplicates)
        _refuse_strange_parts(content, path)
        return Tokenizer.from_str(raw.decode())
    except CheckpointError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"{path} cannot be read ({error}); restore it") from None


def refuse_what_breaks(tokenizer: Tokenizer, vocab_size: int, path: Path) -> None:
    """Tries a tokenizer on two texts, of which one holds a character that it hardly knows.

    Args:
        tokenizer: is left without padding.
        vocab_size: rows of the model's token embedding.
        path: the file, for messages.

    Raises:
        CheckpointError: it fails, or frames a text with tokens or segments that a model does not have.
    """
    truncation = tokenizer.truncation
    tokenizer.no_padding()
    tokenizer.no_truncation()
    try:
        encoding = tokenizer.encode("a \ue000", "a")
        if truncation is not None:
            tokenizer.enable_truncation(**truncation)
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"{path} cannot be used ({error}); restore it") from None
    largest = max([*tokenizer.get_vocab().values(), *encoding.ids], default=-1)
    if largest >= vocab_size:
        raise CheckpointError(
            f"{path} does not fit the model: its largest id is {largest}, config.json says vocab_size = {vocab_size}; "
            "restore the pair that was saved together"
        )
    if sum(encoding.special_tokens_mask) > MOST_SPECIAL_TOKENS or max(encoding.type_ids, default=0) > 1:
        raise CheckpointError(f"{path} frames texts as no model of the BERT family does; restore it")


def _refuse_strange_parts(content: Any, path: Path) -> None:
    growth = 1
    for place, known in PARTS.items():
        for part in _parts(content.get(place)):
            if part["type"] not in known:
                raise CheckpointError(
                    f"{path} cannot be read: {place} {part['type']!r} is none of {', '.join(sorted(known))}; restore it"
                )
            if part["type"] == "Replace":
                growth *= max(1, len(part["content"]))
    if growth > MOST_GROWTH:
        raise CheckpointError(f"{path} would make a text {growth:,} times as long; restore it")


def _parts(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yields a part of a tokenizer, or what a sequence of parts consists of."""
    if part is None:
        return
    yield part
    for list_of_parts in ("normalizers", "pretokenizers", "processors"):
        for each in part.get(list_of_parts, []):
            yield from _parts(each)
