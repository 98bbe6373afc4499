"""The tokenizer of a model folder: tokenizer.json, or an old vocab.txt, and tokenizer_config.json."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.implementations import BertWordPieceTokenizer
from tokenizers.models import WordPiece

from src.data.tokenizer import prepend_plain_text_normalizer, special_token_ids
from src.utils.config import BertConfig, LongText
from src.utils.errors import CheckpointError
from src.utils.files import check_regular_file, read_json, write_json

TOKENIZER, TOKENIZER_CONFIG, VOCABULARY = "tokenizer.json", "tokenizer_config.json", "vocab.txt"
LARGEST_FILE = 64_000_000  # bytes; those of multilingual models have 17 million
NO_LIMIT = 1e30  # as transformers writes it


def save_tokenizer(
    folder: Path, tokenizer: Tokenizer, config: BertConfig, seq_len: int, long_text: LongText = "truncate"
) -> None:
    """Writes the tokenizer of a model, and how long texts are read, so that `transformers` reads it as it is."""
    # Not its own `save`, whose errors are of no type that tells a full disk.
    (folder / TOKENIZER).write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    segments = ["token_type_ids"] if config.type_vocab_size > 1 else []  # DistilBERT refuses them as an input
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # else transformers makes WordPiece of words in a BERT folder
        "model_max_length": seq_len,  # else its pipeline cannot truncate
        "long_text": long_text,
        "model_input_names": ["input_ids", *segments, "attention_mask"],
    }
    # Only those it has: transformers would append any other one, with an id the model has no embedding for.
    special = {name: tokenizer.id_to_token(index) for name, index in special_token_ids(tokenizer).items()}
    write_json(folder / TOKENIZER_CONFIG, settings | special)


def load_tokenizer(folder: Path, vocab_size: int, plain_text: bool = False) -> Tokenizer:
    """Reads tokenizer.json, or vocab.txt; with `plain_text` the tokenizer also undoes what corpora do to text."""
    path = next((folder / name for name in (TOKENIZER, VOCABULARY) if (folder / name).exists()), None)
    if path is None:
        raise CheckpointError(f"{folder / TOKENIZER} is missing, and {VOCABULARY} too; restore it")
    check_regular_file(path, LARGEST_FILE)
    settings = _settings(folder)
    try:
        tokenizer = Tokenizer.from_file(str(path)) if path.name == TOKENIZER else _from_vocabulary(path, settings)
    except Exception as error:  # the library has no type of its own
        raise CheckpointError(f"{path} cannot be used ({error}); restore it") from None
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= vocab_size:
        what = f"{path} has ids up to {largest}, config.json says vocab_size = {vocab_size}"
        raise CheckpointError(f"{what}; restore both")
    tokenizer.no_padding()
    if plain_text:
        prepend_plain_text_normalizer(tokenizer)
    return tokenizer


def load_lengths(folder: Path) -> tuple[int, LongText]:
    """Reads from tokenizer_config.json how many tokens of a text are read, and what becomes of longer texts."""
    settings = _settings(folder)
    return int(settings.get("model_max_length") or NO_LIMIT), settings.get("long_text", "truncate")


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / TOKENIZER_CONFIG
    return read_json(path) if path.exists() else {}


def _from_vocabulary(path: Path, settings: dict[str, Any]) -> Tokenizer:
    """Builds the tokenizer of BERT; where tokenizer_config.json is silent, as `transformers` does."""
    tokenizer = BertWordPieceTokenizer(
        WordPiece.read_file(str(path)),
        lowercase=settings.get("do_lower_case", True),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    return Tokenizer.from_str(tokenizer.to_str())
