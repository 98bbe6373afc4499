"""The tokenizer of a model folder: tokenizer.json, or an old vocab.txt, and tokenizer_config.json beside it."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordPiece

from src.data.tokenizer import SPELLINGS, frame_and_truncate, roles
from src.interop.tokenizer_limits import LARGEST_FILE, read_tokenizer_json, refuse_what_breaks
from src.utils.config import LongText
from src.utils.errors import CheckpointError
from src.utils.files import check_regular_file, read_json, write_json

TOKENIZER, TOKENIZER_CONFIG, VOCABULARY = "tokenizer.json", "tokenizer_config.json", "vocab.txt"


@dataclass(frozen=True)
class ReadingSettings:
    """How a model's texts are read, beside the tokenizer itself."""

    seq_len: int  # most tokens of a text, special tokens included
    long_text: LongText


def save_tokenizer(folder: Path, tokenizer: Tokenizer, reading: ReadingSettings, has_segments: bool) -> None:
    """Writes a tokenizer so that `transformers` reads it as it is.

    Args:
        folder: where to.
        tokenizer: what to write.
        reading: length of texts, and what becomes of longer ones.
        has_segments: whether the model takes token types; DistilBERT refuses them as an input.
    """
    # Not its own `save`, whose errors are of no type that tells a full disk.
    (folder / TOKENIZER).write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    inputs = ["input_ids", *(["token_type_ids"] if has_segments else []), "attention_mask"]
    # Without this class `transformers` would replace a word-level tokenizer by WordPiece in a BERT folder, and without
    # the length its pipeline could not truncate.
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": reading.seq_len,
        "long_text": reading.long_text,
        "model_input_names": inputs,
    }
    # Only those it has: transformers would append any other one, with an id the model has no embedding for.
    special = {f"{role}_token": token for role, token in roles(tokenizer).items()}
    write_json(folder / TOKENIZER_CONFIG, settings | special)


def read_tokenizer(folder: Path, vocab_size: int) -> Tokenizer:
    """Reads tokenizer.json, or builds the same WordPiece from vocab.txt.

    Args:
        folder: the model folder.
        vocab_size: rows of the model's token embedding.

    Returns:
        The tokenizer.

    Raises:
        CheckpointError: both are missing, or one is damaged or has ids the model has no embedding for.
    """
    path = folder / TOKENIZER
    if path.exists():
        tokenizer = read_tokenizer_json(path)
    elif (folder / VOCABULARY).exists():
        path = folder / VOCABULARY
        tokenizer = _from_vocabulary(path, _normalizer(folder))
    else:
        raise CheckpointError(f"{path} is missing, and {VOCABULARY} too; restore it from where the model came")
    refuse_what_breaks(tokenizer, vocab_size, path)
    return tokenizer


def read_settings(folder: Path) -> ReadingSettings:
    """Reads from tokenizer_config.json how texts are to be read.

    Raises:
        CheckpointError: the file is damaged.
    """
    settings, path = _settings(folder), folder / TOKENIZER_CONFIG
    longest, long_text = settings.get("model_max_length"), settings.get("long_text", "truncate")
    longest = sys.maxsize if longest is None else longest
    if not isinstance(longest, int | float) or not longest >= 1:
        raise CheckpointError(f"{path}: model_max_length {longest!r} is no number of tokens; restore the file")
    if long_text not in get_args(LongText):
        raise CheckpointError(f"{path}: long_text {long_text!r} is none of {', '.join(get_args(LongText))}; restore it")
    return ReadingSettings(int(min(longest, sys.maxsize)), long_text)  # transformers writes 1e30 for no limit


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / TOKENIZER_CONFIG
    return read_json(path) if path.exists() else {}


def _normalizer(folder: Path) -> normalizers.Normalizer:
    settings = _settings(folder)
    # Their defaults are those of transformers' BertTokenizer.
    lowercase, accents = settings.get("do_lower_case", True), settings.get("strip_accents")
    chinese = settings.get("tokenize_chinese_chars", True)
    try:
        return normalizers.BertNormalizer(lowercase=lowercase, strip_accents=accents, handle_chinese_chars=chinese)
    except TypeError as error:
        raise CheckpointError(f"{folder / TOKENIZER_CONFIG}: {error}; restore the file") from None


def _from_vocabulary(path: Path, normalizer: normalizers.Normalizer) -> Tokenizer:
    check_regular_file(path, LARGEST_FILE)
    try:
        tokens = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); restore it") from None
    if missing := [spellings[0] for spellings in SPELLINGS.values() if spellings[0] not in tokens]:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}; is it the vocabulary of a BERT?")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([spellings[0] for spellings in SPELLINGS.values()])
    frame_and_truncate(tokenizer, seq_len=len(tokens))
    return tokenizer
