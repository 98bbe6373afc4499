"""An explanation to look at: coloured words for a terminal and for HTML, signed numbers for everything else.

Blue speaks for the predicted class, orange against it, which colour-blind readers tell apart (Okabe & Ito 2008).
"""

import os
from collections.abc import Iterable, Iterator
from html import escape
from typing import TextIO

from src.evaluation.attribution import Explanation
from src.evaluation.prediction_lines import as_line
from src.evaluation.words import Word
from src.utils.errors import printable

FOR, AGAINST = (0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00)
INK = (0x1A, 0x1A, 0x1A)
STRONGEST = 5

LEGEND = "Blue words speak for the answer, orange ones against it; pale ones were not read."

PAGE_STYLE = "body{font:16px/1.9 sans-serif;background:#fff;max-width:46em;margin:2em auto;padding:0 1em}"
# The colours are made for dark letters on white, whatever page they stand on.
STYLE = """.explained{margin:0 0 1.2em;background:#fff;line-height:1.9}.small{font-size:.8em}
.explained,.explained *{color:#1a1a1a!important}
.explained p{margin:.2em 0;white-space:pre-wrap;overflow-wrap:anywhere}
.explained .words span{border-radius:3px;padding:.15em .1em}.explained .unread{opacity:.5}"""


def wants_colour(stream: TextIO) -> bool:
    """Says whether to colour what is printed: only on a terminal, and not where NO_COLOR (no-color.org) is set."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def as_terminal(explanation: Explanation) -> str:
    """Formats an explanation for a terminal: the answer, the coloured text, and the strongest words in numbers."""
    scale = _largest(explanation)
    lines = ["".join(_terminal_word(word, scale) for word in words if word.text) for words in explanation.words]
    return "\n".join([_answer(explanation), *lines, _strongest(explanation), _sum(explanation)])


def as_plain(explanation: Explanation) -> str:
    """Formats an explanation without colours: the answer, contribution and word a line, and the sum."""
    lines = [f"{_number(word)}\t{printable(word.text)}" for words in explanation.words for word in words if word.text]
    return "\n".join([as_line(explanation.prediction), *lines, _sum(explanation)])


def as_html(explanation: Explanation) -> str:
    """Formats an explanation as an element of HTML; each word's number shows where the mouse rests on it."""
    scale = _largest(explanation)
    texts = ["".join(_html_word(word, scale) for word in words if word.text) for words in explanation.words]
    paragraphs = [
        f"<p><b>{escape(_answer(explanation))}</b></p>",
        *(f'<p class="words">{text}</p>' for text in texts),
        f'<p class="small">{escape(_strongest(explanation))}<br>{escape(_sum(explanation))}</p>',
    ]
    return f'<div class="explained">{"".join(paragraphs)}</div>'


def html_page(title: str, elements: Iterable[str]) -> Iterator[str]:
    """Gives the pieces of an HTML page that needs nothing beside itself.

    Args:
        title: of the page, as plain text.
        elements: what stands on it, as HTML.

    Yields:
        Pieces of the page, in order.
    """
    name = escape(printable(title))
    yield f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>\n'
    yield f"<style>{PAGE_STYLE}{STYLE}</style></head>\n<body><h1>{name}</h1>\n"
    yield f"<p>{LEGEND}</p>\n"
    for element in elements:
        yield f"{element}\n"
    yield "</body></html>\n"


def _answer(explanation: Explanation) -> str:
    prediction = explanation.prediction
    return f"{printable(str(prediction.label))}  {100 * (prediction.score or 0.0):.1f} %"


def _sum(explanation: Explanation) -> str:
    total = explanation.margin - explanation.baseline
    return (
        f"margin {explanation.margin:+.4f} = {explanation.baseline:+.4f} without words {total:+.4f} by words; "
        f"completeness error {100 * explanation.error:.4f} % in {explanation.steps} steps"
    )


def _strongest(explanation: Explanation) -> str:
    words = [word for words in explanation.words for word in words if word.contribution is not None]
    words.sort(key=lambda word: -abs(word.contribution or 0.0))
    return ", ".join(f"{printable(word.text)} {_number(word)}" for word in words[:STRONGEST])


def _number(word: Word) -> str:
    return "unread" if word.contribution is None else f"{word.contribution:+.4f}"


def _largest(explanation: Explanation) -> float:
    return max((abs(word.contribution or 0.0) for words in explanation.words for word in words), default=0.0) or 1.0


def _shade(contribution: float, scale: float) -> tuple[int, ...]:
    """Mixes white with the colour of a contribution's sign, the more of it the larger the contribution."""
    strength = min(1.0, abs(contribution) / scale)
    return tuple(round(255 - strength * (255 - channel)) for channel in (FOR if contribution > 0 else AGAINST))


def _terminal_word(word: Word, scale: float) -> str:
    before = " " if word.before else ""
    if word.contribution is None:
        return f"{before}\x1b[2m{printable(word.text)}\x1b[0m"
    ink, paper = (";".join(map(str, color)) for color in (INK, _shade(word.contribution, scale)))
    return f"{before}\x1b[38;2;{ink};48;2;{paper}m{printable(word.text)}\x1b[0m"


def _html_word(word: Word, scale: float) -> str:
    before, text = escape(word.before), escape(printable(word.text))
    if word.contribution is None:
        return f'{before}<span class="unread" title="not read">{text}</span>'
    color = "#" + "".join(f"{channel:02x}" for channel in _shade(word.contribution, scale))
    return f'{before}<span style="background:{color}" title="{_number(word)}">{text}</span>'
