"""Held-out training phrases for choosing hyper-parameters, split so that nothing leaks.

SST-2's training set holds a sentence and most phrases inside it. A random split would put a sentence on one side and
its phrases on the other. This split works on maximal phrases, those contained in no other: whole ones are held out, and
with them every phrase that occurs in no other sentence, just as the validation sentences' phrases are absent from the
training set unless another sentence holds them too.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

LONGEST_PHRASE = 64  # words; a longer text is a document, in which no phrases are looked for


def maximal_phrases(texts: Sequence[str]) -> dict[str, set[str]]:
    """Maps each distinct phrase to the maximal phrases that contain its words side by side; a maximal one to itself."""
    distinct = {" ".join(text.split()) for text in texts}
    containers: dict[str, set[str]] = defaultdict(set)
    for phrase in sorted(distinct, key=lambda phrase: (-len(phrase.split()), phrase)):
        if phrase in containers:
            continue
        containers[phrase].add(phrase)
        words = phrase.split()
        for start in range(len(words) if len(words) <= LONGEST_PHRASE else 0):
            for stop in range(start + 1, len(words) + 1):
                if (part := " ".join(words[start:stop])) in distinct:
                    containers[part].add(phrase)
    return containers


def hold_out(texts: Sequence[str], fraction: float, seed: int = 0) -> tuple[list[int], list[int]]:
    """Draws this fraction of the maximal phrases; returns the indices to train on, and those of the drawn phrases.

    Phrases that occur in drawn phrases only are in neither.
    """
    containers = maximal_phrases(texts)
    maximal = sorted({phrase for inside in containers.values() for phrase in inside})
    drawn = np.random.default_rng(seed).permutation(len(maximal))[: round(fraction * len(maximal))]
    held_out = {maximal[index] for index in drawn}
    phrases = [" ".join(text.split()) for text in texts]
    train = [index for index, phrase in enumerate(phrases) if not containers[phrase] <= held_out]
    return train, [index for index, phrase in enumerate(phrases) if phrase in held_out]
