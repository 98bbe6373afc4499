"""The tokenizer of a model folder: tokenizer.json, or an old vocab.txt, and tokenizer_config.json."""

from pathlib import Path
from typing import Any, get_args

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel
from tokenizers.processors import BertProcessing

from src.data.tokenizer import SPELLINGS, prepend_plain_text_normalizer, special_token_ids
from src.utils.config import BertConfig, LongText
from src.utils.errors import CheckpointError, checkpoint_errors
from src.utils.files import check_regular_file, read_json, write_json

TOKENIZER, TOKENIZER_CONFIG, VOCABULARY = "tokenizer.json", "tokenizer_config.json", "vocab.txt"
SPECIAL_TOKENS, ADDED_TOKENS = "special_tokens_map.json", "added_tokens.json"  # of older versions of transformers
TOKENIZER_FILES = [TOKENIZER, VOCABULARY, TOKENIZER_CONFIG, SPECIAL_TOKENS, ADDED_TOKENS]
LARGEST_FILE = 64_000_000  # bytes; those of multilingual models have 17 million
NO_LIMIT = 1e30  # as transformers writes it

# Classes of transformers that follow tokenizer.json, and the model of each class that has its own rules.
AS_IT_IS = ("PreTrainedTokenizer", "TokenizersBackend")
MODELS = {"BertTokenizer": "WordPiece", "DistilBertTokenizer": "WordPiece", "RobertaTokenizer": "BPE"}
MODELS |= {"XLMRobertaTokenizer": "Unigram", "CamembertTokenizer": "Unigram"}


def save_tokenizer(
    folder: Path, tokenizer: Tokenizer, config: BertConfig, seq_len: int, long_text: LongText = "truncate"
) -> None:
    """Writes a model's tokenizer, and what becomes of long texts, so that `transformers` reads the same tokenizer."""
    # Not `Tokenizer.save`: the type of its errors does not show a full disk.
    (folder / TOKENIZER).write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    segments = ["token_type_ids"] if config.type_vocab_size > 1 else []  # DistilBERT refuses them as an input
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # else transformers builds WordPiece for a BERT model
        "model_max_length": seq_len,  # else its pipeline cannot truncate
        "long_text": long_text,
        "model_input_names": ["input_ids", *segments, "attention_mask"],
    }
    # Only tokens that it has: transformers would append any other, with an id that the model has no embedding for.
    special = {name: tokenizer.id_to_token(index) for name, index in special_token_ids(tokenizer).items()}
    write_json(folder / TOKENIZER_CONFIG, settings | special)


def load_tokenizer(folder: Path, vocab_size: int, plain_text: bool = False) -> Tokenizer:
    """Reads tokenizer.json, or vocab.txt; with `plain_text` the tokenizer also undoes what corpora do to text."""
    path = next((folder / name for name in (TOKENIZER, VOCABULARY) if (folder / name).exists()), None)
    if path is None:
        raise CheckpointError(f"{folder / TOKENIZER} is missing, and {VOCABULARY} too; restore it")
    check_regular_file(path, LARGEST_FILE)
    settings, is_json = _settings(folder), path.name == TOKENIZER
    with checkpoint_errors(path):
        tokenizer = (
            Tokenizer.from_str(path.read_text("utf-8")) if is_json else Tokenizer(WordPiece.from_file(str(path)))
        )
        tokenizer.no_padding()
        _follow_class(tokenizer, settings, path)
        _add_tokens(tokenizer, settings)
        tokenizer.encode("A text.", "Another.")  # some patterns only fail here
        if getattr(tokenizer.model, "max_input_chars_per_word", 0) > 1000:
            raise ValueError("max_input_chars_per_word is above 1000, and time grows with its square")
        if (largest := max(tokenizer.get_vocab().values(), default=0)) >= vocab_size:
            raise ValueError(f"it has ids up to {largest}, config.json says vocab_size = {vocab_size}")
    if plain_text:
        prepend_plain_text_normalizer(tokenizer)
    return tokenizer


def load_lengths(folder: Path) -> tuple[int, LongText]:
    """Reads from tokenizer_config.json the most tokens of a text, and what becomes of longer texts."""
    settings = _settings(folder)
    with checkpoint_errors(folder / TOKENIZER_CONFIG):
        seq_len, long_text = int(settings.get("model_max_length") or NO_LIMIT), settings.get("long_text", "truncate")
        if seq_len < 3 or long_text not in get_args(LongText):
            raise ValueError(f"model_max_length {seq_len}, long_text {long_text!r}")
    return seq_len, long_text


def _settings(folder: Path) -> dict[str, Any]:
    """Reads tokenizer_config.json, and the settings that may be in other files instead."""
    names = ("config.json", TOKENIZER_CONFIG, SPECIAL_TOKENS, ADDED_TOKENS)
    config, settings, special, added = (read_json(folder / n) if (folder / n).exists() else {} for n in names)
    older = {} if "added_tokens_decoder" in settings else special | {"added_tokens": added}
    return {"tokenizer_class": config.get("tokenizer_class")} | settings | older


def _follow_class(tokenizer: Tokenizer, settings: dict[str, Any], path: Path) -> None:
    """Makes a tokenizer work as its class in `transformers`, which takes little but the vocabulary from the file."""
    name, model = (settings["tokenizer_class"] or "").removesuffix("Fast"), type(tokenizer.model).__name__
    side = settings.get("truncation_side") or (tokenizer.truncation or {}).get("direction", "right")
    if side.lower() != "right" or settings.get("split_special_tokens"):
        raise CheckpointError(f"{path}: cutting texts on the left, or reading special tokens as text, is not supported")
    if name in AS_IT_IS and path.name == TOKENIZER:
        return
    if name and MODELS.get(name) != model:
        what = f"{path} holds {model}, from which no tokenizer_class {name} can be built"
        raise CheckpointError(f"{what}; save it in transformers as a PreTrainedTokenizerFast, if it can be one")
    if name == "RobertaTokenizer":
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=settings.get("add_prefix_space", False))
    if model != "WordPiece":
        return
    ids = tokenizer.get_vocab()
    settings |= {key: settings.get(key) or token for key, (token, _) in SPELLINGS.items() if token in ids}
    unk, cls, sep = (_content(settings[f"{role}_token"]) for role in ("unk", "cls", "sep"))
    tokenizer.model = WordPiece(tokenizer.get_vocab(with_added_tokens=False), unk_token=unk)
    tokenizer.normalizer = BertNormalizer(
        lowercase=settings.get("do_lower_case", True),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    tokenizer.pre_tokenizer, tokenizer.decoder = BertPreTokenizer(), WordPieceDecoder()
    tokenizer.post_processor = BertProcessing((sep, ids[sep]), (cls, ids[cls]))


def _add_tokens(tokenizer: Tokenizer, settings: dict[str, Any]) -> None:
    """Adds the tokens outside the vocabulary as `transformers` does, with the ids that follow the vocabulary's."""
    extra = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    named = [value for key, value in settings.items() if key.endswith("_token") and value is not None]
    special = [_content(token) for token in (*named, *(extra.values() if isinstance(extra, dict) else extra))]
    numbered = {int(index): AddedToken(**token) for index, token in settings.get("added_tokens_decoder", {}).items()}
    for token, index in settings.get("added_tokens", {}).items():
        numbered[index] = AddedToken(token, normalized=token not in special, special=token in special)
    for index, added in sorted(numbered.items()):
        tokenizer.add_tokens([added])
        if tokenizer.token_to_id(added.content) != index:
            raise ValueError(f"the added token {added.content!r} cannot have the id {index}")
    present = {token.content for token in tokenizer.get_added_tokens_decoder().values()}  # these keep their flags
    tokenizer.add_special_tokens([token for token in dict.fromkeys(special) if token not in present])


def _content(token: Any) -> str:
    """Returns the text of a token, which tokenizer_config.json gives as a string or as an object."""
    return token["content"] if isinstance(token, dict) else token
