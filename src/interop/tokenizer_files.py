"""The tokenizer of a model folder: tokenizer.json, or an old vocab.txt, and tokenizer_config.json beside it."""

import sys
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordPiece

from src.data.tokenizer import SPELLINGS, frame_and_truncate, roles
from src.utils.errors import CheckpointError
from src.utils.folder import read_json, write_json

TOKENIZER, TOKENIZER_CONFIG, VOCABULARY = "tokenizer.json", "tokenizer_config.json", "vocab.txt"


def save_tokenizer(folder: Path, tokenizer: Tokenizer, seq_len: int, has_segments: bool) -> None:
    """Writes a tokenizer so that `transformers` reads it as it is.

    Args:
        folder: where to.
        tokenizer: what to write.
        seq_len: most tokens of a text.
        has_segments: whether the model takes token types; DistilBERT refuses them as an input.
    """
    tokenizer.save(str(folder / TOKENIZER))
    inputs = ["input_ids", *(["token_type_ids"] if has_segments else []), "attention_mask"]
    # Without this class `transformers` would replace a word-level tokenizer by WordPiece in a BERT folder, and without
    # the length its pipeline could not truncate.
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": seq_len,
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
        try:
            tokenizer: Tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"{path} cannot be read ({error}); restore it") from None
    elif (folder / VOCABULARY).exists():
        path = folder / VOCABULARY
        tokenizer = _from_vocabulary(path, _settings(folder).get("do_lower_case", True))
    else:
        raise CheckpointError(f"{path} is missing, and {VOCABULARY} too; restore it from where the model came")
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= vocab_size:
        raise CheckpointError(
            f"{path} does not fit the model: its largest id is {largest}, config.json says vocab_size = {vocab_size}; "
            "restore the pair that was saved together"
        )
    return tokenizer


def longest_text(folder: Path) -> int:
    """Returns the most tokens of a text that tokenizer_config.json allows.

    Raises:
        CheckpointError: the file is damaged.
    """
    declared = _settings(folder).get("model_max_length")
    if declared is None:
        return sys.maxsize
    if not isinstance(declared, int | float) or not declared >= 1:
        raise CheckpointError(
            f"{folder / TOKENIZER_CONFIG}: model_max_length {declared!r} is no number of tokens; restore the file"
        )
    return int(min(declared, sys.maxsize))  # transformers writes 1e30 where no length was set


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / TOKENIZER_CONFIG
    return read_json(path) if path.exists() else {}


def _from_vocabulary(path: Path, lowercase: bool) -> Tokenizer:
    try:
        tokens = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); restore it") from None
    if missing := [spellings[0] for spellings in SPELLINGS.values() if spellings[0] not in tokens]:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}; is it the vocabulary of a BERT?")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([spellings[0] for spellings in SPELLINGS.values()])
    frame_and_truncate(tokenizer, seq_len=len(tokens))
    return tokenizer
