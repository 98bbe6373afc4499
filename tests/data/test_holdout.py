import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data.holdout import hold_out, maximal_phrases
from src.data.sources import open_corpus
from src.utils.config import REPOSITORY, DataConfig

phrases = st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6).map(" ".join), min_size=1, max_size=25)


def inside(part: str, whole: str) -> bool:
    return f" {' '.join(part.split())} " in f" {' '.join(whole.split())} "


def test_maximal_phrases_of_a_nested_example() -> None:
    texts = ["a dull lifeless film", "dull lifeless", "a  film", "film", "lively film", "lively  film", "life"]
    assert maximal_phrases(texts) == {
        "a dull lifeless film": {"a dull lifeless film"},
        "dull lifeless": {"a dull lifeless film"},
        "a film": {"a film"},  # words of the first, but not side by side
        "film": {"a dull lifeless film", "a film", "lively film"},
        "lively film": {"lively film"},
        "life": {"life"},  # no word of any other
    }


def test_no_phrases_are_looked_for_in_a_document() -> None:
    words = [f"w{number}" for number in range(65)]
    for length, contained in ((64, True), (65, False)):
        whole, part = " ".join(words[:length]), "w3 w4"
        assert (maximal_phrases([part, whole])[part] == {whole}) == contained


@given(phrases, st.floats(0, 1), st.integers(0, 1000))
def test_whole_maximal_phrases_are_held_out_with_what_occurs_nowhere_else(
    texts: list[str], fraction: float, seed: int
) -> None:
    train, held_out = hold_out(texts, fraction, seed)
    maximal = {text for text in texts if not any(inside(text, other) and other != text for other in texts)}
    held = {texts[index] for index in held_out}
    assert held <= maximal
    for index, text in enumerate(texts):
        wholes = {whole for whole in maximal if inside(text, whole)}
        assert (index in held_out) == (text in held)
        assert (index in train) == (text not in held and not wholes <= held)


def test_the_seed_fixes_the_fraction_of_distinct_phrases_whatever_the_order_of_texts() -> None:
    texts = [f"w{index}" for index in range(200)] * 2
    train, held_out = hold_out(texts, 0.1, 1)
    assert len(held_out) == 40 and len({texts[index] for index in held_out}) == 20 and len(train) == 360
    assert hold_out(texts, 0.1, 2)[1] != held_out == [399 - index for index in hold_out(texts[::-1], 0.1, 1)[1]][::-1]


def test_another_process_draws_the_same_phrases() -> None:
    # Sets of strings have another order in every process.
    code = "from src.data.holdout import *; print(hold_out([f'w{i} x w{i % 7}' for i in range(50)] + ['x'], 0.5))"
    one, other = (
        subprocess.check_output([sys.executable, "-c", code], cwd=REPOSITORY, env=os.environ | {"PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    )
    assert one == other


@pytest.mark.skipif("SST2_DIR" not in os.environ, reason="needs SST-2: set SST2_DIR to a folder that holds it")
def test_sst2_has_its_known_size_and_balance_and_6886_maximal_phrases_of_133442_words() -> None:
    train, validation = open_corpus(DataConfig()).splits.values()
    assert (len(train.texts), len(validation.texts)) == (67_349, 872)
    assert (sum(train.labels), sum(validation.labels)) == (37_569, 444)
    containers = maximal_phrases(train.texts)
    maximal = {phrase for phrase, wholes in containers.items() if phrase in wholes}
    assert (len(maximal), sum(len(phrase.split()) for phrase in maximal)) == (6886, 133_442)
