from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import TruncatedSVD

from src.data.packing import log_frequencies
from src.model.bert import BertForMaskedLM
from src.model.positional_encoding import sinusoidal_table
from src.training import embedding_init
from src.training.embedding_init import CONTEXT_SMOOTHING, WINDOW, positive_pmi, start_from_counts, token_vectors
from src.training.tasks import MaskedLMTask
from src.utils.config import BertConfig
from tests.training.tiny_pretraining import corpus, settings

V, D = 40, 16


@pytest.fixture
def stream() -> Any:
    """5 to 9 keep company with 10 and 11, 12 to 16 with 17 and 18; 19 to 29 are noise, from 30 on absent."""
    draw = np.random.default_rng(0)
    phrases = [
        [draw.integers(5, 10), *draw.permutation([10, 11]), *draw.integers(19, 30, size=4)]
        if draw.random() < 0.5
        else [draw.integers(12, 17), *draw.permutation([17, 18]), *draw.integers(19, 30, size=4)]
        for _ in range(3000)
    ]
    return np.concatenate(phrases).astype(np.uint16)


def counts_of(stream: Any, vocab_size: int = V) -> torch.Tensor:
    return torch.from_numpy(np.bincount(stream, minlength=vocab_size))


def model(**options: Any) -> BertForMaskedLM:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"num_hidden_layers": 1, "hidden_size": D, "num_attention_heads": 2}
    return BertForMaskedLM(BertConfig(vocab_size=V, max_position_embeddings=24, **sizes | options))


def counted_by_hand(stream: Any) -> Any:
    pairs = np.zeros((V, V))
    for here, one in enumerate(stream):
        for distance in range(1, WINDOW + 1):
            for there in (here - distance, here + distance):
                if 0 <= there < len(stream):
                    pairs[one, stream[there]] += (WINDOW + 1 - distance) / WINDOW
    joint, single = pairs / pairs.sum(), pairs.sum(axis=1) / pairs.sum()
    smoothed = single**CONTEXT_SMOOTHING / (single**CONTEXT_SMOOTHING).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(joint / np.outer(single, smoothed))
    return np.where(pairs > 0, np.maximum(pmi, 0.0), 0.0)


def test_mutual_information_is_that_of_the_definition(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_init, "TOKENS_AT_ONCE", 9_999)
    np.testing.assert_allclose(positive_pmi(stream, V).toarray(), counted_by_hand(stream), rtol=1e-4, atol=1e-4)


def test_vectors_are_of_length_one_and_those_of_absent_tokens_zero_whatever_the_seed_and_width(stream: Any) -> None:
    seen = torch.from_numpy(np.bincount(stream, minlength=V) > 0)
    for width, seed in ((D, 0), (64, 2**63 - 1)):  # there may be more dimensions than tokens
        vectors = token_vectors(stream, counts_of(stream), width, seed)
        assert vectors.shape == (V, width)
        torch.testing.assert_close(vectors.norm(dim=1), seen.float())


def test_angles_are_those_of_an_exact_decomposition(stream: Any) -> None:
    seen = np.bincount(stream, minlength=V) > 0
    exact = TruncatedSVD(D, algorithm="arpack").fit(positive_pmi(stream, V))
    # u s of the matrix is m v; divided by the root of s it is u times that root.
    expected = (positive_pmi(stream, V) @ exact.components_.T / np.sqrt(exact.singular_values_))[seen]
    expected = expected - expected.mean(axis=0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = token_vectors(stream, counts_of(stream), D, seed=0)[torch.from_numpy(seen)].numpy()
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=0.02)


def test_a_model_starts_with_vectors_sines_and_frequencies(stream: Any) -> None:
    bert = model(initializer_range=0.05)
    before = {name: tensor.clone() for name, tensor in bert.state_dict().items()}
    start_from_counts(bert, stream, counts_of(stream), seed=3)
    after = bert.state_dict()
    token, position = after["bert.embedding.token.weight"], after["bert.embedding.position.weight"]
    seen = torch.from_numpy(np.bincount(stream, minlength=V) > 0)
    torch.testing.assert_close(token[seen], (token_vectors(stream, counts_of(stream), D, seed=3) * 0.05 * D**0.5)[seen])
    assert torch.equal(token[~seen], before["bert.embedding.token.weight"][~seen])
    assert not token[bert.config.pad_token_id].any()
    torch.testing.assert_close(position, sinusoidal_table(24, D) * 0.05 * 2**0.5)
    assert position.square().mean().sqrt() == pytest.approx(0.05)
    torch.testing.assert_close(after["masked_lm.bias"], log_frequencies(counts_of(stream)))
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {"bert.embedding.token.weight", "bert.embedding.position.weight", "masked_lm.bias"}


@pytest.mark.parametrize(
    "options", [{"positional_encoding": "sinusoidal"}, {"hidden_size": 15, "num_attention_heads": 3}]
)
def test_positions_stay_where_there_is_no_table_to_begin_with(options: dict[str, Any], stream: Any) -> None:
    bert = model(**options)
    before = bert.state_dict()["bert.embedding.position.weight"].clone()
    start_from_counts(bert, stream, counts_of(stream), seed=0)
    assert torch.equal(bert.state_dict()["bert.embedding.position.weight"], before)


def test_a_task_begins_as_it_is_told_and_not_at_all_where_a_checkpoint_follows(tmp_path: Path) -> None:
    found = corpus(tmp_path)
    tasks = {
        "counts": MaskedLMTask(settings(begin_with="counts"), found),
        "random": MaskedLMTask(settings(begin_with="random"), found),
        "resumed": MaskedLMTask(settings(begin_with="counts"), found, initialize=False),
    }
    biases = {name: task.model.state_dict()["masked_lm.bias"] for name, task in tasks.items()}
    torch.testing.assert_close(biases["counts"], log_frequencies(counts_of(found.train, len(biases["counts"]))))
    assert not biases["random"].any() and not biases["resumed"].any()
