"""Accuracy by kind of text: how long it is, whether it negates, whether the model knows its words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from src.evaluation.answers import Answers
from src.evaluation.metrics import wilson_interval

MOST_LENGTHS = 6

# Words that turn an English sentence round, SST-2's spelling "do n't" included.
NEGATION = re.compile(
    r"\b(not|no|nor|none|never|neither|nobody|nothing|nowhere|cannot|without|hardly|barely|scarcely)\b|n['\u2019]t\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Group:
    """Some of the texts, and how many of them were answered right."""

    name: str
    n: int
    right: int

    @property
    def accuracy(self) -> float:
        """The fraction answered right."""
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the accuracy."""
        return wilson_interval(self.right, self.n)


def by_length(answers: Answers, most: int = MOST_LENGTHS) -> list[Group]:
    """Divides texts by their number of words into groups of about the same size.

    Args:
        answers: with the true labels.
        most: number of groups; fewer where many texts are of one length.

    Returns:
        The groups, the shortest texts first, named by their least and largest number of words.
    """
    lengths = np.array([len(text.split()) for text in _whole(answers)])
    # Quantiles that occur, so that texts of one length stay together.
    ends = np.unique(np.quantile(lengths, np.linspace(0, 1, most + 1)[1:], method="inverted_cdf"))
    owner, right = np.searchsorted(ends, lengths), np.array(answers.right)
    groups = []
    for number in np.unique(owner):
        inside = owner == number
        low, high = int(lengths[inside].min()), int(lengths[inside].max())
        name = f"{low}-{high}" if low < high else str(low)
        groups.append(Group(name, int(inside.sum()), int(right[inside].sum())))
    return groups


def by_negation(answers: Answers) -> list[Group]:
    """Divides texts by whether an English negation is in them; a group without texts is left out."""
    return _divided(answers, [NEGATION.search(text) is not None for text in _whole(answers)], "negation")


def by_unknown_words(answers: Answers) -> list[Group]:
    """Divides texts by whether they hold a token that the tokenizer does not know; none where that is not told."""
    return _divided(answers, [count > 0 for count in answers.unknown], "unknown word") if answers.unknown else []


def _whole(answers: Answers) -> list[str]:
    return (
        answers.texts if answers.pairs is None else list(map(" ".join, zip(answers.texts, answers.pairs, strict=True)))
    )


def _divided(answers: Answers, inside: Sequence[bool], what: str) -> list[Group]:
    names = {True: what, False: f"no {what}"}
    found = [
        (name, [right for right, one in zip(answers.right, inside, strict=True) if one is kind])
        for kind, name in names.items()
    ]
    return [Group(name, len(right), sum(right)) for name, right in found if right]
