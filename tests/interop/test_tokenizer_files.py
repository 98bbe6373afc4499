import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import transformers

from src.data.tokenizer import build_tokenizer
from src.interop.tokenizer_files import ReadingSettings, read_settings, read_tokenizer, save_tokenizer
from src.utils.config import TokenizerConfig
from src.utils.errors import CheckpointError
from tests.interop.peers import random_strings

TEXTS = [
    "The café's naïve owner didn't say \u00e0 bient\u00f4t, he said: see you!",
    "Stra\u00dfe \u0130stanbul \u6620\u753b \u5f71 na\u00efve r\u00e9sum\u00e9 CAF\u00c9 (co-op) 50% of the time",
    "A slow film; the plot is thin and the music loud.",
]
CASED = sorted({character for text in TEXTS for character in text if not character.isspace()})
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
    letters = [*CASED, *(f"##{character}" for character in CASED)]
    pieces: list[str] = []
    for lowercase in (False, True):
        config = TokenizerConfig(tokenizer="wordpiece", min_frequency=1, lowercase=lowercase)
        pieces += sorted(build_tokenizer(TEXTS, config, 400).get_vocab())
    return list(dict.fromkeys([*SPECIAL, *pieces, *letters]))


def words() -> list[str]:
    return [token.removeprefix("##") for token in vocabulary()]


def write(folder: Path, tokens: list[str] | None = None, **options: Any) -> Path:
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens or vocabulary()), encoding="utf-8")
    if options:
        (folder / "tokenizer_config.json").write_text(json.dumps(options))
    return folder


def refusal(folder: Path, vocab_size: int = 10_000) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_tokenizer(folder, vocab_size)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_vocab_txt_gives_the_ids_of_transformers(options: dict[str, Any], tmp_path: Path) -> None:
    folder = write(tmp_path, **options)
    ours, theirs = read_tokenizer(folder, len(vocabulary())), transformers.BertTokenizer.from_pretrained(folder)
    texts = random_strings(words(), 500)
    ours.no_truncation()
    assert [found.ids for found in ours.encode_batch(texts)] == theirs(texts)["input_ids"]
    pair, their_pair = ours.encode("a film", "the plot"), theirs("a film", "the plot")
    assert (pair.ids, pair.type_ids) == (their_pair["input_ids"], their_pair["token_type_ids"])


def test_tokenizer_json_wins_over_vocab_txt(tmp_path: Path) -> None:
    write(tmp_path)
    other = build_tokenizer(TEXTS, TokenizerConfig(min_frequency=1), 50)
    other.save(str(tmp_path / "tokenizer.json"))
    assert read_tokenizer(tmp_path, 50).to_str() == other.to_str()


def test_a_tokenizer_from_vocab_txt_is_written_as_tokenizer_json_with_the_same_ids(tmp_path: Path) -> None:
    tokenizer = read_tokenizer(write(tmp_path, do_lower_case=False), len(vocabulary()))
    (tmp_path / "saved").mkdir()
    save_tokenizer(tmp_path / "saved", tokenizer, ReadingSettings(64, "windows"), has_segments=True)
    again = read_tokenizer(tmp_path / "saved", len(vocabulary()))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    for text in random_strings(words(), 50, seed=1):
        assert again.encode(text).ids == tokenizer.encode(text).ids == theirs(text)["input_ids"]
    assert read_settings(tmp_path / "saved") == ReadingSettings(64, "windows")


# Damaged ones


def test_neither_file_is_an_error(tmp_path: Path) -> None:
    message = refusal(tmp_path)
    assert str(tmp_path / "tokenizer.json") in message and "vocab.txt" in message


def test_a_vocabulary_without_special_tokens_is_no_berts(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, [token for token in vocabulary() if token not in ("[MASK]", "[PAD]")]))
    assert "vocab.txt" in message and "[MASK]" in message and "[PAD]" in message and "[SEP]" not in message


def test_a_vocabulary_larger_than_the_embedding_does_not_fit(tmp_path: Path) -> None:
    size = len(vocabulary())
    read_tokenizer(write(tmp_path), size)
    message = refusal(tmp_path, size - 1)
    assert f"largest id is {size - 1}" in message and f"vocab_size = {size - 1}" in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocab.txt", b"\xff\xfe[PAD]\n"),
        ("tokenizer.json", b'{"model": {"type": "Telepathy"}}'),  # though vocab.txt is there
        ("tokenizer_config.json", b"{"),
        ("tokenizer_config.json", b'{"strip_accents": "yes"}'),
    ],
)
def test_a_damaged_file_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (write(tmp_path) / name).write_bytes(content)
    assert str(tmp_path / name) in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("model_max_length", "many"), ("model_max_length", 0), ("long_text", "skim")]
)
def test_settings_that_mean_nothing_are_refused(name: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({name: value}))
    with pytest.raises(CheckpointError) as caught:
        read_settings(tmp_path)
    assert all(fact in str(caught.value) for fact in ("tokenizer_config.json", name, repr(value)))


def test_no_limit_is_no_limit(tmp_path: Path) -> None:
    for content in (None, '{"model_max_length": null}', '{"model_max_length": 1e30}'):
        if content is not None:
            (tmp_path / "tokenizer_config.json").write_text(content)
        found = read_settings(tmp_path)
        assert found.seq_len > 10**9 and found.long_text == "truncate"
