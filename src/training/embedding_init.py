"""PMI/SVD initialisation: counts give what pre-training learns first, which tokens are frequent and go together."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from src.data.packing import log_frequencies
from src.model.bert import BertForMaskedLM
from src.model.positional_encoding import LearnedPositionalEncoding, sinusoidal_table

WINDOW = 5
CONTEXT_SMOOTHING = 0.75
TOKENS_AT_ONCE = 4_000_000


def start_from_counts(model: BertForMaskedLM, stream: NDArray[np.integer], counts: Tensor, seed: int) -> None:
    """Replaces a model's random token embeddings, positions and decoder bias, in place.

    Tokens that the text lacks, such as [MASK], stay random, and [PAD] zero. `stream` holds the ids of the training
    text, shape (tokens,), and `counts` how often each occurs, int64 (V,).
    """
    shape = model.config
    with torch.no_grad():
        token = model.bert.embedding.token.weight  # (V, D)
        vectors = token_vectors(stream, counts, shape.hidden_size, seed)
        vectors *= shape.initializer_range * shape.hidden_size**0.5  # as long as random ones are on average
        known = counts > 0
        known[shape.pad_token_id] = False
        token[known.to(token.device)] = vectors[known].to(token)
        position = model.bert.embedding.position
        if isinstance(position, LearnedPositionalEncoding) and shape.hidden_size % 2 == 0:
            # In the sine table equal distances are equal rotations (Vaswani et al. 2017, section 3.5).
            sines = sinusoidal_table(*position.weight.shape)  # (positions, D), mean square 1/2
            position.weight.copy_(sines * shape.initializer_range * 2**0.5)
        model.masked_lm.bias.copy_(log_frequencies(counts))


def token_vectors(stream: NDArray[np.integer], counts: Tensor, size: int, seed: int) -> Tensor:
    """Makes unit vectors, float32 (V, D), that point the same way for tokens that keep the same company.

    They are the left singular vectors of the positive PMI, scaled by the roots of the singular values (Levy, Goldberg &
    Dagan 2015, sections 2.2 and 3.3), less their mean, and turned at random; tokens that the text lacks have zeros.
    """
    from sklearn.utils.extmath import randomized_svd

    V = len(counts)
    # scikit-learn takes seeds below 2^32.
    left, values, _ = randomized_svd(positive_pmi(stream, V), min(size, V), n_iter=3, random_state=seed % 2**32)
    vectors = torch.zeros(V, size)  # (V, D)
    vectors[:, : len(values)] = torch.from_numpy(left * np.sqrt(values))
    seen = counts > 0  # (V,)
    vectors = torch.where(seen.unsqueeze(1), vectors - vectors[seen].mean(dim=0), 0.0)
    rotation = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(seed))).Q  # (D, D)
    return torch.nn.functional.normalize(vectors @ rotation, dim=1)


def positive_pmi(stream: NDArray[np.integer], vocab_size: int) -> csr_array:
    """Computes max(0, ln(p(a, b) / (p(a) p'(b)))) for tokens a and b near each other: sparse float32, (V, V).

    A pair d apart counts (WINDOW + 1 - d) / WINDOW, in both directions and across the ends of documents; p' is the
    frequency to the power of 0.75, which makes rare company less important (Levy, Goldberg & Dagan 2015, section 3.1).
    """
    shape = (vocab_size, vocab_size)
    pairs = csr_array(shape, dtype=np.float32)
    for start in range(0, len(stream), TOKENS_AT_ONCE):
        ids = np.asarray(stream[start : start + TOKENS_AT_ONCE + WINDOW]).astype(np.int32)
        for distance in range(1, min(WINDOW, len(ids) - 1) + 1):
            firsts, seconds = ids[:-distance][:TOKENS_AT_ONCE], ids[distance:][:TOKENS_AT_ONCE]
            weights = np.full(len(firsts), (WINDOW + 1 - distance) / WINDOW, dtype=np.float32)
            pairs = pairs + coo_array((weights, (firsts, seconds)), shape=shape).tocsr()
    pairs = (pairs + pairs.T).tocoo()
    totals = pairs.sum(axis=0)  # (V,)
    context = totals**CONTEXT_SMOOTHING
    context /= context.sum()
    pmi = np.log(pairs.data / (totals[pairs.row] * context[pairs.col]))
    positive = pmi > 0
    return csr_array((pmi[positive], (pairs.row[positive], pairs.col[positive])), shape=shape, dtype=np.float32)
