"""Text to token ids: word-level and WordPiece tokenizers learned from the training text, and how long texts are read.

Everything done to text lives in `tokenizer.json` as normalizers and a pre-tokenizer, so any program that reads the file
reads text as the model was trained to.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tokenizers import Encoding, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel, WordPiece
from tokenizers.normalizers import NFC, NFD, Lowercase, Replace
from tokenizers.processors import BertProcessing
from tokenizers.trainers import WordLevelTrainer, WordPieceTrainer

from src.utils.config import LongText, TokenizerConfig
from src.utils.errors import DataError

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

# As BERT and as RoBERTa spell them.
SPELLINGS = {
    "pad_token": (PAD, "<pad>"),
    "unk_token": (UNK, "<unk>"),
    "cls_token": (CLS, "<s>"),
    "sep_token": (SEP, "</s>"),
    "mask_token": (MASK, "<mask>"),
}

STRAIGHT_QUOTES = [Replace(Regex("[\u2018\u2019]"), "'"), Replace(Regex("[\u201c\u201d]"), '"')]

# Penn Treebank tokenization splits clitics and punctuation off and spells brackets and quotes out. Joining them again
# makes SST-2 look like ordinary text. The hub's copy of IMDB holds HTML line breaks.
PLAIN_TEXT = [
    Replace(Regex(r"(<br\s*/?>\s*)+"), " "),
    *(Replace(f"-{name}-", sign) for name, sign in {"lrb": "(", "rrb": ")", "lsb": "[", "rsb": "]"}.items()),
    *(Replace(quote, '"') for quote in ("``", "''")),
    Replace(Regex(r"(?i) (?=n't\b)"), ""),  # ca n't
    Replace(Regex(r"(?i) (?='(s|m|d|re|ve|ll)\b)"), ""),  # it 's
    Replace(Regex(r"(?i)(?<=\bcan) (?=not\b)|(?<=\b(gon|wan)) (?=na\b)|(?<=\bgot) (?=ta\b)"), ""),  # can not, gon na
    Replace(Regex(r" (?=[.,;:!?%)\]])"), ""),  # good .
    Replace(Regex(r"(?<=[(\[$]) "), ""),  # ( good
]

# Marks on letters of other scripts are vowels, or make another letter: "\u304c" without its mark is "\u304b".
STRIP_ACCENTS = [NFD(), Replace(Regex(r"(?<=[\p{Latin}\p{Greek}\p{Cyrillic}])\p{Mn}+"), ""), NFC()]

# A word, a clitic or one sign. "can't" gives "ca" + "n't" whether the text came joined or split, and hyphens separate,
# so fewer words are unknown.
WORD_PATTERN = r"(?i)\w+?(?=n't\b)|n't\b|'(?:s|m|d|re|ve|ll)\b|\w+|[^\w\s]"

# Tokenizing takes time for every character, also for those that are cut off afterwards, so texts are cut first: 100
# characters a token are more than any language needs; texts read in windows have room for about 15,000 words.
CHARACTERS_PER_TOKEN = 100
CHARACTERS_IN_WINDOWS = 100_000


def build_tokenizer(texts: Iterable[str], config: TokenizerConfig, vocab_size: int) -> Tokenizer:
    """Builds a tokenizer that frames a text as [CLS] ... [SEP]; its vocabulary is learned from the training texts.

    Raises:
        DataError: the texts hold no word that is frequent enough, or more letters than `vocab_size`.
    """
    texts = list(texts)
    if config.tokenizer == "wordlevel":
        tokenizer = _train(texts, config, [], vocab_size)
    else:
        # The trainer numbers the letters inside words ("##a") in the order of a randomly seeded hash table and breaks
        # ties by number. It numbers special tokens as given: so a first round only finds the letters, which a second
        # one is given in order, and the same text gives the same vocabulary.
        letters = sorted(token for token in _train(texts, config, [], 0).get_vocab() if token.startswith("##"))
        trained = _train(texts, config, letters, vocab_size)
        if (needed := trained.get_vocab_size()) > vocab_size:
            raise DataError(f"the letters of the training text alone make {needed} WordPieces; raise --vocab-size")
        tokenizer = Tokenizer(WordPiece(trained.get_vocab(), unk_token=UNK, max_input_chars_per_word=100))
        tokenizer.normalizer, tokenizer.pre_tokenizer = trained.normalizer, trained.pre_tokenizer
        tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    if tokenizer.get_vocab_size() == len(SPECIAL_TOKENS):
        raise DataError(f"no word occurs {config.min_frequency} times in the training text; lower --min-frequency")
    ids = tokenizer.get_vocab()
    tokenizer.post_processor = BertProcessing((SEP, ids[SEP]), (CLS, ids[CLS]))
    tokenizer.enable_truncation(config.seq_len)
    return tokenizer


def _train(texts: list[str], config: TokenizerConfig, alphabet: list[str], vocab_size: int) -> Tokenizer:
    if config.tokenizer == "wordlevel":
        tokenizer = Tokenizer(WordLevel(unk_token=UNK))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="removed", invert=True)
        trainer_class: type[WordLevelTrainer] | type[WordPieceTrainer] = WordLevelTrainer
    else:
        tokenizer = Tokenizer(WordPiece(unk_token=UNK, max_input_chars_per_word=100))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer_class = WordPieceTrainer
    plain_text = PLAIN_TEXT if config.plain_text else []
    lowercase = [*STRIP_ACCENTS, Lowercase()] if config.lowercase else []
    tokenizer.normalizer = normalizers.Sequence([*STRAIGHT_QUOTES, *plain_text, *lowercase])
    trainer = trainer_class(
        vocab_size=vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=[*SPECIAL_TOKENS, *alphabet],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def prepend_plain_text_normalizer(tokenizer: Tokenizer) -> None:
    """Makes the tokenizer of a checkpoint undo a corpus's markup before all else it does to text, unless it does so."""
    own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
    present = b"".join(normalizer.__getstate__() for normalizer in own)  # as JSON
    if not all(step.__getstate__() in present for step in PLAIN_TEXT):
        tokenizer.normalizer = normalizers.Sequence([*PLAIN_TEXT, *own])


def special_token_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Finds the special tokens that a tokenizer of this project or of a checkpoint has, as {"pad_token": 0, ...}."""
    ids = {name: [tokenizer.token_to_id(token) for token in spellings] for name, spellings in SPELLINGS.items()}
    # Where both are there, BERT's spelling counts.
    return {name: index for name, both in ids.items() for index in reversed(both) if index is not None}


@dataclass
class EncodedTexts:
    """Texts as the model reads them, each in one window of framed token ids, or a long text in several.

    `offset_mapping` has (number of the text in its pair, start, end) for every token, in characters of `tokenized_part`
    of the text, and None for the special tokens of the frame.
    """

    input_ids: list[list[int]] = field(default_factory=list)  # of each window
    token_type_ids: list[list[int]] = field(default_factory=list)  # of each window
    offset_mapping: list[list[tuple[int, int, int] | None]] = field(default_factory=list)  # of each window
    overflow_to_sample_mapping: list[int] = field(default_factory=list)  # of each window, the index of its text
    truncated: list[bool] = field(default_factory=list)  # of each text: some of it is not read
    unknown: list[bool] = field(default_factory=list)  # of each text: the tokenizer knows no word that is read


def encode(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    seq_len: int,
    pairs: Sequence[str] | None = None,
    long_text: LongText = "truncate",
    return_offsets: bool = False,
) -> EncodedTexts:
    """Tokenizes texts, or pairs of texts, framed by the tokenizer's special tokens, into at most `seq_len` tokens.

    Of a longer text, the beginning is read, the beginning and the end, or all of it in windows. Of a pair, the shorter
    text is kept whole if it takes no more than half of the room. The tokenizer truncates to `seq_len` afterwards.
    """
    tokenizer.no_padding()
    tokenizer.no_truncation()  # of two long texts `tokenizers` would build every combination of their windows
    columns = [texts] if pairs is None else [texts, pairs]
    parts = [[tokenized_part(text, seq_len, long_text) for text in column] for column in columns]
    encodings = tokenizer.encode_batch(parts[0] if pairs is None else list(zip(*parts, strict=True)))
    tokenizer.enable_truncation(seq_len)
    unk_id = special_token_ids(tokenizer).get("unk_token")
    encoded = EncodedTexts()
    for number, encoding in enumerate(encodings):
        ids, type_ids, sequence_ids = encoding.ids, encoding.type_ids, encoding.sequence_ids
        windows = _windows(encoding, seq_len, long_text)
        encoded.input_ids += [[ids[row] for row in rows] for rows in windows]
        encoded.token_type_ids += [[type_ids[row] for row in rows] for rows in windows]
        encoded.overflow_to_sample_mapping += [number] * len(windows)
        if return_offsets:
            places = zip(sequence_ids, encoding.offsets, strict=True)
            offsets = [None if sequence is None else (sequence, *characters) for sequence, characters in places]
            encoded.offset_mapping += [[offsets[row] for row in rows] for rows in windows]
        words = [ids[row] for rows in windows for row in rows if sequence_ids[row] is not None]
        encoded.unknown.append(bool(words) and set(words) == {unk_id})
        cut = any(len(part[number]) < len(column[number]) for part, column in zip(parts, columns, strict=True))
        encoded.truncated.append(cut or (long_text != "windows" and len(ids) > seq_len))
    return encoded


def tokenized_part(text: str, seq_len: int, long_text: LongText) -> str:
    """Returns what of a text is tokenized: all of it, unless it is far longer than what is read."""
    limit = seq_len * CHARACTERS_PER_TOKEN
    if long_text == "windows":
        limit = max(limit, CHARACTERS_IN_WINDOWS)
    if len(text) > limit:
        text = text[: limit // 2] + text[-(limit // 2) :] if long_text == "head-tail" else text[:limit]
    # Half a surrogate pair, which bytes that are not UTF-8 become in sys.argv, would stop `tokenizers`.
    return text.encode("utf-8", "replace").decode()


def _windows(encoding: Encoding, seq_len: int, long_text: LongText) -> list[list[int]]:
    """Chooses, for every window, which of a text's tokens it holds."""
    if len(encoding) <= seq_len:
        return [list(range(len(encoding)))]
    # The special tokens, which every window has, and the tokens of one or two texts.
    frame, *texts = (
        [row for row, sequence in enumerate(encoding.sequence_ids) if sequence == number] for number in (None, 0, 1)
    )
    room = max(seq_len - len(frame), 0)
    # Two texts get half of the room each, and what the shorter one leaves.
    shorter = min(*map(len, texts), room // 2)
    rooms = [room - shorter, shorter] if len(texts[0]) > len(texts[1]) else [shorter, room - shorter]
    parts = []
    for rows, room in zip(texts, rooms, strict=True):
        if len(rows) <= room or room == 0 or long_text == "truncate":
            parts.append([rows[:room]])
        elif long_text == "head-tail":
            parts.append([rows[: room - room // 2] + rows[len(rows) - room // 2 :]])
        else:
            parts.append([rows[start : start + room] for start in range(0, len(rows), room)])
    return [
        sorted(frame + [row for part in parts for row in part[min(number, len(part) - 1)]])
        for number in range(max(map(len, parts)))
    ]
