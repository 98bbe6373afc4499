import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel

from src.data.tokenizer import build_tokenizer
from src.interop.tokenizer import load_lengths, load_tokenizer, save_tokenizer
from src.utils.config import BertConfig, TokenizerConfig
from src.utils.errors import CheckpointError
from tests.interop.peers import random_strings

TEXTS = [
    "The café's naïve owner didn't say \u00e0 bient\u00f4t, he said: see you!",
    "Stra\u00dfe \u0130stanbul \u6620\u753b \u5f71 na\u00efve r\u00e9sum\u00e9 CAF\u00c9 (co-op) 50% of the time",
    "A slow film; the plot is thin and the music loud.",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"do_lower_case": False},
    {"do_lower_case": True, "strip_accents": False},
    {"do_lower_case": False, "strip_accents": True},
    {"tokenize_chinese_chars": False},
]


@cache
def vocabulary() -> list[str]:
    """Both cases, with and without accents, so that every setting shows in the ids."""
    characters = sorted({character for text in TEXTS for character in text if not character.isspace()})
    pieces: list[str] = []
    for lowercase in (False, True):
        config = TokenizerConfig(tokenizer="wordpiece", min_frequency=1, lowercase=lowercase)
        pieces += sorted(build_tokenizer(TEXTS, config, 400).get_vocab())
    letters = [*characters, *(f"##{character}" for character in characters)]
    return list(dict.fromkeys([*SPECIAL, *pieces, *letters]))


def write(folder: Path, **options: Any) -> Path:
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary()), encoding="utf-8")
    if options:
        (folder / "tokenizer_config.json").write_text(json.dumps(options))
    return folder


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_vocab_txt_gives_the_ids_of_transformers(options: dict[str, Any], tmp_path: Path) -> None:
    folder = write(tmp_path, **options)
    ours, theirs = load_tokenizer(folder, len(vocabulary())), transformers.BertTokenizer.from_pretrained(folder)
    texts = random_strings([token.removeprefix("##") for token in vocabulary()], 500)
    assert [found.ids for found in ours.encode_batch(texts)] == theirs(texts)["input_ids"]
    pair, their_pair = ours.encode("a film", "the plot"), theirs("a film", "the plot")
    assert (pair.ids, pair.type_ids) == (their_pair["input_ids"], their_pair["token_type_ids"])
    (folder / "saved").mkdir()
    save_tokenizer(folder / "saved", ours, BertConfig(), 64, "windows")
    again = transformers.AutoTokenizer.from_pretrained(folder / "saved")
    assert again(texts)["input_ids"] == theirs(texts)["input_ids"]
    assert load_lengths(folder / "saved") == (64, "windows")


def test_special_tokens_of_another_spelling_are_kept(tmp_path: Path) -> None:
    vocabulary = {token: index for index, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "film", "<mask>"])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in vocabulary if token != "film"])
    save_tokenizer(tmp_path, tokenizer, BertConfig(), 9)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == len(vocabulary)
    assert (theirs.pad_token, theirs.cls_token, theirs.sep_token) == ("<pad>", "<s>", "</s>")
    assert (theirs.unk_token, theirs.mask_token) == ("<unk>", "<mask>")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocab.txt", b"\xff\xfe[PAD]\n"),
        ("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\na\n"),  # no [SEP]
        ("vocab.txt", None),  # and no tokenizer.json either
        ("tokenizer.json", b'{"model": {"type": "Telepathy"}}'),  # though vocab.txt is there
        ("tokenizer_config.json", b"{"),
    ],
)
def test_a_damaged_file_is_refused(name: str, content: bytes | None, tmp_path: Path) -> None:
    file = write(tmp_path) / name
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(CheckpointError, match=name) as caught:
        load_tokenizer(tmp_path, 10_000)
    assert "\n" not in str(caught.value)


def test_tokenizer_json_wins_over_vocab_txt_and_must_fit_the_embedding(tmp_path: Path) -> None:
    other = build_tokenizer(TEXTS, TokenizerConfig(min_frequency=1), 50)
    other.save(str(write(tmp_path) / "tokenizer.json"))
    assert load_tokenizer(tmp_path, 50).to_str() == other.to_str()
    with pytest.raises(CheckpointError, match="vocab_size"):
        load_tokenizer(tmp_path, other.get_vocab_size() - 1)


def test_without_a_limit_texts_may_be_of_any_length(tmp_path: Path) -> None:
    seq_len, long_text = load_lengths(write(tmp_path))
    assert seq_len > 10**9 and long_text == "truncate"
