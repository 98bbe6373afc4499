"""Attention maps: what each head of each layer attends to, drawn. They show the mechanism and explain no answer."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from src.data.tokenizer import encode, special_token_ids, tokenized_part
from src.evaluation.page import FONT, Page
from src.evaluation.predictor import Predictor

# Jain & Wallace 2019: other weights can give the same answer.
CAPTION = (
    "Not an explanation: weights say where a head looks, not what the answer rests on.",
    "Each row is a token that looks, each column a token looked at. White is 0, the darkest blue 1; a row sums to 1.",
)
SIDE = 170  # pixels of a map, unless its tokens need more
CELL = 13  # fewest pixels of a token, whose name must be legible
MOST_TOKENS, MOST_PIXELS = 64, 6000
LEFT, TOP, GAP, BOTTOM, RIGHT = 190, 150, 14, 130, 40
GREY = "#5A5A5A"


@dataclass(frozen=True)
class AttentionMaps:
    """The attention weights of one text, or of the first window of a long one."""

    tokens: list[str]  # T of them
    weights: Tensor  # float32 (layers, H, T, T)


@torch.no_grad()
def attention_maps(predictor: Predictor, text: str, pair: str | None = None) -> AttentionMaps:
    """Lets the model read a text by the readable path of its attention, which returns the weights.

    Args:
        predictor: holds the model.
        text: any text.
        pair: a second text.

    Returns:
        The maps, with the tokens as the text spells them; special ones and unknown ones as the tokenizer does.
    """
    classifier = predictor.classifier
    pairs = None if pair is None else [pair]
    dataset = predictor.dataset([text], pairs=pairs)
    ids = dataset.input_ids[0][None].to(predictor.device)  # (1, T)
    types = None if dataset.token_type_ids is None else dataset.token_type_ids[0][None].to(predictor.device)
    attentions = predictor.model.bert(ids, None, types, return_attentions=True).attentions  # layers of (1, H, T, T)
    reading = classifier.seq_len, pairs, classifier.long_text
    places = encode(classifier.tokenizer, [text], *reading, return_offsets=True).offset_mapping[0]
    texts = [tokenized_part(one, classifier.seq_len, classifier.long_text) for one in (text, pair) if one is not None]
    spellings = [str(classifier.tokenizer.id_to_token(index)) for index in ids[0].tolist()]
    unk_id = special_token_ids(classifier.tokenizer).get("unk_token")
    unknown = None if unk_id is None else classifier.tokenizer.id_to_token(unk_id)
    tokens = [_name(place, texts, spelling, unknown) for place, spelling in zip(places, spellings, strict=True)]
    return AttentionMaps(tokens, torch.cat(attentions).float().cpu())


def _name(place: tuple[int, int, int] | None, texts: list[str], spelling: str, unknown: str | None) -> str:
    if place is None or spelling == unknown:
        return spelling
    text, start, end = place
    return texts[text][start:end].strip() or spelling


def draw_attention(path: Path, maps: AttentionMaps, title: str) -> None:
    """Draws all maps into a PNG, a row of maps a layer and a column a head.

    Args:
        path: the PNG to write; its folder exists.
        maps: what to draw; of many tokens the first ones only, which the picture says.
        title: of the picture.

    Raises:
        OSError: the file cannot be written.
    """
    import matplotlib

    layers, heads, T, _ = maps.weights.shape
    shown = max(1, min(T, MOST_TOKENS, MOST_PIXELS // (CELL * max(layers, heads))))
    side = max(SIDE, CELL * shown)
    width = max(LEFT + heads * (side + GAP) + RIGHT, 940)
    with matplotlib.rc_context({"text.usetex": False, "text.parse_math": False, "font.family": FONT}):
        page = Page(width, TOP + layers * (side + GAP) + BOTTOM)
        _draw_heading(page, title, f"The first {shown} of {T} tokens." if shown < T else "", width)
        for layer in range(layers):
            top = TOP + layer * (side + GAP)
            page.upright(30, top + side / 2, f"layer {layer + 1}", 12, GREY)
            _draw_layer(page, maps.weights[layer, :, :shown, :shown], maps.tokens[:shown], top, side)
        _draw_columns(page, maps.tokens[:shown], heads, side, TOP + layers * (side + GAP))
        # The version that matplotlib would add makes equal pictures differ.
        page.canvas.print_png(path, metadata={"Software": None})


def _draw_heading(page: Page, title: str, cut: str, width: int) -> None:
    page.text((20, 30), title, 16, weight="bold", room=width - 40)
    page.text((20, 62), CAPTION[0], 12, weight="bold", room=width - 40)
    page.text((20, 86), f"{CAPTION[1]} {cut}", 11, color=GREY, room=width - 40)


def _draw_layer(page: Page, weights: Tensor, tokens: list[str], top: float, side: float) -> None:
    cell = side / len(tokens)
    for number, token in enumerate(tokens):
        middle = top + (number + 0.5) * cell
        page.text((LEFT - 6, middle), token, min(10.0, 0.62 * cell), align="right", room=LEFT - 60)
    for head, values in enumerate(weights):
        page.shades(LEFT + head * (side + GAP), top, side, side, values.numpy(), largest=1.0)


def _draw_columns(page: Page, tokens: list[str], heads: int, side: float, bottom: float) -> None:
    cell = side / len(tokens)
    for head in range(heads):
        left = LEFT + head * (side + GAP)
        page.text((left + side / 2, TOP - 22), f"head {head + 1}", 12, color=GREY, align="center")
        for number, token in enumerate(tokens):
            page.upright(left + (number + 0.5) * cell, bottom, token[:16], min(10.0, 0.62 * cell), "#1A1A1A", "top")
