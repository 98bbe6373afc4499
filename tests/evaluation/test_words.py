from hypothesis import given
from hypothesis import strategies as st

from src.evaluation.words import Word, share_among_words


def spelled(text: str, *tokens: tuple[int, int, float]) -> list[tuple[str, float | None]]:
    return [(word.text, word.contribution) for word in share_among_words(text, tokens)]


def test_words_are_what_a_reader_takes_for_words() -> None:
    for text, words in {
        "a fine film.": ["a", "fine", "film", "."],
        "It's one-sided, isn't it?": ["It's", "one-sided", ",", "isn't", "it", "?"],
        "it 's (good)": ["it", "'s", "(", "good", ")"],
        "-lrb- `` Fine '' -RRB-": ["-lrb-", "``", "Fine", "''", "-RRB-"],
        "'quoted' \u201ctoo\u201d": ["'", "quoted", "'", "\u201c", "too", "\u201d"],
        "na\u0308ive \u0e01\u0e33": ["na\u0308ive", "\u0e01\u0e33"],
        "\u4e2d\u6587 ok": ["\u4e2d", "\u6587", "ok"],
    }.items():
        assert [word for word, _ in spelled(text)] == words


def test_pieces_of_a_word_and_words_under_one_token_are_summed() -> None:
    found = spelled("a gripping film", (0, 1, 0.5), (2, 6, 1.0), (6, 10, -0.25), (11, 15, 2.0))
    assert found == [("a", 0.5), ("gripping", 0.75), ("film", 2.0)]
    assert spelled("I ca n't", (0, 1, 1.0), (2, 6, 2.0), (6, 7, 3.0), (7, 8, 4.0)) == [("I", 1.0), ("ca n't", 9.0)]
    assert spelled("x \U0001f600", (0, 1, 1.0), (2, 3, 2.0), (2, 3, 3.0)) == [("x", 1.0), ("\U0001f600", 5.0)]


def test_a_word_without_a_token_was_not_read() -> None:
    assert spelled("one two", (0, 3, 1.0)) == [("one", 1.0), ("two", None)]


def test_a_token_of_no_width_belongs_to_the_word_it_precedes_or_else_to_the_last() -> None:
    assert spelled("one two", (0, 3, 1.0), (4, 4, 2.0), (4, 7, 4.0)) == [("one", 1.0), ("two", 6.0)]
    assert spelled("one  ", (0, 3, 1.0), (4, 4, 2.0))[0] == ("one", 3.0)
    assert sum(share or 0 for _, share in spelled("  ", (1, 1, 2.0))) == 2.0


def test_blanks_stand_before_words() -> None:
    assert share_among_words(" a\t b\n", [(1, 2, 1.0)]) == [
        Word(" ", "a", 1.0),
        Word("\t ", "b", None),
        Word("\n", "", None),
    ]


@given(st.text(max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=12))
def test_words_are_the_text_and_no_contribution_is_lost(text: str, spans: list[tuple[int, int]]) -> None:
    tokens = [(min(span), max(span), 2.0**number) for number, span in enumerate(spans) if max(span) <= len(text)]
    words = share_among_words(text, tokens)
    assert "".join(word.before + word.text for word in words) == text
    if words:
        assert sum(word.contribution or 0.0 for word in words) == sum(share for _, _, share in tokens)
