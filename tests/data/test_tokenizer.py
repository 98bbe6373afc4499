from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import BertNormalizer

from src.data.tokenizer import (
    SPECIAL_TOKENS,
    build_tokenizer,
    frame_and_truncate,
    prepend_plain_text_normalizer,
    roles,
    special_ids,
    token_id,
)
from src.utils.config import TokenizerConfig
from src.utils.errors import DataError

# Ties in frequency everywhere: what is decided at random would show.
TEXTS = [
    "a gorgeous , witty , seductive movie .",
    "it 's a charming and often affecting journey",
    "ca n't wait , wo n't wait , is n't it",
    "unflinchingly bleak and desperate",
    "a wordy wisp of a comedy that is n't witty",
    "the zany cast of quirky , dazzling , puzzling foxes",
] * 2

KINDS = ("wordlevel", "wordpiece")
both_kinds = pytest.mark.parametrize("kind", KINDS)


def build(kind: str = "wordlevel", texts: list[str] | None = None, vocab_size: int = 300, **options: Any) -> Tokenizer:
    config = TokenizerConfig(tokenizer=kind, **options)  # type: ignore[arg-type]
    return build_tokenizer(TEXTS if texts is None else texts, config, vocab_size)


TOKENIZERS = {kind: build(kind, seq_len=12) for kind in KINDS}


def normalized(text: str, **options: Any) -> str:
    result: str = build(**options).normalizer.normalize_str(text)
    return result


@both_kinds
def test_special_tokens_have_the_first_ids_and_are_special(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    assert SPECIAL_TOKENS == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert [token_id(tokenizer, token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    added = tokenizer.get_added_tokens_decoder()
    assert {index: token.content for index, token in added.items()} == dict(enumerate(SPECIAL_TOKENS))
    assert all(token.special for token in added.values())


def test_a_token_the_tokenizer_lacks_is_a_data_error() -> None:
    with pytest.raises(DataError, match=r"no \[NEW\]; build or load one that has \[PAD\], \[UNK\]"):
        token_id(TOKENIZERS["wordlevel"], "[NEW]")


@both_kinds
def test_a_saved_tokenizer_is_reloaded_byte_for_byte(kind: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    TOKENIZERS[kind].save(str(first))
    reloaded = Tokenizer.from_file(str(first))
    reloaded.save(str(second))
    assert first.read_bytes() == second.read_bytes()
    text = "It 's unflinchingly -LRB- zany -RRB- !"
    assert reloaded.encode(text).ids == TOKENIZERS[kind].encode(text).ids


@both_kinds
@pytest.mark.parametrize("vocab_size", [90, 110, 300])
def test_the_same_texts_give_the_same_file(kind: str, vocab_size: int) -> None:
    files = {build(kind, vocab_size=vocab_size).to_str() for _ in range(8)}
    assert len(files) == 1


@both_kinds
def test_texts_may_come_from_a_generator(kind: str) -> None:
    config = TokenizerConfig(tokenizer=kind)  # type: ignore[arg-type]
    assert build_tokenizer((text for text in TEXTS), config, 300).to_str() == build(kind).to_str()


@both_kinds
def test_truncation_keeps_the_frame(kind: str) -> None:
    encoding = build(kind, seq_len=5).encode("a witty movie and a charming journey")
    assert encoding.tokens[0] == "[CLS]" and encoding.tokens[-1] == "[SEP]" and len(encoding) == 5
    assert encoding.overflowing


@both_kinds
def test_pairs_are_framed_twice_with_their_type_ids(kind: str) -> None:
    encoding = build(kind).encode("a movie", "a witty journey")
    assert encoding.tokens == ["[CLS]", "a", "movie", "[SEP]", "a", "witty", "journey", "[SEP]"]
    assert encoding.type_ids == [0, 0, 0, 0, 1, 1, 1, 1]


def test_pairs_are_truncated_within_their_frame() -> None:
    tokenizer = build()
    frame_and_truncate(tokenizer, 6)
    encoding = tokenizer.encode("a movie a movie", "a witty journey")
    assert len(encoding) == 6
    assert encoding.tokens[0] == "[CLS]" and encoding.tokens[-1] == "[SEP]" and encoding.tokens.count("[SEP]") == 2


TREEBANK = [
    ("ca n't", "can't"),
    ("ca n\u2019t", "can't"),
    ("is n't", "isn't"),
    ("it 's", "it's"),
    ("they 're , we 'd , i 've", "they're, we'd, i've"),
    ("-lrb- x -rrb-", "(x)"),
    ("-lsb- x -rsb-", "[x]"),
    ("gon na", "gonna"),
    ("got ta", "gotta"),
    ("can not", "cannot"),
    ("`` good ''", '" good "'),
    ("good , bad ; $ 5 ... why ?", "good, bad; $5... why?"),
]


@pytest.mark.parametrize("split, joined", TREEBANK)
def test_treebank_spelling_is_undone(split: str, joined: str) -> None:
    assert normalized(split) == joined


@pytest.mark.parametrize("split", [split for split, _ in TREEBANK if "\u2019" not in split])
def test_treebank_spelling_stays_where_undoing_is_switched_off(split: str) -> None:
    assert normalized(split, plain_text=False) == split


@pytest.mark.parametrize(
    "text",
    [
        "It's a well-made film (if long); I can't wait, can you?",
        "American notions, pecan not included",
        "dogs' days in the '90s, rock 'n' roll",
        "wan napkins, gone narrow, begot tales",
        'she said "no" - twice',
        "",
    ],
)
def test_undoing_treebank_leaves_ordinary_text_alone(text: str) -> None:
    assert normalized(text, lowercase=False) == text


@pytest.mark.parametrize("options", [{}, {"plain_text": False}, {"plain_text": False, "lowercase": False}], ids=str)
@pytest.mark.parametrize(
    "split, ordinary",
    [
        ("it 's", "it's"),
        ("is n't it", "isn't it"),
        ("wo n't wait", "won't wait"),
        ("IT 'S , IS N'T IT", "IT'S, ISN'T IT"),
    ],
)
def test_treebank_and_ordinary_spelling_give_the_same_words(split: str, ordinary: str, options: dict[str, Any]) -> None:
    tokenizer = build(texts=[*TEXTS, "IT 'S , IS N'T IT"], min_frequency=1, **options)
    assert tokenizer.encode(split).ids == tokenizer.encode(ordinary).ids
    assert token_id(tokenizer, "[UNK]") not in tokenizer.encode(split).ids


@pytest.mark.parametrize("split, joined", TREEBANK)
def test_treebank_and_ordinary_spelling_give_the_same_word_pieces(split: str, joined: str) -> None:
    tokenizer = TOKENIZERS["wordpiece"]
    assert tokenizer.encode(split).ids == tokenizer.encode(joined).ids


@both_kinds
def test_case_and_accents_do_not_matter(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    expected = tokenizer.encode("a witty movie").ids
    assert tokenizer.encode("A W\u00cfTTY Movi\u00e9").ids == expected
    assert tokenizer.encode("A witty movie\u0301").ids == expected


def test_case_and_accents_stay_without_lowercase() -> None:
    assert normalized("Caf\u00e9", lowercase=False) == "Caf\u00e9"


@pytest.mark.parametrize("lowercase", [True, False])
def test_curly_quotes_become_straight(lowercase: bool) -> None:
    assert normalized("\u201cit\u2019s\u201d \u2018so\u2019", lowercase=lowercase) == "\"it's\" 'so'"


def test_rare_words_become_unknown() -> None:
    tokenizer = build(texts=["good good bad"])
    assert tokenizer.encode("good bad ugly").tokens == ["[CLS]", "good", "[UNK]", "[UNK]", "[SEP]"]


@pytest.mark.parametrize("min_frequency, words", [(1, {"a", "b", "c"}), (2, {"a", "b"}), (3, {"a"})])
def test_words_seen_less_than_min_frequency_stay_out(min_frequency: int, words: set[str]) -> None:
    tokenizer = build(texts=["a a a", "b b", "c"], min_frequency=min_frequency)
    assert set(tokenizer.get_vocab()) == set(SPECIAL_TOKENS) | words


def test_word_pieces_are_joined_from_min_frequency_on() -> None:
    texts = ["ab"] * 3 + ["cd"] * 2
    joined = {"ab", "cd"}
    assert joined & set(build("wordpiece", texts, min_frequency=3).get_vocab()) == {"ab"}
    assert joined & set(build("wordpiece", texts, min_frequency=2).get_vocab()) == joined


def test_a_small_vocabulary_keeps_the_most_frequent_words() -> None:
    tokenizer = build(texts=["a a a b b c c c c"], vocab_size=7)
    assert set(tokenizer.get_vocab()) == {*SPECIAL_TOKENS, "c", "a"}


@pytest.mark.parametrize(
    "kind, vocab_size", [("wordlevel", 6), ("wordlevel", 30), ("wordpiece", 60), ("wordpiece", 75)]
)
def test_the_vocabulary_grows_to_its_limit_and_no_further(kind: str, vocab_size: int) -> None:
    assert build(kind, vocab_size=vocab_size).get_vocab_size() == vocab_size


def test_word_pieces_whose_letters_exceed_the_limit_are_refused() -> None:
    with pytest.raises(
        DataError, match=r"letters of the training text alone make \d+ WordPieces; raise --vocab-size 20"
    ):
        build("wordpiece", vocab_size=20)


def test_word_pieces_spell_unseen_words() -> None:
    tokens = TOKENIZERS["wordpiece"].encode("wittily").tokens
    assert "[UNK]" not in tokens
    assert "".join(token.removeprefix("##") for token in tokens[1:-1]) == "wittily"


@both_kinds
@pytest.mark.parametrize("texts", [[], ["", "  \n"]], ids=["no_texts", "blank_texts"])
def test_an_empty_vocabulary_is_a_data_error(kind: str, texts: list[str]) -> None:
    with pytest.raises(DataError, match="no word occurs 2 times in the training text; lower --min-frequency"):
        build(kind, texts)


def test_a_vocabulary_of_rare_words_only_is_a_data_error() -> None:
    with pytest.raises(DataError, match="no word occurs 3 times"):
        build(texts=["one two two"], min_frequency=3)


@both_kinds
@settings(deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_is_encoded_in_range_and_framed(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    encoding = tokenizer.encode(text)
    assert 2 <= len(encoding) <= 12
    assert all(0 <= index < tokenizer.get_vocab_size() for index in encoding.ids)
    assert encoding.tokens[0] == "[CLS]" and encoding.tokens[-1] == "[SEP]"


# Tokenizers from elsewhere


@pytest.mark.parametrize(
    ("special", "found"),
    [
        (SPECIAL_TOKENS, dict(zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL_TOKENS, strict=True))),
        (("<pad>", "</s>", "<s>"), {"pad": "<pad>", "sep": "</s>", "cls": "<s>"}),
        ((), {}),
    ],
)
def test_special_tokens_are_found_by_their_spelling(special: tuple[str, ...], found: dict[str, str]) -> None:
    vocabulary = {token: index for index, token in enumerate((*special, "word"))}
    assert roles(Tokenizer(WordLevel(vocabulary))) == found


@pytest.mark.parametrize("text", ["a film<br /><br />is", "a film <br/> is", "a film<br>\n<br />is"])
def test_html_line_breaks_become_a_blank(text: str) -> None:
    assert normalized(text).split() == ["a", "film", "is"]
    assert "<br" in normalized(text, plain_text=False)


def test_a_plain_text_normalizer_is_put_before_a_tokenizers_own_once() -> None:
    other = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    other.normalizer = BertNormalizer()
    prepend_plain_text_normalizer(other)
    once = other.to_str()
    prepend_plain_text_normalizer(reloaded := Tokenizer.from_str(once))
    assert reloaded.to_str() == once


@pytest.mark.parametrize("lowercase", [None, True, False])
def test_a_plain_text_normalizer_is_put_before_a_tokenizers_own(
    lowercase: bool | None,
) -> None:
    other = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    if lowercase is not None:
        other.normalizer = BertNormalizer(lowercase=lowercase)
    prepend_plain_text_normalizer(other)
    assert other.normalizer is not None
    text = "It ca n't wait -LRB- Caf\u00e9 -rrb- ."
    wanted = {
        None: "It can't wait -LRB- Caf\u00e9).",
        True: "it can't wait -lrb- cafe).",
        False: "It can't wait -LRB- Caf\u00e9).",
    }
    assert other.normalizer.normalize_str(text) == wanted[lowercase]


@both_kinds
@settings(deadline=None)
@given(text=st.text(max_size=60))
def test_a_reloaded_tokenizer_gives_any_text_the_same_ids(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    assert Tokenizer.from_str(tokenizer.to_str()).encode(text, text).ids == tokenizer.encode(text, text).ids


@both_kinds
@settings(deadline=None)
@given(
    words=st.lists(
        st.sampled_from(["unflinchingly", "bleak", "and", "desperate", "journey", "movie", "comedy", "foxes"]),
        max_size=9,
    )
)
def test_known_words_come_back_from_their_ids(kind: str, words: list[str]) -> None:
    tokenizer = TOKENIZERS[kind]
    tokenizer.no_truncation()
    tokens = tokenizer.encode(" ".join(words), add_special_tokens=False).tokens
    tokenizer.enable_truncation(12)
    assert "".join(token.removeprefix("##") for token in tokens) == "".join(words)


@pytest.mark.parametrize("special", [SPECIAL_TOKENS, ("<s>", "<pad>", "</s>", "<unk>", "<mask>")])
def test_ids_of_special_tokens_are_found_by_role_or_the_lacking_one_is_named(special: tuple[str, ...]) -> None:
    vocabulary = {token: index + 7 for index, token in enumerate(special)}
    found = special_ids(Tokenizer(WordLevel(vocabulary, unk_token=special[1])))
    names = {"s": "cls", "/s": "sep"}
    spelled = {token: token.strip("[]<>").lower() for token in special}
    assert found == {names.get(spelled[token], spelled[token]): vocabulary[token] for token in special}
    del vocabulary[special[-1]]
    with pytest.raises(DataError, match=r"the tokenizer has no \[MASK\]; name a checkpoint that was pre-trained"):
        special_ids(Tokenizer(WordLevel(vocabulary, unk_token=special[1])))
