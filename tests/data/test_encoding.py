import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import RobertaProcessing
from tokenizers.trainers import BpeTrainer

from src.data.encoding import (
    CHARACTERS_IN_WINDOWS,
    CHARACTERS_PER_TOKEN,
    EncodedText,
    Place,
    Window,
    encode,
    locate,
    tokenized_part,
)
from src.data.tokenizer import build_tokenizer
from src.utils.config import LongText, TokenizerConfig

MODES: tuple[LongText, ...] = ("truncate", "head-tail", "windows")
WORDS = [f"w{index:02}" for index in range(60)]
KINDS = ("wordlevel", "wordpiece", "byte-level")
every_mode = pytest.mark.parametrize("long_text", MODES)


def roberta_like() -> Tokenizer:
    tokenizer = Tokenizer(BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = BpeTrainer(
        vocab_size=500, special_tokens=special, show_progress=False, initial_alphabet=ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    tokenizer.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def build(kind: str) -> Tokenizer:
    if kind == "byte-level":
        return roberta_like()
    config = TokenizerConfig(tokenizer=kind, min_frequency=1)  # type: ignore[arg-type]
    return build_tokenizer([" ".join(WORDS)] * 3, config, 1000)


TOKENIZERS = {kind: build(kind) for kind in KINDS}
WORDLEVEL = TOKENIZERS["wordlevel"]


def read(text: str, seq_len: int, long_text: LongText = "truncate", pair: str | None = None) -> EncodedText:
    (found,) = encode(WORDLEVEL, [text], seq_len, None if pair is None else [pair], long_text)
    return found


def tokens(window: Window) -> str:
    return " ".join(str(WORDLEVEL.id_to_token(index)) for index in window.input_ids)


def words(count: int, start: int = 0) -> str:
    return " ".join(WORDS[start : start + count])


# One text


@every_mode
@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_text_that_fits_is_one_whole_window_whatever_the_mode(count: int, long_text: LongText) -> None:
    found = read(words(count), 6, long_text)
    assert [tokens(window) for window in found.windows] == [f"[CLS] {words(count)} [SEP]".replace("  ", " ")]
    assert found.windows[0].token_type_ids == [0] * (count + 2) and not found.truncated


def test_truncate_keeps_the_first_words_and_the_frame() -> None:
    found = read(words(5), 6)
    assert [tokens(window) for window in found.windows] == [f"[CLS] {words(4)} [SEP]"] and found.truncated


@pytest.mark.parametrize(("seq_len", "head", "tail"), [(3, 1, 0), (4, 1, 1), (5, 2, 1), (6, 2, 2), (13, 6, 5)])
def test_head_tail_keeps_the_frame_and_both_ends_in_exactly_seq_len_tokens(seq_len: int, head: int, tail: int) -> None:
    found = read(words(60), seq_len, "head-tail")
    wanted = ["[CLS]", *WORDS[:head], *WORDS[60 - tail :], "[SEP]"]
    assert [tokens(window).split() for window in found.windows] == [wanted] and len(wanted) == seq_len
    assert found.truncated


@pytest.mark.parametrize("seq_len", [3, 4, 7, 61])
def test_windows_hold_every_word_once_in_order_each_framed(seq_len: int) -> None:
    found = read(words(60), seq_len, "windows")
    framed = [tokens(window).split() for window in found.windows]
    assert all(window[0] == "[CLS]" and window[-1] == "[SEP]" and len(window) <= seq_len for window in framed)
    assert [word for window in framed for word in window[1:-1]] == WORDS
    assert [len(window) for window in framed[:-1]] == [seq_len] * (len(framed) - 1) and len(framed) > 1
    assert not found.truncated


@every_mode
def test_texts_are_encoded_in_order_and_independently(long_text: LongText) -> None:
    texts = [words(20), "w01", "", words(9, 3)]
    together = encode(WORDLEVEL, texts, 7, None, long_text)
    assert together == [read(text, 7, long_text) for text in texts]


@every_mode
def test_the_tokenizer_truncates_to_seq_len_afterwards(long_text: LongText) -> None:
    tokenizer = Tokenizer.from_str(WORDLEVEL.to_str())
    tokenizer.enable_padding(length=50)
    tokenizer.enable_truncation(4)
    assert len(encode(tokenizer, [words(6)], 9, None, long_text)[0].windows[0].input_ids) == 8
    assert tokenizer.truncation is not None and tokenizer.truncation["max_length"] == 9
    assert tokenizer.padding is None


@every_mode
def test_no_texts_are_no_error(long_text: LongText) -> None:
    assert encode(WORDLEVEL, [], 7, None, long_text) == encode(WORDLEVEL, [], 7, [], long_text) == []


# Flags


@pytest.mark.parametrize(
    ("text", "unknown"),
    [("xyzzy", True), ("xyzzy plugh", True), ("xyzzy w01", False), ("", False), ("w01", False)],
)
@every_mode
def test_a_text_of_which_no_word_is_known_is_flagged(text: str, unknown: bool, long_text: LongText) -> None:
    assert read(text, 6, long_text).unknown is unknown


@pytest.mark.parametrize(("long_text", "unknown"), [("truncate", True), ("head-tail", False), ("windows", False)])
def test_only_words_that_are_read_count_as_known(long_text: LongText, unknown: bool) -> None:
    assert read("xyzzy " * 9 + "w01", 6, long_text).unknown is unknown


@pytest.mark.parametrize(
    ("text", "long_text", "truncated"),
    [
        (" " * (10 * CHARACTERS_PER_TOKEN) + "w01", "truncate", True),
        ("w00" + " " * (10 * CHARACTERS_PER_TOKEN) + "w01", "head-tail", True),
        ("w00" + " " * (10 * CHARACTERS_PER_TOKEN) + "w01", "windows", False),
        ("w00" + " " * CHARACTERS_IN_WINDOWS + "w01", "windows", True),
    ],
)
def test_a_text_some_of_whose_characters_were_never_looked_at_is_flagged(
    text: str, long_text: LongText, truncated: bool
) -> None:
    assert read(text, 10, long_text).truncated is truncated
    assert read("w00", 10, long_text, pair=text).truncated is truncated


def test_windows_read_a_long_review_to_its_end() -> None:
    found = read("w01 " * 4_000 + "w02", 16, "windows")
    assert not found.truncated and tokens(found.windows[-1]).endswith("w02 [SEP]")


# Pairs


def test_a_pair_is_framed_with_its_segments() -> None:
    found = read("w01 w02", 64, pair="w03")
    assert tokens(found.windows[0]) == "[CLS] w01 w02 [SEP] w03 [SEP]"
    assert found.windows[0].token_type_ids == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", [(3, 3), (9, 9), (20, 2), (2, 20), (20, 9), (5, 6)])
def test_a_truncated_pair_is_what_tokenizers_itself_keeps(kind: str, counts: tuple[int, int]) -> None:
    text, pair = words(counts[0]), words(counts[1], 30)
    theirs = Tokenizer.from_str(TOKENIZERS[kind].to_str())
    theirs.enable_truncation(12)
    wanted = theirs.encode(text, pair)
    (found,) = encode(TOKENIZERS[kind], [text], 12, [pair])
    assert found.windows == [Window(wanted.ids, wanted.type_ids)]


@pytest.mark.parametrize("counts", [(40, 2), (2, 40), (30, 30)])
@every_mode
def test_every_window_of_a_long_pair_is_framed_in_at_most_seq_len(counts: tuple[int, int], long_text: LongText) -> None:
    found = read(words(counts[0]), 11, long_text, pair=words(counts[1], 20))
    for window in found.windows:
        framed, types = tokens(window).split(), window.token_type_ids
        assert len(framed) == len(types) <= 11 and framed[0] == "[CLS]" and framed[-1] == "[SEP]"
        assert framed.count("[SEP]") == 2
        middle = framed.index("[SEP]")
        assert 1 < middle < len(framed) - 2  # something of both texts
        assert types == [0] * (middle + 1) + [1] * (len(framed) - middle - 1)
    assert found.truncated is (long_text != "windows")


@pytest.mark.parametrize("counts", [(40, 2), (2, 40), (30, 30), (30, 12)])
def test_windows_of_a_pair_hold_every_word_and_the_shorter_text_stays_whole(counts: tuple[int, int]) -> None:
    found = read(words(counts[0]), 11, "windows", pair=words(counts[1], 20))
    sides: list[list[str]] = [[], []]
    for window in found.windows:
        first, second = tokens(window).removeprefix("[CLS] ").removesuffix(" [SEP]").split(" [SEP] ")
        sides[0] += [first] if first not in sides[0] else []
        sides[1] += [second] if second not in sides[1] else []
    assert [" ".join(side) for side in sides] == [words(counts[0]), words(counts[1], 20)]
    assert len(found.windows) == max(len(side) for side in sides) == len(set(map(tokens, found.windows)))
    if min(counts) <= 4:
        assert min(len(side) for side in sides) == 1


def test_head_tail_of_a_pair_keeps_both_ends_of_both() -> None:
    found = read(words(30), 11, "head-tail", pair=words(30, 30))
    assert tokens(found.windows[0]) == "[CLS] w00 w01 w28 w29 [SEP] w30 w31 w58 w59 [SEP]"


def test_texts_and_pairs_of_different_number_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        encode(WORDLEVEL, ["a", "b"], 8, ["a"])


# Whatever comes


@pytest.mark.parametrize("kind", KINDS)
@every_mode
@settings(deadline=None, max_examples=60)
@given(text=st.text(st.characters(codec=None), max_size=40), pair=st.none() | st.text(max_size=20))
def test_any_string_is_encoded_even_half_surrogate_pairs(
    kind: str, long_text: LongText, text: str, pair: str | None
) -> None:
    tokenizer = TOKENIZERS[kind]
    pairs = None if pair is None else [pair, pair]
    for found in encode(tokenizer, [text, "\udcff" + text], 9, pairs, long_text):
        for window in found.windows:
            assert 2 <= len(window.input_ids) == len(window.token_type_ids) <= 9
            assert all(0 <= index < tokenizer.get_vocab_size() for index in window.input_ids)
            assert {window.input_ids[0], window.input_ids[-1]} <= {tokenizer.token_to_id(s) for s in FRAME[kind]}


FRAME = {"wordlevel": ("[CLS]", "[SEP]"), "wordpiece": ("[CLS]", "[SEP]"), "byte-level": ("<s>", "</s>")}


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=60)
@given(text=st.text(st.sampled_from("w012 .x"), max_size=200), seq_len=st.integers(3, 20))
def test_windows_together_hold_every_token_of_the_text(kind: str, text: str, seq_len: int) -> None:
    tokenizer = TOKENIZERS[kind]
    (found,) = encode(tokenizer, [text], seq_len, None, "windows")
    tokenizer.no_truncation()
    inside = [index for window in found.windows for index in window.input_ids[1:-1]]
    assert inside == tokenizer.encode(text, add_special_tokens=False).ids
    assert all(len(a.input_ids) == seq_len for a, _ in pairwise(found.windows))


@pytest.mark.parametrize("pair", [False, True], ids=["text", "pair"])
@pytest.mark.parametrize("kind", ["wordlevel", "wordpiece"])
@pytest.mark.parametrize("piece", [".", "w00 w01 ", "x"], ids=["dots", "words", "x"])
@every_mode
def test_ten_megabytes_of_text_take_less_than_a_second(long_text: LongText, piece: str, kind: str, pair: bool) -> None:
    text = piece * (10_000_000 // len(piece))
    start = time.perf_counter()
    (found,) = encode(TOKENIZERS[kind], [text], 64, [text] if pair else None, long_text)
    assert time.perf_counter() - start < 1
    assert found.truncated


# Where tokens come from


@every_mode
@pytest.mark.parametrize("pair", [None, words(9, start=30)])
def test_every_token_of_every_window_is_found_in_its_text(long_text: LongText, pair: str | None) -> None:
    text, seq_len = words(23), 11
    places = locate(WORDLEVEL, text, seq_len, pair, long_text)
    windows = read(text, seq_len, long_text, pair).windows
    assert len(places) == len(windows) > (long_text == "windows")
    for found, window in zip(places, windows, strict=True):
        spelled = ["[]" if place is None else (text, str(pair))[place.text][place.start : place.end] for place in found]
        frame = [token.replace("[CLS]", "[]").replace("[SEP]", "[]") for token in tokens(window).split()]
        assert spelled == frame


def test_places_are_those_of_the_text_before_it_was_normalized() -> None:
    # Of a spelled-out bracket `tokenizers` gives the last character.
    (found,) = locate(WORDLEVEL, "W01  -lrb- w02", 9)
    assert found == [None, Place(0, 0, 3), Place(0, 9, 10), Place(0, 11, 14), None]


@every_mode
def test_places_of_a_text_that_is_cut_before_it_is_tokenized_are_those_of_the_rest(long_text: LongText) -> None:
    text = "w01 " * CHARACTERS_IN_WINDOWS
    part = tokenized_part(text, 7, long_text)
    assert len(part) < len(text)
    places = [place for window in locate(WORDLEVEL, text, 7, None, long_text) for place in window if place]
    assert len(places) > 4 and {part[place.start : place.end] for place in places} == {"w01"}


# At the limits


def test_a_frame_without_room_for_a_word_is_what_is_read_of_it() -> None:
    assert [tokens(window) for window in read(words(3), 2, "windows").windows] == ["[CLS] [SEP]"]


def test_a_text_of_exactly_as_many_characters_as_are_looked_at_is_whole() -> None:
    limit = 5 * CHARACTERS_PER_TOKEN
    assert not read("w00".ljust(limit), 5).truncated
    assert read("w00".ljust(limit + 1), 5).truncated


def test_the_end_of_a_huge_second_text_is_read_as_well() -> None:
    found = read("w00", 7, "head-tail", pair=f"w01 w02 {'w03 ' * 1000} w04 w05")
    assert tokens(found.windows[0]) == "[CLS] w00 [SEP] w01 w02 w05 [SEP]"
