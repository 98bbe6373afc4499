"""Draws BERT at work on one sentence and writes the figures of it in src/model/README.md.

    python -m tests.benchmarks.picture_of_bert

Tokens, vectors, attention weights and logits are those of the shipped model: media/bert.png shows what it computes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from src.utils.config import REPOSITORY, SHIPPED_CHECKPOINT
from tests.benchmarks import readme
from tests.benchmarks.one_sentence import HEAD, LAYER, MINUS, SENTENCE, Walk, summary, walk
from tests.benchmarks.pictures import BLUE, GREY, INK, LINE, VERMILLION

PICTURE = readme.MEDIA / "bert.png"

WIDTH, HEIGHT, MARGIN, DPI = 1600, 1240, 50, 100  # pixels; dots an inch
PAPER = "#FFFFFF"
TOKENS, PITCH, CELL = 290, 86, 64  # left edge of the first token, from token to token, width of a vector
ZOOM, WEIGHTS, SQUARE, ROW = 1050, 1160, 46, 38  # left edges of right half and weights, width and height of a weight
VECTOR = 32  # height of a vector, drawn as 8 rows of 32 numbers
FIRST = 340  # upper edge of the embeddings
STEPS = (
    ("attention: the darker a", "line, the larger the mean", "weight of the {H} heads"),
    ("then + x, LayerNorm,", "feed-forward, (B, T, D_ff),", "+ x, LayerNorm"),
)
TITLE, TEXT, SMALL = 20, 14, 12.5


def main() -> None:
    """Writes the picture and its figures."""
    found = walk()
    draw(PICTURE, found)
    readme.write_section(readme.MODEL, "bert", summary(found))


def draw(path: Path, found: Walk) -> None:
    """Draws all steps on the left, and one attention head on the right.

    Args:
        path: the PNG to write.
        found: what the model computed.
    """
    from matplotlib import style

    with style.context(["default", {"text.parse_math": False}]):
        page = Page()
        title = f"\u201c{SENTENCE}\u201d, from text to logits"
        page.text((MARGIN, 48), title, TITLE, weight="bold")
        folder = SHIPPED_CHECKPOINT.relative_to(REPOSITORY)
        about = f"every number is what {folder} computes; blue is above zero, red below"
        page.text((MARGIN, 84), about, TEXT, color=GREY)
        _draw_embedding(page, found)
        _draw_layers(page, found)
        _draw_head(page, found)
        _draw_last(page, found)
        _save(page, path)


class Page:
    """Text and boxes placed by pixel, from the upper left corner."""

    def __init__(self) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.canvas = FigureCanvasAgg(Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor=PAPER))
        self.axes = self.canvas.figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0))
        self.axes.set_axis_off()

    def text(self, at: tuple[float, float], content: str, size: float, align: str = "left", **look: Any) -> None:
        """Writes a line whose small letters have their middle at a point."""
        self.axes.text(*at, content, size=size, ha=align, va="center_baseline", **{"color": INK} | look)

    def upright(self, x: float, y: float, content: str, size: float) -> None:
        """Writes a line from bottom to top with its middle at (x, y)."""
        self.axes.text(x, y, content, size=size, color=INK, ha="center", va="center", rotation=90)

    def box(self, x: float, y: float, width: float, height: float, color: str) -> None:
        """Fills a rectangle whose upper left corner is (x, y)."""
        from matplotlib.patches import Rectangle

        self.axes.add_patch(Rectangle((x, y), width, height, facecolor=color, linewidth=0))


def _save(page: Page, path: Path) -> None:
    """Writes the page in 256 colours, which more than halves the file and looks the same."""
    from PIL import Image

    page.canvas.draw()
    Image.fromarray(np.asarray(page.canvas.buffer_rgba())).convert("RGB").quantize(256).save(path, optimize=True)


def _draw_embedding(page: Page, found: Walk) -> None:
    T, D = found.sizes["T"], found.sizes["D"]
    _label(page, 140, "tokens and ids", f"(B, T) = 1 \u00d7 {T}")
    for column, (token, index) in enumerate(zip(found.tokens, found.input_ids[0].tolist(), strict=True)):
        _centred(page, column, 130, token, weight="bold")
        _centred(page, column, 156, str(index), color=GREY)
    for row, (name, vectors) in enumerate(found.summands.items()):
        y = 184 + row * (VECTOR + 9)
        page.text((MARGIN, y + VECTOR / 2), f"{'+ ' if row else ''}{name} vector", TEXT)
        _draw_vectors(page, vectors, y)
    y = FIRST
    _label(page, y + VECTOR / 2, "LayerNorm", f"(B, T, D) = 1 \u00d7 {T} \u00d7 {D}")
    _draw_vectors(page, found.hidden_states[0], y)


def _draw_layers(page: Page, found: Walk) -> None:
    T, D, H = (found.sizes[letter] for letter in "TDH")
    bottom, rise = FIRST, 168
    for number, (weights, states) in enumerate(zip(found.attentions, found.hidden_states[1:], strict=True), start=1):
        y = bottom + number * rise
        _draw_lines(page, weights.mean(0), y - rise + VECTOR + 3, y - 3)
        last = len(states) < T
        what = f"(B, 1, D) = 1 \u00d7 1 \u00d7 {D}" if last else f"(B, T, D) = 1 \u00d7 {T} \u00d7 {D}"
        _label(page, y + VECTOR / 2, f"layer {number}{': [CLS] alone' if last else ''}", what)
        _draw_vectors(page, states, y)
    for gap, lines in enumerate(STEPS):
        for line, text in enumerate(lines):
            page.text((MARGIN, bottom + gap * rise + 74 + 20 * line), text.format(H=H), SMALL, color=GREY)
    _draw_logits(page, found, bottom + len(found.attentions) * rise)


def _draw_logits(page: Page, found: Walk, y: float) -> None:
    page.text((TOKENS + PITCH + 4, y + VECTOR / 2), "\u2192 pooler, (B, D) \u2192 classifier, (B, C)", TEXT)
    y += 92
    _label(page, y, "logits", f"(B, C) = 1 \u00d7 {found.sizes['C']}")
    shares = found.logits.softmax(-1).tolist()
    for row, (name, logit, share) in enumerate(zip(found.label_names, found.logits.tolist(), shares, strict=True)):
        middle = y + 34 * (row - 0.5)
        color = BLUE if logit > 0 else VERMILLION
        page.text((TOKENS, middle), name, TEXT)
        page.text((TOKENS + 190, middle), f"{logit:.2f}".replace("-", MINUS), TEXT, align="right", weight="bold")
        page.text((TOKENS + 214, middle), "\u2192 softmax", TEXT, color=GREY)
        page.box(TOKENS + 330, middle - 9, 240 * share, 18, color)
        page.text((TOKENS + 340 + 240 * share, middle), f"{100 * share:.0f} %", TEXT, weight="bold")


def _draw_head(page: Page, found: Walk) -> None:
    T, D_h = found.sizes["T"], found.sizes["D_h"]
    head, height = found.head, 11 * T
    page.box(ZOOM - 30, 108, 2, HEIGHT - 108 - MARGIN, LINE)
    page.text((ZOOM, 130), f"Layer {LAYER}, head {HEAD} of {found.sizes['H']}", 16, weight="bold")
    page.text((ZOOM, 160), f"queries, keys, values: (T, D_h) = {T} \u00d7 {D_h} each", SMALL, color=GREY)
    for column, (name, part) in enumerate({"Q": head.query, "K": head.key, "V": head.value}.items()):
        left = ZOOM + 24 + column * 162
        page.text((left - 22, 186 + height / 2), name, TEXT, weight="bold")
        _picture(page, part, (left, 186, 128, height))
    page.text((ZOOM, 306), "weights = softmax(Q K\u1d40 / \u221aD_h), (T, T), in %", TEXT, weight="bold")
    page.text((ZOOM, 330), "a row: whom a token attends to", SMALL, color=GREY)
    _draw_weights(page, found.tokens, found.tokens, head.weights, 426)
    y = 426 + ROW * T + 40
    page.text((ZOOM, y), "weights times V, (T, D_h)", TEXT, weight="bold")
    _picture(page, head.context, (WEIGHTS, y + 22, SQUARE * T, height))


def _draw_last(page: Page, found: Walk) -> None:
    """Draws whom [CLS] attends to in the last layer, in every head."""
    layers, H, T = len(found.attentions), found.sizes["H"], found.sizes["T"]
    page.text((ZOOM, 940), f"Layer {layers}: whom [CLS] attends to, (H, 1, T), in %", TEXT, weight="bold")
    names = [f"head {number}" for number in range(1, H + 1)]
    _draw_weights(page, names, found.tokens, found.attentions[-1].view(H, T), 1040)


def _draw_weights(page: Page, rows: Sequence[str], columns: Sequence[str], weights: Tensor, top: float) -> None:
    _picture(page, weights, (WEIGHTS, top, SQUARE * len(columns), ROW * len(rows)), highest=1.0)
    for column, name in enumerate(columns):
        page.upright(WEIGHTS + (column + 0.5) * SQUARE, top - 40, name, SMALL)
    for row, name in enumerate(rows):
        middle = top + (row + 0.5) * ROW
        page.text((WEIGHTS - 10, middle), name, SMALL, align="right")
        for column, weight in enumerate(weights[row].tolist()):
            color = PAPER if weight > 0.5 else INK
            at = (WEIGHTS + (column + 0.5) * SQUARE, middle)
            page.text(at, f"{100 * weight:.0f}", SMALL, color=color, align="center")


def _draw_lines(page: Page, weights: Tensor, top: float, bottom: float) -> None:
    """Draws a line from every token below to all those above it attends to, the darker the more."""
    for to, row in enumerate(weights.tolist()):
        for source, weight in enumerate(row):
            ends = [TOKENS + place * PITCH + CELL / 2 for place in (source, to)]
            page.axes.plot(ends, [top, bottom], color=BLUE, alpha=weight, linewidth=2.5, solid_capstyle="butt")


def _draw_vectors(page: Page, vectors: Tensor, y: float) -> None:
    for column, vector in enumerate(vectors):
        _picture(page, vector.view(8, -1), (TOKENS + column * PITCH, y, CELL, VECTOR), float(2 * vectors.std()))


def _picture(page: Page, numbers: Tensor, place: tuple[float, float, float, float], highest: float = 0.0) -> None:
    """Draws a matrix as coloured squares: white is zero, blue above, red below."""
    from matplotlib.colors import LinearSegmentedColormap

    x, y, width, height = place
    colors = LinearSegmentedColormap.from_list("signed", [VERMILLION, PAPER, BLUE])
    limit = highest or float(2 * numbers.std())
    extent = (x, x + width, y + height, y)
    page.axes.imshow(
        numbers.numpy(), colors, aspect="auto", interpolation="nearest", extent=extent, vmin=-limit, vmax=limit
    )


def _label(page: Page, y: float, name: str, shape: str) -> None:
    page.text((MARGIN, y - 11), name, TEXT, weight="bold")
    page.text((MARGIN, y + 13), shape, SMALL, color=GREY)


def _centred(page: Page, column: int, y: float, content: str, *, color: str = INK, weight: str = "normal") -> None:
    middle = TOKENS + column * PITCH + CELL / 2
    page.text((middle, y), content, SMALL, color=color, align="center", weight=weight)


if __name__ == "__main__":
    main()
