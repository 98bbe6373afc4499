from dataclasses import replace

import numpy as np
import pandas as pd  # type: ignore[import-untyped, unused-ignore]

from src.evaluation.groups import NEGATION, Group, by_length, by_negation, by_unknown_words
from src.evaluation.metrics import wilson_interval
from tests.evaluation.some_answers import FEW, drawn, in_pairs


def test_groups_of_length_are_those_of_pandas() -> None:
    answers = drawn(n=997)
    frame = pd.DataFrame({"length": [text.count(" ") + 1 for text in answers.texts], "right": answers.right})
    ends = frame["length"].quantile(np.linspace(0, 1, 7), interpolation="lower").unique()
    expected = frame.groupby(pd.cut(frame["length"], ends, include_lowest=True), observed=True)
    names = [f"{low}-{high}" for low, high in expected["length"].agg(["min", "max"]).to_numpy()]
    groups = by_length(answers)
    assert [group.name for group in groups] == names
    assert [group.n for group in groups] == expected.size().tolist()
    np.testing.assert_allclose([group.accuracy for group in groups], expected["right"].mean())
    assert max(group.n for group in groups) < 2 * min(group.n for group in groups)


def test_texts_of_one_length_stay_together() -> None:
    texts = ["one"] * 4 + ["one two three"]
    assert by_length(replace(FEW, texts=texts)) == [Group("1", 4, 3), Group("3", 1, 0)]
    (group,) = by_length(replace(FEW, texts=["one"] * 5))
    assert group == Group("1", 5, 3) and group.interval == wilson_interval(3, 5)


def test_negation_and_unknown_words_are_found_by_hand() -> None:
    assert by_negation(FEW) == [Group("negation", 3, 2), Group("no negation", 2, 1)]
    assert by_negation(in_pairs()) == [Group("negation", 4, 3), Group("no negation", 1, 0)]
    assert by_negation(replace(FEW, texts=["fine"] * 5)) == [Group("no negation", 5, 3)]
    assert by_unknown_words(FEW) == [Group("unknown word", 2, 1), Group("no unknown word", 3, 2)]
    assert by_unknown_words(replace(FEW, unknown=None)) == []


def test_what_negates_and_what_does_not() -> None:
    for text in ("ca n't", "Don't!", "don\u2019t", "NEVER mind", "cannot", "neither", "not-so-good"):
        assert NEGATION.search(text), text
    for text in ("a notable film", "knot", "know", "nothingness", "an anticlimax", "cant", "nob"):
        assert not NEGATION.search(text), text
