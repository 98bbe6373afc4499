"""Draws BERT at work on one sentence and writes the figures of it in src/model/README.md.

    python -m tests.benchmarks.picture_of_bert

Tokens, vectors, attention weights and logits are those of the shipped model: media/bert.png shows what it computes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from src.data.tokenizer import encode
from src.interop.huggingface import Classifier, load_classifier
from src.model.attention import scaled_dot_product_attention
from src.utils.config import REPOSITORY, SHIPPED_CHECKPOINT
from tests.benchmarks import readme
from tests.benchmarks.pictures import BLUE, GREY, INK, LINE, VERMILLION

PICTURE = readme.MEDIA / "bert.png"
SENTENCE = "Sweet without being sticky."  # of the bundled sample: the shipped model was not trained on it
LAYER, HEAD = 1, 2  # counted from 1; the head that brings the two pieces of "sticky" together
MEANINGS = {
    "B": "sentences",
    "T": "tokens",
    "D": "hidden size",
    "H": "attention heads",
    "D_h": "dimensions of one head, D / H",
    "D_ff": "width of the feed-forward layer",
    "V": "vocabulary size",
    "C": "classes",
}
MINUS = "\u2212"

WIDTH, HEIGHT, MARGIN, DPI = 1600, 1240, 50, 100  # pixels; dots an inch
PAPER = "#FFFFFF"
TOKENS, PITCH, CELL = 290, 86, 64  # left edge of the first token, from token to token, width of a vector
ZOOM, WEIGHTS, SQUARE, ROW = 1050, 1160, 46, 38  # left edges of right half and weights, width and height of a weight
VECTOR = 32  # height of a vector, drawn as 8 rows of 32 numbers
FIRST, RISE = 340, 168  # upper edge of the embeddings, from layer to layer
STEPS = (
    ("attention: the darker a", "line, the larger the mean", "weight of the {H} heads"),
    ("then + x, LayerNorm,", "feed-forward, (B, T, D_ff),", "+ x, LayerNorm"),
)
TITLE, TEXT, SMALL = 20, 14, 12.5


@dataclass(frozen=True)
class Walk:
    """All steps from the sentence to its logits."""

    classifier: Classifier
    tokens: list[str]
    input_ids: Tensor  # (1, T)
    summands: Mapping[str, Tensor]  # token, position and segment: (T, D)
    hidden_states: list[Tensor]  # embeddings and every layer's output, (T, D); of the last layer (1, D)
    attentions: list[Tensor]  # of every layer, (H, T, T); of the last one (H, 1, T)
    head: Mapping[str, Tensor]  # Q, K, V and context of one head, (T, D_h); its weights, (T, T)
    logits: Tensor  # (C,)

    @property
    def sizes(self) -> dict[str, int]:
        """The letters of the legend of shapes, for this sentence and this model."""
        config = self.classifier.model.config
        B, T = self.input_ids.shape
        D, H, C = config.hidden_size, config.num_attention_heads, len(self.logits)
        return dict(zip(MEANINGS, (B, T, D, H, D // H, config.intermediate_size, config.vocab_size, C), strict=True))


@torch.inference_mode()
def walk() -> Walk:
    classifier = load_classifier(SHIPPED_CHECKPOINT)
    bert: Any = classifier.model.eval().bert
    input_ids = torch.tensor(encode(classifier.tokenizer, [SENTENCE], classifier.seq_len).input_ids)
    output = bert(input_ids, return_attentions=True, last_layer_cls_only=True)
    tokens = [str(classifier.tokenizer.id_to_token(index)) for index in input_ids[0].tolist()]
    T, embedding, attention = len(tokens), bert.embedding, bert.encoder.layers[LAYER - 1].attention
    summands = {"token": embedding.token(input_ids)[0], "position": embedding.position(T)}
    summands["segment"] = embedding.segment.weight[:1].expand(T, -1)  # all tokens belong to segment 0
    x = output.hidden_states[LAYER - 1]
    projections = (part(x) for part in (attention.query, attention.key, attention.value))  # 3 of (1, T, D)
    query, key, value = (part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in projections)
    context, weights = scaled_dot_product_attention(query, key, value)
    head = {"Q": query, "K": key, "V": value, "weights": weights, "context": context}  # each (1, H, T, ...)
    return Walk(
        classifier,
        tokens,
        input_ids,
        summands,
        [states[0] for states in output.hidden_states],
        [weights[0] for weights in output.attentions],
        {name: part[0, HEAD - 1] for name, part in head.items()},
        classifier.model(input_ids)[0],
    )


def summary(found: Walk) -> str:
    """Says in Markdown what the letters of the shapes stand for here, what came out, and where the parameters are."""
    model: Any = found.classifier.model
    rows = [" | ".join(row) for row in (map("`{}`".format, MEANINGS), MEANINGS.values())]
    sizes = " | ".join(f"{size:,}" for size in found.sizes.values())
    ends = zip(found.classifier.label_names, found.logits.tolist(), found.logits.softmax(-1).tolist(), strict=True)
    said = " and ".join(f"{logit:.2f} for {name} ({100 * share:.0f} %)" for name, logit, share in ends)
    layer = model.bert.encoder.layers[0]
    return f"""| {rows[0]} |
{"|---" * len(MEANINGS)}|
| {rows[1]} |
| {sizes} |

The logits are {said.replace("-", MINUS)}.
Of the model's {_count(model)} parameters {_count(model.bert.embedding)} are in the embeddings, \
{_count(layer)} in each of {len(model.bert.encoder.layers)} layers
(attention {_count(layer.attention)}, feed-forward {_count(layer.feed_forward)}, \
LayerNorms {_count(layer.attention_norm, layer.feed_forward_norm)}), \
{_count(model.pooler)} in the pooler and {_count(model.classifier)} in the classifier.
"""


def _count(*modules: nn.Module) -> str:
    return f"{sum(parameter.numel() for module in modules for parameter in module.parameters()):,}"


def main() -> None:
    found = walk()
    draw(PICTURE, found)
    readme.write_section(readme.MODEL, "bert", summary(found))


def draw(path: Path, found: Walk) -> None:
    """Draws all steps on the left and one attention head on the right, into a PNG."""
    from matplotlib import style
    from PIL import Image

    with style.context(["default", {"text.parse_math": False}]):
        page = Page()
        page.text((MARGIN, 48), f"\u201c{SENTENCE}\u201d, from text to logits", TITLE, weight="bold")
        folder = SHIPPED_CHECKPOINT.relative_to(REPOSITORY)
        page.text((MARGIN, 84), f"every number is what {folder} computes; blue is above zero, red below", color=GREY)
        _draw_embedding(page, found)
        _draw_layers(page, found)
        _draw_logits(page, found, FIRST + len(found.attentions) * RISE)
        _draw_head(page, found)
        page.canvas.draw()
    # 256 colours more than halve the file and look the same.
    Image.fromarray(np.asarray(page.canvas.buffer_rgba())).convert("RGB").quantize(256).save(path, optimize=True)


class Page:
    """Text, boxes and matrices placed by pixel, from the upper left corner."""

    def __init__(self) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.canvas = FigureCanvasAgg(Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor=PAPER))
        self.axes = self.canvas.figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0))
        self.axes.set_axis_off()

    def text(self, at: tuple[float, float], content: str, size: float = TEXT, align: str = "left", **look: Any) -> None:
        """Writes a line whose small letters have their middle at a point."""
        self.axes.text(*at, content, size=size, ha=align, **{"color": INK, "va": "center_baseline"} | look)

    def label(self, y: float, name: str, shape: str) -> None:
        self.text((MARGIN, y - 11), name, weight="bold")
        self.text((MARGIN, y + 13), shape, SMALL, color=GREY)

    def box(self, x: float, y: float, width: float, height: float, color: str) -> None:
        """Fills a rectangle whose upper left corner is (x, y)."""
        from matplotlib.patches import Rectangle

        self.axes.add_patch(Rectangle((x, y), width, height, facecolor=color, linewidth=0))

    def matrix(self, numbers: Tensor, place: tuple[float, float, float, float], highest: float = 0.0) -> None:
        """Draws numbers as coloured squares: white is zero, blue above, red below."""
        from matplotlib.colors import LinearSegmentedColormap

        x, y, width, height = place
        colors = LinearSegmentedColormap.from_list("signed", [VERMILLION, PAPER, BLUE])
        limit = highest or float(2 * numbers.std())
        look: dict[str, Any] = {"aspect": "auto", "interpolation": "nearest", "vmin": -limit, "vmax": limit}
        self.axes.imshow(numbers.numpy(), colors, extent=(x, x + width, y + height, y), **look)

    def vectors(self, vectors: Tensor, y: float) -> None:
        """Draws a vector under each token."""
        for column, vector in enumerate(vectors):
            place = (TOKENS + column * PITCH, y, CELL, VECTOR)
            self.matrix(vector.view(8, -1), place, float(2 * vectors.std()))

    def weights(self, rows: Sequence[str], columns: Sequence[str], weights: Tensor, top: float) -> None:
        """Draws attention weights in %, with names of rows and columns."""
        self.matrix(weights, (WEIGHTS, top, SQUARE * len(columns), ROW * len(rows)), highest=1.0)
        for column, name in enumerate(columns):
            at = (WEIGHTS + (column + 0.5) * SQUARE, top - 40)
            self.text(at, name, SMALL, "center", va="center", rotation=90)
        for row, name in enumerate(rows):
            middle = top + (row + 0.5) * ROW
            self.text((WEIGHTS - 10, middle), name, SMALL, "right")
            for column, weight in enumerate(weights[row].tolist()):
                color = PAPER if weight > 0.5 else INK
                self.text(
                    (WEIGHTS + (column + 0.5) * SQUARE, middle), f"{100 * weight:.0f}", SMALL, "center", color=color
                )


def _draw_embedding(page: Page, found: Walk) -> None:
    T, D = found.sizes["T"], found.sizes["D"]
    page.label(140, "tokens and ids", f"(B, T) = 1 \u00d7 {T}")
    for column, (token, index) in enumerate(zip(found.tokens, found.input_ids[0].tolist(), strict=True)):
        middle = TOKENS + column * PITCH + CELL / 2
        page.text((middle, 130), token, SMALL, "center", weight="bold")
        page.text((middle, 156), str(index), SMALL, "center", color=GREY)
    for row, (name, vectors) in enumerate(found.summands.items()):
        y = 184 + row * (VECTOR + 9)
        page.text((MARGIN, y + VECTOR / 2), f"{'+ ' if row else ''}{name} vector")
        page.vectors(vectors, y)
    page.label(FIRST + VECTOR / 2, "LayerNorm", f"(B, T, D) = 1 \u00d7 {T} \u00d7 {D}")
    page.vectors(found.hidden_states[0], FIRST)


def _draw_layers(page: Page, found: Walk) -> None:
    T, D, H = (found.sizes[letter] for letter in "TDH")
    for number, (weights, states) in enumerate(zip(found.attentions, found.hidden_states[1:], strict=True), start=1):
        y = FIRST + number * RISE
        # A line from every token below to all those above it attends to, the darker the more.
        for to, row in enumerate(weights.mean(0).tolist()):
            for source, weight in enumerate(row):
                ends = [TOKENS + place * PITCH + CELL / 2 for place in (source, to)]
                look: dict[str, Any] = {"color": BLUE, "alpha": weight, "linewidth": 2.5, "solid_capstyle": "butt"}
                page.axes.plot(ends, [y - RISE + VECTOR + 3, y - 3], **look)
        last = len(states) < T
        what = f"(B, 1, D) = 1 \u00d7 1 \u00d7 {D}" if last else f"(B, T, D) = 1 \u00d7 {T} \u00d7 {D}"
        page.label(y + VECTOR / 2, f"layer {number}{': [CLS] alone' if last else ''}", what)
        page.vectors(states, y)
    for gap, lines in enumerate(STEPS):
        for line, text in enumerate(lines):
            page.text((MARGIN, FIRST + gap * RISE + 74 + 20 * line), text.format(H=H), SMALL, color=GREY)


def _draw_logits(page: Page, found: Walk, y: float) -> None:
    page.text((TOKENS + PITCH + 4, y + VECTOR / 2), "\u2192 pooler, (B, D) \u2192 classifier, (B, C)")
    y += 92
    page.label(y, "logits", f"(B, C) = 1 \u00d7 {found.sizes['C']}")
    ends = zip(found.classifier.label_names, found.logits.tolist(), found.logits.softmax(-1).tolist(), strict=True)
    for row, (name, logit, share) in enumerate(ends):
        middle = y + 34 * (row - 0.5)
        page.text((TOKENS, middle), name)
        page.text((TOKENS + 190, middle), f"{logit:.2f}".replace("-", MINUS), TEXT, "right", weight="bold")
        page.text((TOKENS + 214, middle), "\u2192 softmax", color=GREY)
        page.box(TOKENS + 330, middle - 9, 240 * share, 18, BLUE if logit > 0 else VERMILLION)
        page.text((TOKENS + 340 + 240 * share, middle), f"{100 * share:.0f} %", weight="bold")


def _draw_head(page: Page, found: Walk) -> None:
    T, D_h, H = (found.sizes[letter] for letter in ("T", "D_h", "H"))
    page.box(ZOOM - 30, 108, 2, HEIGHT - 108 - MARGIN, LINE)
    page.text((ZOOM, 130), f"Layer {LAYER}, head {HEAD} of {H}", 16, weight="bold")
    page.text((ZOOM, 160), f"queries, keys, values: (T, D_h) = {T} \u00d7 {D_h} each", SMALL, color=GREY)
    for column, name in enumerate("QKV"):
        left = ZOOM + 24 + column * 162
        page.text((left - 22, 186 + 11 * T / 2), name, weight="bold")
        page.matrix(found.head[name], (left, 186, 128, 11 * T))
    page.text((ZOOM, 306), "weights = softmax(Q K\u1d40 / \u221aD_h), (T, T), in %", weight="bold")
    page.text((ZOOM, 330), "a row: whom a token attends to", SMALL, color=GREY)
    page.weights(found.tokens, found.tokens, found.head["weights"], 426)
    y = 426 + ROW * T + 40
    page.text((ZOOM, y), "weights times V, (T, D_h)", weight="bold")
    page.matrix(found.head["context"], (WEIGHTS, y + 22, SQUARE * T, 11 * T))
    title = f"Layer {len(found.attentions)}: whom [CLS] attends to, (H, 1, T), in %"
    page.text((ZOOM, 940), title, weight="bold")
    page.weights([f"head {number + 1}" for number in range(H)], found.tokens, found.attentions[-1].view(H, T), 1040)


if __name__ == "__main__":
    main()
