from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import RobertaTokenizer

from src.data.tokenizer import (
    CHARACTERS_IN_WINDOWS,
    CHARACTERS_PER_TOKEN,
    EncodedTexts,
    build_tokenizer,
    encode,
    tokenized_part,
)
from src.utils.config import LongText, TokenizerConfig

MODES: tuple[LongText, ...] = ("truncate", "head-tail", "windows")
WORDS = [f"w{index:02}" for index in range(60)]
every_mode = pytest.mark.parametrize("long_text", MODES)


def roberta_like() -> Tokenizer:
    trained: Any = RobertaTokenizer(add_prefix_space=True).train_new_from_iterator([" ".join(WORDS)] * 3, 500)
    return Tokenizer.from_str(trained.backend_tokenizer.to_str())


def build(kind: Any) -> Tokenizer:
    return build_tokenizer([" ".join(WORDS)] * 3, TokenizerConfig(tokenizer=kind, min_frequency=1), 1000)


TOKENIZERS = {"wordlevel": build("wordlevel"), "wordpiece": build("wordpiece"), "byte-level": roberta_like()}
WORDLEVEL = TOKENIZERS["wordlevel"]


def read(text: str, seq_len: int, long_text: LongText = "truncate", pair: str | None = None) -> EncodedTexts:
    return encode(WORDLEVEL, [text], seq_len, None if pair is None else [pair], long_text, return_offsets=True)


def windows(encoded: EncodedTexts) -> list[str]:
    return [" ".join(str(WORDLEVEL.id_to_token(index)) for index in ids) for ids in encoded.input_ids]


def words(count: int, start: int = 0) -> str:
    return " ".join(WORDS[start : start + count])


@pytest.mark.parametrize(
    ("seq_len", "long_text", "expected"),
    [
        *((11, long_text, [words(9)]) for long_text in MODES),
        (6, "truncate", ["w00 w01 w02 w03"]),
        (6, "windows", ["w00 w01 w02 w03", "w04 w05 w06 w07", "w08"]),
        (2, "windows", [""]),  # no room
        (3, "head-tail", ["w00"]),
        (4, "head-tail", ["w00 w08"]),
        (5, "head-tail", ["w00 w01 w08"]),
        (8, "head-tail", ["w00 w01 w02 w06 w07 w08"]),
    ],
)
def test_a_text_that_is_too_long_is_cut_or_read_in_windows(
    seq_len: int, long_text: LongText, expected: list[str]
) -> None:
    found = read(words(9), seq_len, long_text)
    assert windows(found) == [f"[CLS] {window} [SEP]".replace("  ", " ") for window in expected]
    assert found.truncated == [long_text != "windows" and seq_len < 11]
    assert found.token_type_ids == [[0] * len(ids) for ids in found.input_ids]


@every_mode
def test_texts_are_encoded_in_order_and_independently(long_text: LongText) -> None:
    texts = [words(20), "w01", "", words(9, 3)]
    together, alone = encode(WORDLEVEL, texts, 7, None, long_text), [read(text, 7, long_text) for text in texts]
    counts = [len(each.input_ids) for each in alone]
    assert together.overflow_to_sample_mapping == [text for text, count in enumerate(counts) for _ in range(count)]
    for name in ("input_ids", "token_type_ids", "truncated", "unknown"):
        assert getattr(together, name) == [value for each in alone for value in getattr(each, name)]
    assert together.offset_mapping == []  # unless asked for
    assert encode(WORDLEVEL, [], 7, None, long_text) == encode(WORDLEVEL, [], 7, [], long_text) == EncodedTexts()


@every_mode
def test_a_text_of_which_no_word_that_is_read_is_known_is_flagged(long_text: LongText) -> None:
    late = "xyzzy " * 9 + "w01"
    for text, unknown in (("xyzzy plugh", True), ("xyzzy w01", False), ("", False), (late, long_text == "truncate")):
        assert read(text, 6, long_text).unknown == [unknown]


@every_mode
def test_a_text_some_of_whose_characters_were_never_looked_at_is_flagged(long_text: LongText) -> None:
    limit = CHARACTERS_IN_WINDOWS if long_text == "windows" else 10 * CHARACTERS_PER_TOKEN
    for length, truncated in ((limit, False), (limit + 1, True)):
        text = "w00".ljust(length - 3) + "w01"
        assert read(text, 10, long_text).truncated == read("w00", 10, long_text, pair=text).truncated == [truncated]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_truncated_pair_is_what_tokenizers_itself_keeps(kind: str) -> None:
    theirs = Tokenizer.from_str(TOKENIZERS[kind].to_str())
    theirs.enable_truncation(12)
    for first, second in ((3, 3), (9, 9), (20, 2), (2, 20), (20, 9), (5, 6)):
        text, pair = words(first), words(second, 30)
        wanted, found = theirs.encode(text, pair), encode(TOKENIZERS[kind], [text], 12, [pair])
        assert (found.input_ids, found.token_type_ids) == ([wanted.ids], [wanted.type_ids])
    with pytest.raises(ValueError, match="shorter"):
        encode(TOKENIZERS[kind], ["a", "b"], 8, ["a"])


@pytest.mark.parametrize("counts", [(40, 2), (2, 40), (30, 30), (30, 12)])
def test_windows_of_a_pair_hold_every_word_and_the_shorter_text_stays_whole(counts: tuple[int, int]) -> None:
    encoded = read(words(counts[0]), 11, "windows", pair=words(counts[1], 20))
    found = windows(encoded)
    pairs = [window[len("[CLS] ") : -len(" [SEP]")].split(" [SEP] ") for window in found]
    for (one, other), types in zip(pairs, encoded.token_type_ids, strict=True):
        ends = len(one.split()) + 2, len(other.split()) + 1
        assert types == [0] * ends[0] + [1] * ends[1] and sum(ends) <= 11
    sides = [list(dict.fromkeys(side)) for side in zip(*pairs, strict=True)]  # without repetitions
    assert [" ".join(side) for side in sides] == [words(counts[0]), words(counts[1], 20)]
    assert len(found) == max(map(len, sides)) == len(set(found))
    assert min(counts) > 4 or min(map(len, sides)) == 1


def test_head_tail_of_a_pair_keeps_both_ends_of_both() -> None:
    found = read(words(30), 11, "head-tail", pair=words(30, 30))
    assert windows(found) == ["[CLS] w00 w01 w28 w29 [SEP] w30 w31 w58 w59 [SEP]"]
    huge = read("w00", 7, "head-tail", pair=f"w01 w02 {'w03 ' * 1000} w04 w05")
    assert windows(huge) == ["[CLS] w00 [SEP] w01 w02 w05 [SEP]"]


@given(
    text=st.text(st.characters(codec=None), max_size=40),
    pair=st.none() | st.text(max_size=20),
    long_text=st.sampled_from(MODES),
    kind=st.sampled_from(list(TOKENIZERS)),
)
def test_any_string_is_encoded_even_half_surrogate_pairs(
    text: str, pair: str | None, long_text: LongText, kind: str
) -> None:
    tokenizer, frame = TOKENIZERS[kind], ("<s>", "</s>") if kind == "byte-level" else ("[CLS]", "[SEP]")
    found = encode(tokenizer, [text, "\udcff" + text], 9, None if pair is None else [pair, pair], long_text)
    for ids, types in zip(found.input_ids, found.token_type_ids, strict=True):
        assert 2 <= len(ids) == len(types) <= 9
        assert all(0 <= index < tokenizer.get_vocab_size() for index in ids)
        assert {ids[0], ids[-1]} <= set(map(tokenizer.token_to_id, frame))


@given(
    text=st.text(st.sampled_from("w012 .x"), max_size=200),
    seq_len=st.integers(3, 20),
    kind=st.sampled_from(list(TOKENIZERS)),
)
def test_windows_together_hold_every_token_of_the_text(text: str, seq_len: int, kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    found = encode(tokenizer, [text], seq_len, None, "windows").input_ids
    tokenizer.no_truncation()
    assert all([ids[0], ids[-1]] == tokenizer.encode("").ids for ids in found)
    assert [index for ids in found for index in ids[1:-1]] == tokenizer.encode(text, add_special_tokens=False).ids
    assert all(len(ids) == seq_len for ids, _ in pairwise(found))


@every_mode
@pytest.mark.parametrize("pair", [None, words(9, start=30)])
def test_every_token_of_every_window_is_found_in_its_text(long_text: LongText, pair: str | None) -> None:
    texts = (words(23), pair or "")
    found = read(texts[0], 11, long_text, pair)
    assert len(found.offset_mapping) == len(found.input_ids) > (long_text == "windows")
    for offsets, window in zip(found.offset_mapping, windows(found), strict=True):
        spelled = ["" if place is None else texts[place[0]][place[1] : place[2]] for place in offsets]
        assert spelled == [token if token.startswith("w") else "" for token in window.split()]
    # Of a spelled-out bracket `tokenizers` gives the last character.
    assert read("W01  -lrb- w02", 9).offset_mapping == [[None, (0, 0, 3), (0, 9, 10), (0, 11, 14), None]]
    text = "w01 " * CHARACTERS_IN_WINDOWS  # of which a part is tokenized
    part = tokenized_part(text, 7, long_text)
    assert len(part) == (CHARACTERS_IN_WINDOWS if long_text == "windows" else 7 * CHARACTERS_PER_TOKEN)
    places = [place for offsets in read(text, 7, long_text).offset_mapping for place in offsets if place]
    assert len(places) > 4 and {part[start:end] for _, start, end in places} == {"w01"}
