"""From texts to framed token ids, and what becomes of texts longer than the model reads."""

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Encoding, Tokenizer

from src.data.tokenizer import roles
from src.utils.config import LongText

# Tokenizing time grows with the text, whatever is kept of it. No language has words as long as this on average, and a
# text that is read in windows, hence whole, has 15,000 words or so before it reaches its limit.
CHARACTERS_PER_TOKEN = 100
CHARACTERS_IN_WINDOWS = 100_000


@dataclass(frozen=True)
class Window:
    """One framed sequence of at most `seq_len` tokens."""

    input_ids: list[int]
    token_type_ids: list[int]


@dataclass(frozen=True)
class EncodedText:
    """A text as the model reads it: one window, or several of a long text."""

    windows: list[Window]
    truncated: bool  # some of it is not read
    unknown: bool  # the tokenizer knows none of the words that are read


@dataclass(frozen=True)
class Place:
    """Where a token comes from: its text, 0 or, of a pair, 1, and the characters of that text it stands for."""

    text: int
    start: int
    end: int


def encode(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    seq_len: int,
    pairs: Sequence[str] | None = None,
    long_text: LongText = "truncate",
) -> list[EncodedText]:
    """Tokenizes texts, framed by the tokenizer's special tokens.

    Args:
        tokenizer: its truncation is set to `seq_len`, its padding switched off.
        texts: any strings.
        seq_len: most tokens of a window, special tokens included.
        pairs: second texts, one for each of `texts`.
        long_text: of a longer text read the beginning, the beginning and the end, or all of it in windows. Of a pair,
            the shorter text is kept whole if it takes no more than half of the room.

    Returns:
        One encoded text a text.
    """
    tokenizer.no_padding()
    tokenizer.no_truncation()  # of two long texts `tokenizers` would build every combination of their windows
    limit = _limit(seq_len, long_text)
    first = [tokenized_part(text, seq_len, long_text) for text in texts]
    second = [tokenized_part(text, seq_len, long_text) for text in pairs] if pairs is not None else None
    encodings = tokenizer.encode_batch(first if second is None else list(zip(first, second, strict=True)))
    tokenizer.enable_truncation(seq_len)
    too_long = [max(map(len, both)) > limit for both in zip(texts, *([] if pairs is None else [pairs]), strict=True)]
    unk_id = tokenizer.token_to_id(roles(tokenizer).get("unk", ""))
    return [_read(encoding, seq_len, long_text, cut, unk_id) for encoding, cut in zip(encodings, too_long, strict=True)]


def locate(
    tokenizer: Tokenizer, text: str, seq_len: int, pair: str | None = None, long_text: LongText = "truncate"
) -> list[list[Place | None]]:
    """Says where the tokens of a text come from.

    Args:
        tokenizer: as for `encode`.
        text: the text.
        seq_len: as for `encode`.
        pair: a second text.
        long_text: as for `encode`.

    Returns:
        For every window of `encode`, a place for each of its tokens, in `tokenized_part` of the text; None for the
        special tokens that frame it.
    """
    tokenizer.no_padding()
    tokenizer.no_truncation()
    second = None if pair is None else tokenized_part(pair, seq_len, long_text)
    encoding = tokenizer.encode(tokenized_part(text, seq_len, long_text), second)
    tokenizer.enable_truncation(seq_len)
    places = [
        None if owner is None else Place(owner, *offsets)
        for owner, offsets in zip(encoding.sequence_ids, encoding.offsets, strict=True)
    ]
    return [[places[row] for row in rows] for rows in _rows(encoding, seq_len, long_text)]


def tokenized_part(text: str, seq_len: int, long_text: LongText) -> str:
    """Returns what of a text is tokenized: all of it, unless it is far longer than what is read."""
    limit = _limit(seq_len, long_text)
    if len(text) > limit:
        text = text[: limit // 2] + text[-(limit // 2) :] if long_text == "head-tail" else text[:limit]
    # Half a surrogate pair, which bytes that are not UTF-8 become in sys.argv, would stop `tokenizers`.
    return text.encode("utf-8", "replace").decode()


def _limit(seq_len: int, long_text: LongText) -> int:
    limit = seq_len * CHARACTERS_PER_TOKEN
    return max(limit, CHARACTERS_IN_WINDOWS) if long_text == "windows" else limit


def _read(encoding: Encoding, seq_len: int, long_text: LongText, cut: bool, unk_id: int | None) -> EncodedText:
    windows = _windows(encoding, seq_len, long_text)
    words = {index for index, special in zip(encoding.ids, encoding.special_tokens_mask, strict=True) if not special}
    known = any(index in words and index != unk_id for window in windows for index in window.input_ids)
    truncated = cut or (long_text != "windows" and len(encoding) > seq_len)
    return EncodedText(windows, truncated, unknown=bool(words) and not known)


def _windows(encoding: Encoding, seq_len: int, long_text: LongText) -> list[Window]:
    ids, type_ids = encoding.ids, encoding.type_ids
    chosen = _rows(encoding, seq_len, long_text)
    return [Window([ids[row] for row in rows], [type_ids[row] for row in rows]) for rows in chosen]


def _rows(encoding: Encoding, seq_len: int, long_text: LongText) -> list[list[int]]:
    """Chooses, for every window, which of the text's tokens it holds."""
    if len(encoding) <= seq_len:
        return [list(range(len(encoding)))]
    owners = encoding.sequence_ids
    frame = [row for row, owner in enumerate(owners) if owner is None]  # special tokens, which every window has
    texts = [[row for row, owner in enumerate(owners) if owner == number] for number in range(encoding.n_sequences)]
    rooms = _share(max(seq_len - len(frame), 0), [len(rows) for rows in texts])
    parts = [_parts(rows, room, long_text) for rows, room in zip(texts, rooms, strict=True)]
    return [
        sorted(frame + [row for part in parts for row in part[min(number, len(part) - 1)]])
        for number in range(max(map(len, parts)))
    ]


def _share(room: int, lengths: list[int]) -> list[int]:
    """Divides the room for tokens among one or two texts: half each, and what the shorter one leaves."""
    if len(lengths) == 1:
        return [room]
    shorter = min(lengths[0], lengths[1], room // 2)
    return [shorter, room - shorter] if lengths[0] <= lengths[1] else [room - shorter, shorter]


def _parts(rows: list[int], room: int, long_text: LongText) -> list[list[int]]:
    if len(rows) <= room or room == 0 or long_text == "truncate":
        return [rows[:room]]
    if long_text == "head-tail":
        tail = room // 2
        return [rows[: room - tail] + rows[len(rows) - tail :]]
    return [rows[start : start + room] for start in range(0, len(rows), room)]
