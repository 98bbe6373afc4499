"""The tokenizer of a model folder: tokenizer.json, or an old vocab.txt, and tokenizer_config.json."""

import sys
from pathlib import Path
from typing import Any, get_args

from tokenizers import Tokenizer
from tokenizers.implementations import BertWordPieceTokenizer

from src.data.tokenizer import prepend_plain_text_normalizer, special_token_ids
from src.utils.config import BertConfig, LongText
from src.utils.errors import CheckpointError
from src.utils.files import check_regular_file, read_json, write_json

TOKENIZER, TOKENIZER_CONFIG, VOCABULARY = "tokenizer.json", "tokenizer_config.json", "vocab.txt"
LARGEST_FILE = 64_000_000  # bytes; those of multilingual models have 17 million


def save_tokenizer(
    folder: Path, tokenizer: Tokenizer, config: BertConfig, seq_len: int, long_text: LongText = "truncate"
) -> None:
    """Writes the tokenizer of a model, and how long texts are read, so that `transformers` reads it as it is."""
    # Not its own `save`, whose errors are of no type that tells a full disk.
    (folder / TOKENIZER).write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    segments = ["token_type_ids"] if config.type_vocab_size > 1 else []  # DistilBERT refuses them as an input
    # Without this class `transformers` would replace a word-level tokenizer by WordPiece in a BERT folder, and without
    # the length its pipeline could not truncate.
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": seq_len,
        "long_text": long_text,
        "model_input_names": ["input_ids", *segments, "attention_mask"],
    }
    # Only those it has: transformers would append any other one, with an id the model has no embedding for.
    special = {name: tokenizer.id_to_token(index) for name, index in special_token_ids(tokenizer).items()}
    write_json(folder / TOKENIZER_CONFIG, settings | special)


def load_tokenizer(folder: Path, vocab_size: int, plain_text: bool = False) -> Tokenizer:
    """Reads tokenizer.json, or vocab.txt; with `plain_text` the tokenizer also undoes what corpora do to text.

    Raises:
        CheckpointError: both are missing, or one is damaged or has ids the model has no embedding for.
    """
    path = next((folder / name for name in (TOKENIZER, VOCABULARY) if (folder / name).exists()), None)
    if path is None:
        raise CheckpointError(f"{folder / TOKENIZER} is missing, and {VOCABULARY} too; restore it")
    check_regular_file(path, LARGEST_FILE)
    settings = _settings(folder)
    try:
        tokenizer = Tokenizer.from_file(str(path)) if path.name == TOKENIZER else _from_vocabulary(path, settings)
        tokenizer.no_padding()
        encoding = tokenizer.encode("a \ue000", "a")  # a character that it hardly knows
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises bare Exception, and panics of Rust that are not even that
        raise CheckpointError(f"{path} cannot be used ({error}); restore it") from None
    largest, segment = max([*tokenizer.get_vocab().values(), *encoding.ids]), max(encoding.type_ids, default=0)
    if largest >= vocab_size or segment > 1:
        raise CheckpointError(
            f"{path} does not fit the model: it has ids up to {largest} and segments up to {segment}, config.json says "
            f"vocab_size = {vocab_size}; restore both files"
        )
    if plain_text:
        prepend_plain_text_normalizer(tokenizer)
    return tokenizer


def load_lengths(folder: Path) -> tuple[int, LongText]:
    """Reads from tokenizer_config.json how many tokens of a text are read, and what becomes of longer texts.

    Raises:
        CheckpointError: the file is damaged.
    """
    settings = _settings(folder)
    longest, long_text = settings.get("model_max_length"), settings.get("long_text", "truncate")
    if longest is None:
        longest = sys.maxsize
    if not isinstance(longest, int | float) or not longest >= 1 or long_text not in get_args(LongText):
        values = f"model_max_length {longest!r} or long_text {long_text!r}"
        raise CheckpointError(f"{folder / TOKENIZER_CONFIG}: {values} means nothing; restore the file")
    return int(min(longest, sys.maxsize)), long_text  # transformers writes 1e30 for no limit


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / TOKENIZER_CONFIG
    return read_json(path) if path.exists() else {}


def _from_vocabulary(path: Path, settings: dict[str, Any]) -> Tokenizer:
    """Builds the tokenizer of BERT; where tokenizer_config.json is silent, as `transformers` does."""
    tokens = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    tokenizer = BertWordPieceTokenizer(
        {token: index for index, token in enumerate(tokens)},
        lowercase=settings.get("do_lower_case", True),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    return Tokenizer.from_str(tokenizer.to_str())
