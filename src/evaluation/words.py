"""Words of a text as a reader sees them, and how what belongs to tokens comes to belong to words."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_SIGNS = r"!-/:-@\[-`{-~\u00a1\u00ab\u00bb\u00bf\u2010-\u205e\u3001-\u301f"
_IDEOGRAPHS = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # words stand without blanks between them
_LETTERS = rf"[^\s{_SIGNS}{_IDEOGRAPHS}]+"
# "don't" and "one-sided" are one word each, and so are the "'s", "-lrb-" and "``" of Treebank spelling; a sign or an
# ideograph is one alone.
_WORD = re.compile(
    rf"['\u2019](?:s|m|d|re|ve|ll)\b|-[lr][rs]b-|``|''|{_LETTERS}(?:['\u2019-]{_LETTERS})*|\S", re.IGNORECASE
)


@dataclass(frozen=True)
class Word:
    """A word with what stands before it, so that all words together are the text."""

    before: str  # blanks
    text: str
    contribution: float | None  # None: the model did not read it


def share_among_words(text: str, tokens: Sequence[tuple[int, int, float]]) -> list[Word]:
    """Sums the contributions of tokens to those of the words they are pieces of.

    Args:
        text: any string.
        tokens: first and last character (excluded) and contribution of every token. Where a token is more than a word,
            as tokenizers that undo "ca n't" make them, these words are taken for one.

    Returns:
        The words, in order; where the text ends in blanks, they stand before an empty one.
    """
    spans = _joined([*(word.span() for word in _WORD.finditer(text)), *((start, end) for start, end, _ in tokens)])
    spans = spans or [(0, len(text))]
    sums: list[float | None] = [None] * len(spans)
    for start, _, contribution in tokens:
        # The first word that ends behind the token's start: a token of no width belongs to what it precedes.
        index = min(bisect_right(spans, start, key=lambda span: span[1]), len(spans) - 1)
        sums[index] = (sums[index] or 0.0) + contribution
    ends = [0, *(end for _, end in spans)]
    words = [
        Word(text[before:start], text[start:end], total)
        for before, (start, end), total in zip(ends, spans, sums, strict=False)
    ]
    return words if ends[-1] == len(text) else [*words, Word(text[ends[-1] :], "", None)]


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Joins the spans that overlap, in order; those of no width are left out."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined
