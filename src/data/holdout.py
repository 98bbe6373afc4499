"""Held-out training phrases for choosing hyper-parameters, split so that nothing leaks.

SST-2's training set holds a sentence and most phrases inside it. A random split would put a sentence on one side and
its phrases on the other. This split works on maximal phrases, those contained in no other: whole ones are set aside,
and with them every phrase that occurs in no other sentence, just as the validation sentences' phrases are absent from
the training set unless another sentence holds them too.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np


def maximal_phrases(texts: Sequence[str]) -> dict[str, set[str]]:
    """Finds for each distinct phrase the maximal phrases that contain it.

    Args:
        texts: phrases; words are separated by blanks.

    Returns:
        Phrase to the maximal phrases it occurs in as consecutive words; a maximal phrase maps to itself alone.
    """
    distinct = {" ".join(text.split()) for text in texts}
    containers: dict[str, set[str]] = defaultdict(set)
    for phrase in sorted(distinct, key=lambda phrase: (-len(phrase.split()), phrase)):
        if phrase in containers:
            continue
        words = phrase.split()
        for start in range(len(words)):
            for stop in range(start + 1, len(words) + 1):
                if (part := " ".join(words[start:stop])) in distinct:
                    containers[part].add(phrase)
    return containers


def hold_out(texts: Sequence[str], fraction: float, seed: int = 0) -> tuple[list[int], list[int]]:
    """Splits phrases into a training part and held-out maximal phrases.

    Args:
        texts: phrases.
        fraction: of the maximal phrases to hold out.
        seed: of the draw.

    Returns:
        Indices to train on, and indices of the held-out maximal phrases. Phrases that occur in held-out maximal
        phrases only are in neither.
    """
    containers = maximal_phrases(texts)
    maximal = sorted({phrase for inside in containers.values() for phrase in inside})
    drawn = np.random.default_rng(seed).permutation(len(maximal))[: round(fraction * len(maximal))]
    held_out = {maximal[index] for index in drawn}
    train, heldout = [], []
    for index, text in enumerate(texts):
        phrase = " ".join(text.split())
        if phrase in held_out:
            heldout.append(index)
        elif not containers[phrase] <= held_out:
            train.append(index)
    return train, heldout
