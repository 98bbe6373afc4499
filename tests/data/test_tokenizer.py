import unicodedata
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import BertNormalizer

from src.data.tokenizer import (
    SPECIAL_TOKENS,
    build_tokenizer,
    prepend_plain_text_normalizer,
    special_token_ids,
)
from src.interop.tokenizer import save_tokenizer
from src.utils.config import BertConfig, TokenizerConfig
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
    return build_tokenizer((text for text in (TEXTS if texts is None else texts)), config, vocab_size)


TOKENIZERS = {kind: build(kind, seq_len=12) for kind in KINDS}


def normalized(text: str, **options: Any) -> str:
    result: str = build(texts=["a", "a"], **options).normalizer.normalize_str(text)
    return result


def words_of(tokenizer: Tokenizer) -> set[str]:
    return set(tokenizer.get_vocab()) - set(SPECIAL_TOKENS)


@both_kinds
def test_the_same_texts_give_the_same_file_with_special_tokens_first(kind: str) -> None:
    for vocab_size in (90, 110, 300):
        assert len({build(kind, vocab_size=vocab_size).to_str() for _ in range(5)}) == 1
    assert SPECIAL_TOKENS == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert list(special_token_ids(TOKENIZERS[kind]).values()) == [0, 1, 2, 3, 4]
    added = TOKENIZERS[kind].get_added_tokens_decoder()
    assert {index: token.content for index, token in added.items()} == dict(enumerate(SPECIAL_TOKENS))
    assert all(token.special for token in added.values())


@both_kinds
def test_texts_and_pairs_are_framed_and_truncated_within_their_frame(kind: str) -> None:
    encoding = build(kind, seq_len=7).encode("a movie", "a witty journey")
    assert encoding.tokens == ["[CLS]", "a", "movie", "[SEP]", "a", "witty", "[SEP]"]
    assert encoding.type_ids == [0, 0, 0, 0, 1, 1, 1]
    assert build(kind, seq_len=4).encode("a witty movie").tokens == ["[CLS]", "a", "witty", "[SEP]"]


TREEBANK = {
    "ca n't": "can't",
    "ca n\u2019t": "can't",
    "it 's": "it's",
    "they 're , we 'd , i 've": "they're, we'd, i've",
    "-lrb- x -rrb- -lsb- y -rsb-": "(x) [y]",
    "gon na got ta can not": "gonna gotta cannot",
    "`` good ''": '" good "',
    "good , bad ; $ 5 ... why ?": "good, bad; $5... why?",
    "a film<br /><br />is": "a film is",
}
ORDINARY = [
    "It's a well-made film (if long); I can't wait, can you?",
    "American notions, pecan not included",
    "dogs' days in the '90s, rock 'n' roll",
    "wan napkins, gone narrow, begot tales",
    'she said "no" - twice',
]


def test_treebank_spelling_is_undone_unless_that_is_switched_off_and_ordinary_text_stays() -> None:
    for split, joined in TREEBANK.items():
        assert normalized(split) == joined
        assert normalized(split, plain_text=False) == split.replace("\u2019", "'")
        assert TOKENIZERS["wordpiece"].encode(split).ids == TOKENIZERS["wordpiece"].encode(joined).ids
    for text in ORDINARY:
        assert normalized(text, lowercase=False) == text


def test_case_and_accents_stay_where_that_is_asked_for_and_quotes_become_straight() -> None:
    assert normalized("A Caf\u00e9 Movie\u0301") == "a cafe movie"
    assert normalized("Caf\u00e9", lowercase=False) == "Caf\u00e9"
    assert normalized("\u201cit\u2019s\u201d \u2018so\u2019", lowercase=False) == "\"it's\" 'so'"
    # Without plain text too, both spellings are of the same known words.
    tokenizer = build(texts=[*TEXTS, "IT 'S , IS N'T IT"], min_frequency=1, plain_text=False, lowercase=False)
    for split, ordinary in (("is n't it", "isn't it"), ("IT 'S , IS N'T IT", "IT'S, ISN'T IT")):
        assert tokenizer.encode(split).ids == tokenizer.encode(ordinary).ids
        assert tokenizer.token_to_id("[UNK]") not in tokenizer.encode(split).ids


def test_accents_go_and_marks_that_are_letters_stay_in_transformers_too(tmp_path: Path) -> None:
    hindi, japanese = "\u092b\u093c\u093f\u0932\u094d\u092e \u092c\u0941\u0930\u0940", "\u304c\u304e \u3071"
    for kept in (hindi, japanese, "\u0e14\u0e35\u0e21\u0e32\u0e01", "\ud55c\uad6d\uc5b4"):
        assert normalized(kept) == unicodedata.normalize("NFC", kept)
    stripped = {
        "CAF\u00c9 na\u0131\u0308ve \u1ec7 \u0130": "cafe na\u0131ve e i",
        "\u1f08\u03b8\u1fc6\u03bd": "\u03b1\u03b8\u03b7\u03bd",
    }
    assert [normalized(text) for text in stripped] == list(stripped.values())
    texts = [hindi, japanese, *stripped] * 2
    save_tokenizer(tmp_path, ours := build("wordpiece", texts=texts), BertConfig(), 64)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(texts)["input_ids"] == [found.ids for found in ours.encode_batch(texts)]


def test_words_and_pieces_are_taken_from_min_frequency_on_and_pieces_spell_unseen_words() -> None:
    texts, joined = ["ab"] * 3 + ["cd"] * 2, {"ab", "cd"}
    for kind in KINDS:
        assert joined & words_of(build(kind, texts, min_frequency=3)) == {"ab"}
        assert joined & words_of(build(kind, texts, min_frequency=2)) == joined
    assert build(texts=texts, min_frequency=3).encode("ab cd").tokens == ["[CLS]", "ab", "[UNK]", "[SEP]"]
    tokens = TOKENIZERS["wordpiece"].encode("wittily").tokens
    assert "".join(token.removeprefix("##") for token in tokens) == "[CLS]wittily[SEP]"


def test_the_vocabulary_grows_to_its_limit_with_the_most_frequent_words_and_no_further() -> None:
    assert words_of(build(texts=["a a a b b c c c c"], vocab_size=7)) == {"c", "a"}
    for kind, vocab_size in (("wordlevel", 6), ("wordlevel", 30), ("wordpiece", 60), ("wordpiece", 75)):
        assert build(kind, vocab_size=vocab_size).get_vocab_size() == vocab_size
    with pytest.raises(DataError, match="--vocab-size"):
        build("wordpiece", vocab_size=20)
    for kind in KINDS:
        with pytest.raises(DataError, match=r"2 times.*--min-frequency"):
            build(kind, ["", "  \n"])


@both_kinds
@given(text=st.text(max_size=60))
def test_any_text_is_encoded_in_range_and_framed_and_a_reloaded_tokenizer_gives_the_same_ids(
    kind: str, text: str
) -> None:
    tokenizer = TOKENIZERS[kind]
    encoding = tokenizer.encode(text)
    assert 2 <= len(encoding) <= 12 and encoding.tokens[0] == "[CLS]" and encoding.tokens[-1] == "[SEP]"
    assert all(0 <= index < tokenizer.get_vocab_size() for index in encoding.ids)
    reloaded = Tokenizer.from_str(tokenizer.to_str())
    assert reloaded.to_str() == tokenizer.to_str()
    assert reloaded.encode(text, text).ids == tokenizer.encode(text, text).ids


@pytest.mark.parametrize("special", [(*SPECIAL_TOKENS, "<pad>"), ("<pad>", "<unk>", "<s>", "</s>")])
def test_special_tokens_are_found_by_their_spelling(special: tuple[str, ...]) -> None:
    names = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"][: len(special)]
    tokenizer = Tokenizer(WordLevel({token: index + 7 for index, token in enumerate(special)}, special[1]))
    assert special_token_ids(tokenizer) == dict(zip(names, range(7, 12), strict=False))


@pytest.mark.parametrize("own", [None, BertNormalizer(lowercase=True)])
def test_a_plain_text_normalizer_is_put_before_a_tokenizers_own_once(own: Any) -> None:
    other = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    if own is not None:
        other.normalizer = own
    prepend_plain_text_normalizer(other)
    assert other.normalizer is not None
    expected = "It can't wait -LRB- Caf\u00e9)." if own is None else "it can't wait -lrb- cafe)."
    assert other.normalizer.normalize_str("It ca n't wait -LRB- Caf\u00e9 -rrb- .") == expected
    prepend_plain_text_normalizer(reloaded := Tokenizer.from_str(other.to_str()))
    assert reloaded.to_str() == other.to_str()
