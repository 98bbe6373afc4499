from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from src.data import packing
from src.data.documents import Documents
from src.data.packing import TokenizedCorpus, pieces, tokenized_corpus
from src.data.tokenizer import SEP, SPECIAL_TOKENS, UNK
from src.utils.config import TokenizerConfig
from src.utils.errors import DataError
from tests.training.tiny_pretraining import Counted, generator, leaves_global_random_numbers_alone, rows_of

CONFIG = TokenizerConfig(tokenizer="wordlevel", min_frequency=1, seq_len=8)
WIDTH = 7  # of the rows of `rows_of`


def numbered(count: int) -> list[str]:
    """Texts of one to nine words, which say where they are from."""
    return [" ".join(f"d{index}w{word}" for word in range(1 + index % 9)) for index in range(1, count + 1)]


def tokenized(cache: Path, texts: list[str], vocab_size: int = 5000, **options: Any) -> TokenizedCorpus:
    config = TokenizerConfig(**{**vars(CONFIG), **options})
    return tokenized_corpus(Documents("made up", lambda: iter(texts)), config, vocab_size, cache)


def tokens(corpus: TokenizedCorpus, part: str) -> list[str]:
    return [str(corpus.tokenizer.id_to_token(index)) for index in getattr(corpus, part).tolist()]


def joined(texts: list[str]) -> list[str]:
    return [token for text in texts for token in (*text.split(), SEP)]


@pytest.mark.parametrize(
    ("count", "held_out"), [(2, [2]), (59, [20, 40]), (999, [*range(20, 999, 20)]), (1050, [*range(100, 1001, 100)])]
)
def test_every_hundredth_document_is_held_out_or_more_of_few_and_at_least_one(
    count: int, held_out: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "DOCUMENTS_AT_ONCE", 7)
    texts = numbered(count)
    corpus = tokenized(tmp_path, texts, vocab_size=9999)
    kept = [text for number, text in enumerate(texts, start=1) if number not in held_out]
    assert tokens(corpus, "train") == joined(kept) and corpus.documents == count
    # The vocabulary is learned without what is held out, whose words are all its own.
    unread = joined([texts[number - 1] for number in held_out])
    assert tokens(corpus, "validation") == [token if token == SEP else UNK for token in unread]


@pytest.mark.parametrize("kind", ["wordlevel", "wordpiece"])
def test_the_stream_is_what_the_tokenizer_makes_of_each_document(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "LONGEST_PIECE", 20)  # of the longer documents several are made
    texts = ["The film is -lrb- not -rrb- bad .", "A filmmaker's film<br />again", "Caf\u00e9 films", "held out film"]
    corpus = tokenized(tmp_path, texts, vocab_size=60, tokenizer=kind)
    separator = corpus.tokenizer.token_to_id(SEP)
    for part, expected in (("train", texts[:3]), ("validation", texts[3:])):
        encoded = [corpus.tokenizer.encode(text, add_special_tokens=False).ids for text in expected]
        assert getattr(corpus, part).tolist() == [index for ids in encoded for index in (*ids, separator)]


def test_too_little_text_or_a_tokenizer_without_a_mask_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    for count in (0, 1):
        with pytest.raises(DataError, match=f"made up holds {count} documents"):
            tokenized(tmp_path, numbered(count))
    with pytest.raises(DataError, match="9 times"):
        tokenized(tmp_path, numbered(5), min_frequency=9)
    vocabulary = {token: index for index, token in enumerate(SPECIAL_TOKENS) if token != "[MASK]"}
    documents = Documents("made up", lambda: iter(numbered(5)))
    with pytest.raises(DataError, match=r"\[MASK\]"):
        tokenized_corpus(documents, CONFIG, 500, tmp_path, Tokenizer(WordLevel(vocabulary, unk_token=UNK)))
    assert list(tmp_path.glob("[!.]*")) == []


def test_streams_are_memory_mapped_two_bytes_a_token_or_four(tmp_path: Path) -> None:
    corpus = tokenized(tmp_path / "small", numbered(5))
    assert all(isinstance(part, np.memmap) and part.dtype == np.uint16 for part in (corpus.train, corpus.validation))
    texts = [" ".join(f"w{index}" for index in range(2**16)), "w1"]
    corpus = tokenized(tmp_path / "large", texts, vocab_size=100_000)
    assert corpus.train.dtype == np.uint32 and tokens(corpus, "train") == joined(texts[:1])


def test_a_second_call_finds_the_first_ones_result_and_only_reads_the_text(tmp_path: Path) -> None:
    counted = Counted(numbered(20))
    first = tokenized_corpus(counted.documents, CONFIG, 500, tmp_path)
    (folder,) = tmp_path.glob("[!.]*")
    before = [file.stat().st_ino for file in sorted(folder.iterdir())]
    counted.readings = 0
    second = tokenized_corpus(counted.documents, CONFIG, 500, tmp_path)
    assert counted.readings == 1  # for the digest; tokenizing takes two more
    assert [file.stat().st_ino for file in sorted(folder.iterdir())] == before
    assert np.array_equal(first.train, second.train) and np.array_equal(first.validation, second.validation)
    # Neither the length of rows nor the place of the cache makes a difference.
    assert tokenized(tmp_path / "other", numbered(20), vocab_size=500, seq_len=128).sha256 == first.sha256
    damaged = (folder / "train.bin").read_bytes()[::-1]
    (folder / "train.bin").unlink()  # not overwritten, because it is memory-mapped
    (folder / "train.bin").write_bytes(damaged)
    assert np.array_equal(tokenized_corpus(counted.documents, CONFIG, 500, tmp_path).train, first.train)


def test_any_other_text_vocabulary_or_normalisation_makes_another_folder(tmp_path: Path) -> None:
    texts = ["a film a film", "a film", "a film"]
    changes: list[dict[str, Any]] = [{}, {"vocab_size": 499}, {"lowercase": False}, {"plain_text": False}]
    changes += [{"min_frequency": 2}, {"tokenizer": "wordpiece"}]
    changes += [{"texts": other} for other in (texts[:2], texts[::-1], ["a film a film", "a", " filma film"])]
    digests = {tokenized(tmp_path, **{"texts": texts, "vocab_size": 500, **changed}).sha256 for changed in changes}
    assert {folder.name for folder in tmp_path.glob("[!.]*")} == {digest[:16] for digest in digests}
    assert len(digests) == len(changes)


@given(st.integers(2 * WIDTH - 1, 400), st.integers(1, 50), st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_the_rows_of_an_epoch_are_consecutive_slices_in_frames(
    length: int, batch_size: int, seed: int, epoch: int
) -> None:
    rows = rows_of(np.arange(length) + 10, vocab_size=length + 10)
    batches = rows.batches(batch_size, seed, epoch)
    seen: dict[int, list[int]] = {}
    for starts in batches:
        batch = rows.collate(starts)
        assert batch["input_ids"].shape == (len(starts), WIDTH + 2) and batch["input_ids"].dtype == torch.int64
        assert batch["input_ids"][:, [0, -1]].tolist() == [[2, 3]] * len(starts)
        assert batch["attention_mask"] is None and batch["token_type_ids"] is None
        seen |= dict(zip(starts, batch["input_ids"][:, 1:-1].tolist(), strict=True))
    # In the order of the stream they make one piece of it, and what is left at its two ends would make no row.
    first, *_ = ordered = sorted(seen)
    text = [index for start in ordered for index in seen[start]]
    assert text == list(range(first + 10, first + 10 + len(text)))
    assert len(ordered) == len(rows) == sum(map(len, batches))
    assert 0 <= first < WIDTH and first + len(text) <= length < len(text) + 2 * WIDTH - 1
    # The number of batches depends on neither seed nor epoch.
    sizes = [len(batch) for batch in batches]
    assert sizes == [len(batch) for batch in rows.batches(batch_size, 0, 0)]
    assert set(sizes[:-1]) <= {batch_size} and 0 < sizes[-1] <= batch_size


def test_another_epoch_or_seed_cuts_elsewhere_and_shuffles_differently() -> None:
    rows = rows_of(np.arange(1000))

    def starts(seed: int, epoch: int) -> list[int]:
        return [start for batch in rows.batches(8, seed, epoch) for start in batch]

    assert starts(3, 4) == starts(3, 4)
    assert leaves_global_random_numbers_alone(lambda: rows.batches(8, 0, 0))
    every = [starts(0, epoch) for epoch in range(60)] + [starts(seed, 0) for seed in range(1, 60)]
    assert {min(found) for found in every[:60]} == set(range(WIDTH))  # so every token is read in some epoch
    assert len({tuple(index // WIDTH for index in found) for found in every}) == len(every)


def test_there_are_as_many_rows_as_fit_wherever_the_first_begins_and_one_at_least() -> None:
    for length, expected in ((13, 1), (19, 1), (20, 2), (27, 3)):
        assert len(rows_of(np.arange(length))) == expected
    for length in (1, 12):
        with pytest.raises(DataError, match=f"made up: {length} tokens.* --seq-len 9 need 13"):
            rows_of(np.arange(length))
    assert rows_of([7, 9, 7, 3, 7, 9, 8] * 9, vocab_size=12).counts.tolist() == [0, 0, 0, 9, 0, 0, 0, 27, 9, 18, 0, 0]
    shortest = rows_of([7, 8, 9], seq_len=3)
    assert sorted(start for batch in shortest.batches(2, 0, 0) for start in batch) == [0, 1, 2]
    assert shortest.collate([1])["input_ids"].tolist() == [[2, 8, 3]]


def test_labels_are_the_true_ids_of_the_stream_and_frames_are_never_masked() -> None:
    stream = np.random.default_rng(0).integers(5, 100, 500)
    rows, starts = rows_of(stream, rate=0.5), list(range(0, 490, 7))
    batch = rows.collate(starts)
    true = torch.tensor(np.stack([stream[start : start + WIDTH] for start in starts]))
    masked = (inner := batch["labels"][:, 1:-1]) != -100
    assert torch.equal(inner[masked], true[masked]) and 0.4 < masked.float().mean() < 0.6
    assert set(batch["labels"][:, [0, -1]].flatten().tolist()) == {-100}
    one, same, other = (rows.collate(starts, generator(seed))["labels"] for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


@given(st.text(st.sampled_from("ab \u3000")), st.integers(2, 9))
@example("a" + " " * 30 + "b", 5)
@example("x" * 19, 9)
def test_long_documents_are_cut_between_words_or_where_a_word_is_too_long(text: str, longest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "LONGEST_PIECE", longest)
        found = pieces(text)
    assert "".join("".join(found).split()) == "".join(text.split())  # drops nothing but blanks
    assert all(piece.strip() and len(piece) <= longest for piece in found)
    if max(map(len, text.split(" ")), default=0) < longest:
        assert [word for piece in found for word in piece.split()] == text.split()
