"""Why this prediction: every word's share in it, by integrated gradients (Sundararajan et al. 2017).

What is explained is the margin of the predicted class, its logit less the mean of the others' logits. It does not
change where all logits rise alike, as the prediction does not; of two classes it is the logarithm of the odds. In
regression and multi-label classification it is the logit alone.
The path runs through the outputs of the embedding layer, from a text that says nothing to the text itself.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import torch
from torch import Tensor

from src.data.tokenizer import encode, special_token_ids, tokenized_part
from src.evaluation.predictor import TOKENS_PER_BATCH, Prediction, Predictor
from src.utils.config import SINGLE_LABEL
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


def explain(predictor: Predictor, prediction: Prediction) -> Explanation:
    """Shares a prediction, of a text that is not blank, among the words of its text.

    The baseline keeps [CLS], [SEP] and all positions, and has [MASK] for every other token: pre-training taught the
    model that some word stands there, whereas it never attended to a [PAD], so what it makes of one is chance. Where
    the class's margin is nearly that of the baseline, the error may exceed `TOLERANCE`.
    """
    require_packages("an explanation", "captum")
    from captum.attr import LayerIntegratedGradients

    classifier, model, device = predictor.classifier, predictor.model, predictor.device
    special = special_token_ids(classifier.tokenizer)
    blank_id = special.get("mask_token", special.get("pad_token"))
    if blank_id is None:
        raise CheckpointError("the tokenizer has neither [MASK] nor [PAD], of which a text without words could be made")
    texts = [prediction.text] if prediction.pair is None else [prediction.text, prediction.pair]
    reading = classifier.seq_len, texts[1:] or None, classifier.long_text
    encoded = encode(classifier.tokenizer, texts[:1], *reading, return_offsets=True)
    windows = []
    for ids, types, offsets in zip(encoded.input_ids, encoded.token_type_ids, encoded.offset_mapping, strict=True):
        input_ids = torch.tensor([ids], device=device)  # (1, T)
        is_word = torch.tensor([[place is not None for place in offsets]], device=device)  # (1, T)
        token_type_ids = None if prediction.pair is None else torch.tensor([types], device=device)  # (1, T)
        windows.append((input_ids, input_ids.masked_fill(is_word, blank_id), token_type_ids))

    with torch.no_grad():  # of several windows, the mean of their logits
        logits = torch.cat([model(ids, None, types) for ids, _, types in windows]).mean(0)  # (C,)
        without_words = torch.cat([model(ids, None, types) for _, ids, types in windows]).mean(0)  # (C,)
    stands_alone = len(logits) == 1 or model.config.problem_type not in SINGLE_LABEL  # not compared with other classes
    weights = torch.full_like(logits, 0.0 if stands_alone else -1 / (len(logits) - 1))  # (C,)
    weights[logits.argmax()] = 1.0
    margin, baseline = float(logits @ weights), float(without_words @ weights)

    gradients = LayerIntegratedGradients(lambda ids, types: model(ids, None, types) @ weights, model.bert.embedding)

    def contributions(steps: int) -> Tensor:
        shares = []  # of each window's tokens, (T,)
        for input_ids, baseline_ids, types in windows:
            rows = max(1, TOKENS_PER_BATCH[device.type] // input_ids.shape[1])
            options = {"n_steps": steps, "method": "gausslegendre", "internal_batch_size": rows}
            attributions = gradients.attribute(input_ids, baseline_ids, None, (types,), **options)  # (1, T, D)
            shares.append(attributions[0].sum(-1).detach().cpu() / len(windows))
        return torch.cat(shares)

    steps, shares = FEWEST_STEPS, contributions(FEWEST_STEPS)
    while steps < MOST_STEPS and _error(float(shares.sum()), margin - baseline) >= TOLERANCE:
        steps *= 2
        shares = contributions(steps)

    tokens: list[list[tuple[int, int, float]]] = [[] for _ in texts]
    for place, share in zip(chain(*encoded.offset_mapping), shares.tolist(), strict=True):
        if place is not None:
            number, *span = place
            tokens[number].append((*span, share))
    parts = [tokenized_part(text, classifier.seq_len, classifier.long_text) for text in texts]
    return Explanation(prediction, list(map(share_among_words, parts, tokens)), margin, baseline, steps)


def _error(total: float, wanted: float) -> float:
    return abs(total - wanted) / (abs(wanted) or 1.0)


def share_among_words(text: str, tokens: Sequence[tuple[int, int, float]]) -> list[Word]:
    """Sums the contributions of tokens, each with its start and end in the text, to those of the words they belong to.

    Where a token is more than a word, as tokenizers that undo "ca n't" make them, these words are taken for one.
    """
    cuts = {0, len(text)} | {place for word in _WORD.finditer(text) for place in word.span()}
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
