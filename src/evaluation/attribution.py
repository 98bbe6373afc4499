"""Why this answer: every word's share in it, by integrated gradients (Sundararajan et al. 2017).

What is explained is the margin of the predicted class, its logit less the mean of the others' logits. It does not
change where all logits rise alike, as the answer does not; of two classes it is the logarithm of the answer's odds.
The path runs through the outputs of the embedding layer, from a text that says nothing to the text itself.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from src.data.tokenizer import encode, special_token_ids, tokenized_part
from src.evaluation.predictor import TOKENS_PER_BATCH, Prediction, Predictor
from src.utils.errors import CheckpointError, require_packages

# Gauss-Legendre points on the path: doubled until the contributions add up to this accuracy, or no more help.
FEWEST_STEPS, MOST_STEPS = 32, 1024
TOLERANCE = 0.01


# "don't" and "one-sided" are one word each; an ideograph is one alone, for no blanks stand between them.
_LETTERS = r"[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
_WORD = re.compile(rf"-[lr]rb-|{_LETTERS}(?:['\u2019-]{_LETTERS})*|\S", re.IGNORECASE)


@dataclass(frozen=True)
class Word:
    """A word of a text as a reader sees it."""

    before: str  # blanks
    text: str
    contribution: float | None  # None: the model did not read it


@dataclass(frozen=True)
class Explanation:
    """How a prediction came about: margin = baseline + the contributions of all words, but for an error."""

    prediction: Prediction
    words: list[list[Word]]  # of the text and, if there is one, its pair
    margin: float  # of the predicted class, in nats
    baseline: float  # the same class's margin where every word is replaced by [MASK]
    steps: int

    @property
    def error(self) -> float:
        """The completeness error: by how much the contributions miss their sum, relative to that sum."""
        total = sum(word.contribution or 0.0 for words in self.words for word in words)
        return _error(total, self.margin - self.baseline)


@dataclass(frozen=True)
class _Window:
    """What the model reads of a text at once, and the same without its words."""

    input_ids: Tensor  # int64 (1, T)
    baseline_ids: Tensor  # int64 (1, T)
    token_type_ids: Tensor | None  # int64 (1, T)
    offset_mapping: list[tuple[int, int, int] | None]  # T of them


def explain(predictor: Predictor, prediction: Prediction) -> Explanation:
    """Shares a prediction among the words of its text.

    The baseline keeps [CLS], [SEP] and all positions, and has [MASK] for every other token: pre-training taught the
    model that some word stands there, whereas it never attended to a [PAD], so what it makes of one is chance.

    Args:
        predictor: the model that predicted.
        prediction: of a text that is not blank.

    Returns:
        The explanation. Where the class's margin is nearly that of the baseline, its error may exceed `TOLERANCE`.

    Raises:
        CheckpointError: the tokenizer has neither [MASK] nor [PAD].
        UsageError: captum is not installed.
    """
    require_packages("an explanation", "captum")
    windows = _windows(predictor, prediction)
    logits = _logits(predictor, [(window.input_ids, window.token_type_ids) for window in windows])  # (C,)
    without_words = _logits(predictor, [(window.baseline_ids, window.token_type_ids) for window in windows])
    weights = _margin_weights(logits)
    margin, baseline = float(logits @ weights), float(without_words @ weights)
    shares, steps = _accurate_shares(predictor, windows, weights, margin - baseline)
    words = _words(predictor, prediction, [window.offset_mapping for window in windows], shares)
    return Explanation(prediction, words, margin, baseline, steps)


def _windows(predictor: Predictor, prediction: Prediction) -> list[_Window]:
    classifier = predictor.classifier
    texts, pairs = [prediction.text], None if prediction.pair is None else [prediction.pair]
    dataset = predictor.dataset(texts, pairs=pairs)
    reading = classifier.seq_len, pairs, classifier.long_text
    mapping = encode(classifier.tokenizer, texts, *reading, return_offsets=True).offset_mapping
    blank = _blank_id(predictor)
    windows = []
    for index, offsets in enumerate(mapping):
        ids = dataset.input_ids[index][None].to(predictor.device)  # (1, T)
        types = None if dataset.token_type_ids is None else dataset.token_type_ids[index][None].to(predictor.device)
        is_word = torch.tensor([[place is not None for place in offsets]], device=predictor.device)  # (1, T)
        windows.append(_Window(ids, ids.masked_fill(is_word, blank), types, offsets))
    return windows


def _blank_id(predictor: Predictor) -> int:
    special = special_token_ids(predictor.classifier.tokenizer)
    blank_id = special.get("mask_token", special.get("pad_token"))
    if blank_id is None:
        raise CheckpointError("the tokenizer has neither [MASK] nor [PAD], of which a text without words could be made")
    return blank_id


def _margin_weights(logits: Tensor) -> Tensor:
    """Returns the weights (C,) whose product with logits (C,) is the margin of their largest."""
    weights = torch.full_like(logits, -1 / max(len(logits) - 1, 1))
    weights[logits.argmax()] = 1.0
    return weights


@torch.no_grad()
def _logits(predictor: Predictor, inputs: list[tuple[Tensor, Tensor | None]]) -> Tensor:
    """Returns the mean of the windows' logits, (C,), which are a text's."""
    return torch.cat([predictor.model(ids, None, types) for ids, types in inputs]).mean(0)


def _accurate_shares(
    predictor: Predictor, windows: list[_Window], weights: Tensor, wanted: float
) -> tuple[list[Tensor], int]:
    """Integrates with as many steps as it takes, and says how many these were."""
    steps = FEWEST_STEPS
    while True:
        shares = [_integrate(predictor, window, weights, steps) / len(windows) for window in windows]
        if steps >= MOST_STEPS or _error(float(torch.cat(shares).sum()), wanted) < TOLERANCE:
            return shares, steps
        steps *= 2


def _integrate(predictor: Predictor, window: _Window, weights: Tensor, steps: int) -> Tensor:
    """Computes the contributions (T,) of a window's tokens to its margin."""
    from captum.attr import LayerIntegratedGradients

    def margin(ids: Tensor, types: Tensor | None) -> Tensor:
        return predictor.model(ids, None, types) @ weights  # (B,)

    T = window.input_ids.shape[1]
    attributions = LayerIntegratedGradients(margin, predictor.model.bert.embedding).attribute(
        window.input_ids,
        baselines=window.baseline_ids,
        additional_forward_args=(window.token_type_ids,),
        n_steps=steps,
        method="gausslegendre",
        internal_batch_size=max(1, TOKENS_PER_BATCH[predictor.device.type] // T),
    )  # (1, T, D)
    return attributions[0].sum(-1).detach().cpu()


def _error(total: float, wanted: float) -> float:
    difference = abs(total - wanted)
    return difference / abs(wanted) if wanted else difference


def _words(
    predictor: Predictor,
    prediction: Prediction,
    mapping: list[list[tuple[int, int, int] | None]],
    shares: list[Tensor],
) -> list[list[Word]]:
    classifier = predictor.classifier
    found = []
    for number, text in enumerate(one for one in (prediction.text, prediction.pair) if one is not None):
        tokens = [
            (*place[1:], share)
            for offsets, values in zip(mapping, shares, strict=True)
            for place, share in zip(offsets, values.tolist(), strict=True)
            if place is not None and place[0] == number
        ]
        found.append(share_among_words(tokenized_part(text, classifier.seq_len, classifier.long_text), tokens))
    return found


def share_among_words(text: str, tokens: Sequence[tuple[int, int, float]]) -> list[Word]:
    """Sums the contributions of tokens to those of the words they are pieces of.

    Args:
        text: any string.
        tokens: first and last character (excluded) and contribution of every token. Where a token is more than a word,
            as tokenizers that undo "ca n't" make them, these words are taken for one.

    Returns:
        The words, which together are the text but for blanks at its end.
    """
    cuts = {place for word in _WORD.finditer(text) for place in word.span()}
    cuts -= {place for start, end, _ in tokens for place in range(start + 1, end)}
    spans = [(start, end) for start, end in pairwise(sorted(cuts)) if not text[start:end].isspace()]
    shares: dict[int, float] = {}
    for start, _, share in tokens:
        # The first word that ends after the token's start: a token of no width belongs to what it precedes.
        index = min(bisect_right(spans, start, key=lambda span: span[1]), len(spans) - 1)
        shares[index] = shares.get(index, 0.0) + share
    ends = [0, *(end for _, end in spans)]
    return [
        Word(text[before:start], text[start:end], shares.get(index))
        for index, (before, (start, end)) in enumerate(zip(ends, spans, strict=False))
    ]
