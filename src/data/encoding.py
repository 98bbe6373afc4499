"""From texts to framed token ids, and what becomes of texts longer than the model reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tokenizers import Encoding, Tokenizer

from src.data.tokenizer import roles

LongText = Literal["truncate", "head-tail", "windows"]

# Tokenizing time grows with the text, whatever truncation keeps. No language has words this long on average.
CHARACTERS_PER_TOKEN = 100


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
    unknown: bool  # the tokenizer knows none of its words


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
        long_text: of a longer text read the beginning, the beginning and the end, or all of it in windows.

    Returns:
        One encoded text a text.
    """
    tokenizer.no_padding()
    if long_text == "head-tail":
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(seq_len)
    limit = seq_len * CHARACTERS_PER_TOKEN
    first = [_shortened(text, limit, long_text) for text in texts]
    second = [_shortened(text, limit, long_text) for text in pairs] if pairs is not None else None
    encodings = tokenizer.encode_batch(first if second is None else list(zip(first, second, strict=True)))
    tokenizer.enable_truncation(seq_len)
    unk_token = roles(tokenizer).get("unk")
    return [
        EncodedText(
            _windows(encoding, seq_len, long_text),
            len(text) > limit or (long_text != "windows" and (bool(encoding.overflowing) or len(encoding) > seq_len)),
            _only_unknown(encoding, unk_token),
        )
        for encoding, text in zip(encodings, texts, strict=True)
    ]


def _shortened(text: str, limit: int, long_text: LongText) -> str:
    if len(text) > limit:
        text = text[: limit // 2] + text[-(limit // 2) :] if long_text == "head-tail" else text[:limit]
    # Half a surrogate pair, which bytes that are not UTF-8 become in sys.argv, would stop `tokenizers`.
    return text.encode("utf-8", "replace").decode()


def _windows(encoding: Encoding, seq_len: int, long_text: LongText) -> list[Window]:
    if long_text == "windows":
        return [Window(part.ids, part.type_ids) for part in (encoding, *encoding.overflowing)]
    if len(encoding) <= seq_len:
        return [Window(encoding.ids, encoding.type_ids)]
    head, tail = seq_len - seq_len // 2, seq_len // 2  # the frame's two ends stay, being first and last
    return [Window(encoding.ids[:head] + encoding.ids[-tail:], encoding.type_ids[:head] + encoding.type_ids[-tail:])]


def _only_unknown(encoding: Encoding, unk_token: str | None) -> bool:
    words = [token for token, special in zip(encoding.tokens, encoding.special_tokens_mask, strict=True) if not special]
    return bool(words) and all(token == unk_token for token in words)
