"""Explanations and attention to look at: coloured words for a terminal or a page, signed numbers, maps as a PNG.

Blue speaks for the predicted class, orange against it, which colour-blind readers tell apart (Okabe & Ito 2008).
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, Template
from matplotlib.figure import Figure
from torch import Tensor

from src.evaluation.attribution import Explanation, Word
from src.evaluation.charts import plot_style
from src.evaluation.predictor import Predictor
from src.utils.errors import printable

LEGEND = "Blue words speak for the predicted class, orange ones against it; faded ones were not read."
FOR, AGAINST = (0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00)

# Jain & Wallace 2019: other weights can give the same answer.
CAPTION = (
    "Not an explanation: weights say where a head looks, not what the answer rests on.\n"
    "A row is a token that looks, a column a token looked at. White is 0, the darkest blue 1."
)
MOST_TOKENS, MOST_CELLS = 64, 360  # of a map, and in a row of maps


@cache
def page_template() -> Template:
    """Loads the template of reports and explanations, which escapes markup and control characters in what it shows."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    environment.finalize = lambda value: printable(value) if type(value) is str else value
    return environment.get_template("page.html")


def as_text(explanation: Explanation, in_color: bool) -> str:
    """Formats an explanation for a console: in colour the text and its strongest words, else a number for each word."""
    if in_color:
        largest = _largest(explanation)
        lines = ["".join(_in_color(word, largest) for word in of_text) for of_text in explanation.words]
        lines.append(_strongest(explanation))
    else:
        lines = [f"{_number(word)}\t{printable(word.text)}" for of_text in explanation.words for word in of_text]
    return "\n".join([explanation.prediction.as_line(), *lines, _total(explanation)])


def as_html(explanation: Explanation) -> str:
    """Formats an explanation as an element of HTML; each word's number shows where the mouse rests on it."""
    macros: Any = page_template().module
    return str(macros.explained(explanation, _largest(explanation), _strongest(explanation), _total(explanation)))


def html_page(elements: Sequence[str]) -> str:
    """Renders explanations, given by `as_html`, as a page that needs no other file."""
    return page_template().render(title="Why this answer", legend=LEGEND, explanations=elements)


def _total(explanation: Explanation) -> str:
    total = explanation.margin - explanation.baseline
    return (
        f"margin {explanation.margin:+.4f} = {explanation.baseline:+.4f} without words {total:+.4f} by words; "
        f"completeness error {100 * explanation.error:.4f} % in {explanation.steps} steps"
    )


def _strongest(explanation: Explanation) -> str:
    read = [word for of_text in explanation.words for word in of_text if word.contribution is not None]
    strongest = sorted(read, key=lambda word: -abs(word.contribution or 0.0))[:5]
    return ", ".join(f"{printable(word.text)} {_number(word)}" for word in strongest)


def _number(word: Word) -> str:
    return "unread" if word.contribution is None else f"{word.contribution:+.4f}"


def _largest(explanation: Explanation) -> float:
    return max((abs(word.contribution or 0.0) for words in explanation.words for word in words), default=0.0) or 1.0


def _in_color(word: Word, largest: float) -> str:
    code = "2"  # faded
    if word.contribution is not None:
        strength, color = abs(word.contribution) / largest, FOR if word.contribution > 0 else AGAINST
        code = "38;2;0;0;0;48;2;" + ";".join(str(round(255 - strength * (255 - channel))) for channel in color)
    return f"{' ' if word.before else ''}\x1b[{code}m{printable(word.text)}\x1b[0m"


@torch.no_grad()
def attention_maps(predictor: Predictor, text: str, pair: str | None = None) -> tuple[list[str], Tensor]:
    """Gives the T tokens of a text, of a long one its first window, and their attention weights (layers, H, T, T)."""
    dataset = predictor.classifier.dataset([text], pairs=None if pair is None else [pair])
    ids = dataset.input_ids[0][None].to(predictor.device)  # (1, T)
    types = None if dataset.token_type_ids is None else dataset.token_type_ids[0][None].to(predictor.device)
    attentions = predictor.model.bert(ids, None, types, return_attentions=True).attentions  # layers of (1, H, T, T)
    decode = predictor.classifier.tokenizer.decode
    tokens = [decode([index], skip_special_tokens=False).strip() for index in ids[0].tolist()]
    return tokens, torch.cat(attentions).float().cpu()


def draw_attention(path: Path, tokens: Sequence[str], weights: Tensor, title: str) -> None:
    """Draws the maps of `attention_maps` into a PNG, a row for each layer and a column for each head."""
    layers, heads, T, _ = weights.shape
    n = max(1, min(T, MOST_TOKENS, MOST_CELLS // max(layers, heads)))
    caption = CAPTION if n == T else f"{CAPTION} The first {n} of {T} tokens."
    names = [printable(token)[:16] for token in tokens[:n]]
    # All maps are one picture, with a blank row and column between them.
    grid = np.full((layers, n + 1, heads, n + 1), np.nan)
    grid[:, :n, :, :n] = weights[:, :, :n, :n].transpose(1, 2)
    picture = grid.reshape(layers * (n + 1), -1)[:-1, :-1]
    places = np.arange(max(layers, heads))[:, None] * (n + 1) + np.arange(n)  # of each token of each map
    cell = max(0.13, 1.7 / n)  # inches
    with plot_style():
        figure = Figure((picture.shape[1] * cell, picture.shape[0] * cell))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(picture, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(f"{printable(title)[:80]}\n{caption}", loc="left", size=10, pad=30)
        axes.set_xticks(places[:heads].ravel(), names * heads, rotation=90, size=8)
        axes.set_yticks(places[:layers].ravel(), names * layers, size=8)
        above, right = axes.secondary_xaxis("top"), axes.secondary_yaxis("right")
        above.set_xticks(places.mean(1)[:heads], [f"head {head + 1}" for head in range(heads)])
        right.set_yticks(places.mean(1)[:layers], [f"layer {layer + 1}" for layer in range(layers)])
        for one in (axes, above, right):
            one.tick_params(length=0)
            one.spines[:].set_visible(False)
        figure.savefig(path, bbox_inches="tight", metadata={"Software": None})
