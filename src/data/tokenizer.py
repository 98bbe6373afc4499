"""Text to token ids: a word-level and a WordPiece tokenizer, both built with `tokenizers` on the training text.

Everything done to text lives in `tokenizer.json` as normalizers and a pre-tokenizer, so any program that reads the file
reads text as the model was trained to.
"""

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel, WordPiece
from tokenizers.normalizers import NFD, Lowercase, Normalizer, Replace, StripAccents
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordLevelTrainer, WordPieceTrainer

from src.utils.config import VocabularyConfig
from src.utils.errors import DataError

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

# As BERT and as RoBERTa spell them.
SPELLINGS = {
    "pad": (PAD, "<pad>"),
    "unk": (UNK, "<unk>"),
    "cls": (CLS, "<s>"),
    "sep": (SEP, "</s>"),
    "mask": (MASK, "<mask>"),
}

# Penn Treebank tokenization splits clitics and punctuation off and spells brackets and quotes out. Joining them again
# makes SST-2 look like ordinary text. The patterns only ever delete a blank or replace a spelled-out sign.
TREEBANK_SPELLINGS = {"-lrb-": "(", "-rrb-": ")", "-lsb-": "[", "-rsb-": "]", "``": '"', "''": '"'}
TREEBANK_BLANKS = (
    r"(?i) (?=n't\b)",  # ca n't
    r"(?i) (?='(s|m|d|re|ve|ll)\b)",  # it 's
    r"(?i)(?<=\bcan) (?=not\b)|(?<=\b(gon|wan)) (?=na\b)|(?<=\bgot) (?=ta\b)",  # can not, gon na
    r" (?=[.,;:!?%)\]])",  # good .
    r"(?<=[(\[$]) ",  # ( good
)

# The hub's copy of IMDB holds HTML line breaks.
LINE_BREAKS = r"(<br\s*/?>\s*)+"

# A word, a clitic or one sign. "can't" gives "ca" + "n't" whether the text came joined or split, and hyphens separate,
# so fewer words are unknown.
WORD_PATTERN = r"(?i)\w+?(?=n't\b)|n't\b|'(?:s|m|d|re|ve|ll)\b|\w+|[^\w\s]"


def build_tokenizer(texts: Iterable[str], config: VocabularyConfig, vocab_size: int) -> Tokenizer:
    """Builds a tokenizer whose vocabulary is learned from `texts`.

    Args:
        texts: the training texts, and nothing else.
        config: kind of tokenizer, normalization, minimum frequency, maximum length.
        vocab_size: largest number of tokens, special tokens included.

    Returns:
        A tokenizer that frames each text as [CLS] ... [SEP] and truncates it to `config.seq_len`.

    Raises:
        DataError: the texts hold no word that is frequent enough, or more letters than `vocab_size`.
    """
    train = _train_wordlevel if config.tokenizer == "wordlevel" else _train_wordpiece
    tokenizer = train(list(texts), config, vocab_size)
    if tokenizer.get_vocab_size() == len(SPECIAL_TOKENS):
        raise DataError(f"no word occurs {config.min_frequency} times in the training text; lower --min-frequency")
    frame_and_truncate(tokenizer, config.seq_len)
    return tokenizer


def frame_and_truncate(tokenizer: Tokenizer, seq_len: int) -> None:
    """Makes a tokenizer write [CLS] text [SEP], or [CLS] text [SEP] pair [SEP], in at most `seq_len` tokens.

    Args:
        tokenizer: changed in place.
        seq_len: most tokens, special ones included, which truncation keeps.
    """
    ids = [(token, token_id(tokenizer, token)) for token in (CLS, SEP)]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{CLS} $A {SEP}", pair=f"{CLS} $A {SEP} $B:1 {SEP}:1", special_tokens=ids
    )
    tokenizer.enable_truncation(seq_len)


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Looks up the id of a token that must be in the vocabulary.

    Raises:
        DataError: it is not.
    """
    found: int | None = tokenizer.token_to_id(token)
    if found is None:
        raise DataError(f"the tokenizer has no {token}; build or load one that has {', '.join(SPECIAL_TOKENS)}")
    return found


def roles(tokenizer: Tokenizer) -> dict[str, str]:
    """Finds how a tokenizer spells its special tokens.

    Args:
        tokenizer: one of this project or of a Hugging Face checkpoint.

    Returns:
        Role ("pad", "unk", "cls", "sep", "mask") to token, for the roles it has.
    """
    found = {
        role: [t for t in spellings if tokenizer.token_to_id(t) is not None] for role, spellings in SPELLINGS.items()
    }
    return {role: tokens[0] for role, tokens in found.items() if tokens}


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Looks up the ids of all special tokens, as masked language modelling needs them.

    Args:
        tokenizer: one of this project or of a Hugging Face checkpoint.

    Returns:
        Role ("pad", "unk", "cls", "sep", "mask") to id.

    Raises:
        DataError: it lacks one.
    """
    found = roles(tokenizer)
    if missing := [spellings[0] for role, spellings in SPELLINGS.items() if role not in found]:
        raise DataError(f"the tokenizer has no {missing[0]}; name a checkpoint that was pre-trained by masking")
    return {role: token_id(tokenizer, token) for role, token in found.items()}


def _train_wordlevel(texts: list[str], config: VocabularyConfig, vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(WordLevel(unk_token=UNK))
    tokenizer.normalizer = _normalizer(config)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="removed", invert=True)
    trainer = WordLevelTrainer(
        vocab_size=vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _train_wordpiece(texts: list[str], config: VocabularyConfig, vocab_size: int) -> Tokenizer:
    # The trainer numbers the letters inside words ("##a") in the order of a randomly seeded hash table and breaks ties
    # by number. It numbers special tokens as given: so a first round only finds the letters, which a second one is
    # given in order, and the same text gives the same vocabulary.
    letters = sorted(token for token in _wordpieces(texts, config, [], 0) if token.startswith("##"))
    vocabulary = _wordpieces(texts, config, letters, vocab_size)
    if len(vocabulary) > vocab_size:
        raise DataError(
            f"the letters of the training text alone make {len(vocabulary)} WordPieces; raise --vocab-size {vocab_size}"
        )
    tokenizer = _wordpiece_tokenizer(config, vocabulary)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def _wordpieces(texts: list[str], config: VocabularyConfig, letters: list[str], vocab_size: int) -> dict[str, int]:
    tokenizer = _wordpiece_tokenizer(config, {})
    trainer = WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=[*SPECIAL_TOKENS, *letters],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return vocabulary


def _wordpiece_tokenizer(config: VocabularyConfig, vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token=UNK, max_input_chars_per_word=100))
    tokenizer.normalizer = _normalizer(config)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def prepend_plain_text_normalizer(tokenizer: Tokenizer) -> None:
    """Makes the tokenizer of a checkpoint undo a corpus's markup before all else it does to text, unless it does so."""
    own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
    found = [step for each in own for step in _content(each).get("normalizers", [])]
    if all(_content(step) in found for step in _plain_text()):
        return
    tokenizer.normalizer = normalizers.Sequence([*_plain_text(), *own])


def _content(normalizer: Normalizer) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(normalizer.__getstate__())
    return content


def _straight_quotes() -> list[Normalizer]:
    return [Replace(Regex("[\u2018\u2019]"), "'"), Replace(Regex("[\u201c\u201d]"), '"')]


def _plain_text() -> list[Normalizer]:
    spellings = [Replace(spelled, sign) for spelled, sign in TREEBANK_SPELLINGS.items()]
    blanks = [Replace(Regex(pattern), "") for pattern in TREEBANK_BLANKS]
    return [Replace(Regex(LINE_BREAKS), " "), *spellings, *blanks]


def _normalizer(config: VocabularyConfig) -> Normalizer:
    steps = _straight_quotes()
    if config.plain_text:
        steps += _plain_text()
    if config.lowercase:
        steps += [NFD(), StripAccents(), Lowercase()]
    return normalizers.Sequence(steps)
