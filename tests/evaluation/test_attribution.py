from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from src.data.tokenizer import encode, special_token_ids
from src.evaluation import attribution
from src.evaluation.attribution import TOLERANCE, Explanation, explain, share_among_words
from src.evaluation.predictor import Predictor
from src.interop.huggingface import Classifier
from src.model.bert import BertForSequenceClassification
from src.utils.config import SHIPPED_CHECKPOINT, LongText
from src.utils.errors import CheckpointError
from tests.data.test_tokenizer_encode import roberta_like
from tests.interop.peers import FAMILIES, LABELS, SENTENCES, SEQ_LEN, C, our_config, randomized, tokenizer

CPU = torch.device("cpu")
SHORT = "a very sad film!"


@pytest.fixture(scope="module")
def shipped() -> Predictor:
    return Predictor.load(SHIPPED_CHECKPOINT, "cpu")


def predictor(family: str, long_text: LongText = "truncate") -> Predictor:
    model = randomized(BertForSequenceClassification(our_config(family), C))
    return Predictor(Classifier(model, tokenizer(), LABELS, SEQ_LEN, long_text), CPU)


def explained(of: Predictor, text: str, pair: str | None = None) -> Explanation:
    (prediction,) = of.predict([text], None if pair is None else [pair])
    return explain(of, prediction)


def contributions(explanation: Explanation) -> list[list[float | None]]:
    return [[word.contribution for word in words] for words in explanation.words]


def spelled(explanation: Explanation) -> list[str]:
    return ["".join(word.before + word.text for word in words) for words in explanation.words]


def shared(text: str, *tokens: tuple[int, int, float]) -> list[tuple[str, float | None]]:
    return [(word.text, word.contribution) for word in share_among_words(text, tokens)]


def riemann(of: Predictor, text: str, steps: int = 2000) -> Tensor:
    """Integrated gradients of a text's tokens, (T,), as a sum over the middles of equal steps."""
    ids = torch.tensor([of.classifier.tokenizer.encode(text).ids])
    blank = ids.clone()
    blank[:, 1:-1] = special_token_ids(of.classifier.tokenizer)["mask_token"]
    with torch.no_grad():
        start, end = of.model.bert.embedding(blank), of.model.bert.embedding(ids)
        label = int(of.model(ids).argmax())
    along = ((torch.arange(steps) + 0.5) / steps).view(-1, 1, 1)
    path = (start + along * (end - start)).requires_grad_()
    logits = of.model.classifier(of.model.pooler(of.model.bert.encoder(path)[0][-1]))  # (steps, C)
    margins = logits[:, label] - logits[:, [index for index in range(C) if index != label]].mean(-1)
    (gradient,) = torch.autograd.grad(margins.sum(), path)
    return ((end - start)[0] * gradient.mean(0)).sum(-1)


@pytest.mark.parametrize("family", FAMILIES)
def test_contributions_are_those_of_a_sum_over_many_small_steps(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "FEWEST_STEPS", 512)  # of large random weights each share takes more than the sum
    of = predictor(family)
    wanted = riemann(of, SHORT)
    places = encode(of.classifier.tokenizer, [SHORT], SEQ_LEN, return_offsets=True).offset_mapping[0]
    found = explained(of, SHORT)
    assert [word.text for word in found.words[0]] == ["a", "very", "sad", "film", "!"]
    assert places[0] is None and places[-1] is None and len(places) == 7
    assert contributions(found)[0] == pytest.approx(wanted[1:-1].tolist(), abs=2e-3)
    assert float(wanted.abs().max()) > 0.05
    assert found.error < TOLERANCE
    total = sum(share or 0.0 for shares in contributions(found) for share in shares)
    assert found.baseline + total == pytest.approx(found.margin, abs=TOLERANCE * abs(found.margin))
    assert all(parameter.grad is None for parameter in of.model.parameters())


def test_of_two_classes_the_margin_of_the_predicted_one_is_the_log_odds(shipped: Predictor) -> None:
    for text in ("a gripping film", "a dull film"):
        found = explained(shipped, text)
        score = torch.tensor(found.prediction.score, dtype=torch.float64)
        assert found.margin == pytest.approx(float(torch.logit(score)), abs=1e-4)
    single = randomized(BertForSequenceClassification(our_config("bert"), 1))  # whose margin is its logit
    assert explained(Predictor(Classifier(single, tokenizer(), ("score",), SEQ_LEN), CPU), SHORT).error < TOLERANCE


def test_words_of_a_long_text_that_are_not_read_contribute_nothing() -> None:
    text = " ".join(SENTENCES[:2])
    ways: tuple[tuple[LongText, int, int], ...] = (("truncate", 7, 0), ("head-tail", 4, 3), ("windows", 99, 0))
    for long_text, first, last in ways:
        found = explained(predictor("bert", long_text), text)
        assert spelled(found) == [text] and found.error < TOLERANCE
        (shares,) = contributions(found)
        read = [place < first or place >= len(shares) - last for place in range(len(shares))]
        assert [share is not None for share in shares] == read
        assert found.prediction.truncated == (long_text != "windows")


def test_words_are_the_text(shipped: Predictor) -> None:
    for text in ("sad \udcff film", "!", "\u200b", "\U0001f600 film"):
        assert spelled(explained(predictor("bert"), text)) == [text.replace("\udcff", "?")]
    for text in (*SENTENCES[:2], "I ca n't (not) say it 's -lrb- good -rrb- .", "  caf\u00e9\t\u4e2d\u6587"):
        assert spelled(explained(shipped, text)) == [text]


def test_steps_are_doubled_until_the_contributions_add_up_and_a_baseline_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of = predictor("bert")
    monkeypatch.setattr(attribution, "FEWEST_STEPS", 1)
    found = explained(of, SHORT)
    assert found.steps > 1 and found.error < TOLERANCE
    monkeypatch.setattr(attribution, "MOST_STEPS", 1)
    rough = explained(of, SHORT)
    assert rough.steps == 1 and rough.error > TOLERANCE
    monkeypatch.setattr(attribution, "special_token_ids", lambda _: {})
    with pytest.raises(CheckpointError, match=r"\[MASK\]"):
        explained(of, SHORT)


def test_byte_level_tokens_and_both_texts_of_a_pair_find_their_words() -> None:
    own = roberta_like()
    config = replace(our_config("roberta"), vocab_size=own.get_vocab_size(), max_position_embeddings=64)
    of = Predictor(Classifier(randomized(BertForSequenceClassification(config, C)), own, LABELS, 60), CPU)
    texts = "w01  w02, caf\u00e9 \U0001f600!", "w03\n\nw04"
    found = explained(of, *texts)
    assert spelled(found) == list(texts) and found.error < TOLERANCE
    assert all(share is not None for shares in contributions(found) for share in shares)
    total = sum(share or 0.0 for shares in contributions(found) for share in shares)
    assert found.baseline + total == pytest.approx(found.margin, abs=TOLERANCE * abs(found.margin))


def test_words_are_what_a_reader_takes_for_words_and_sum_their_tokens() -> None:
    for text, words in {
        "It's a one-sided film, isn't it?": ["It's", "a", "one-sided", "film", ",", "isn't", "it", "?"],
        "-lrb- 'quoted' \u201ctoo\u201d -RRB-": ["-lrb-", "'", "quoted", "'", "\u201c", "too", "\u201d", "-RRB-"],
        "\u4e2d\u6587 ok": ["\u4e2d", "\u6587", "ok"],
    }.items():
        assert [word for word, _ in shared(text)] == words
    found = shared("a gripping film \U0001f600", (0, 1, 0.5), (2, 6, 1.0), (6, 10, -0.25), (16, 17, 2.0), (16, 17, 3.0))
    assert found == [("a", 0.5), ("gripping", 0.75), ("film", None), ("\U0001f600", 5.0)]
    assert shared("I ca n't", (0, 1, 1.0), (2, 6, 2.0), (6, 7, 3.0), (7, 8, 4.0)) == [("I", 1.0), ("ca n't", 9.0)]
    assert shared("a film ", (0, 1, 1.0), (2, 7, 2.0)) == [
        ("a", 1.0),
        ("film ", 2.0),
    ]  # a token with the blank after it
    # A token of no width belongs to the word it precedes, or else to the last one.
    assert shared("one two ", (0, 3, 1.0), (4, 4, 2.0), (4, 7, 4.0), (8, 8, 8.0)) == [("one", 1.0), ("two", 14.0)]


@given(st.text(max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=12))
def test_words_are_the_text_and_no_contribution_is_lost(text: str, spans: list[tuple[int, int]]) -> None:
    tokens = [(min(span), max(span), 2.0**number) for number, span in enumerate(spans) if max(span) <= len(text)]
    words = share_among_words(text, tokens)
    assert "".join(word.before + word.text for word in words).rstrip() == text.rstrip()
    if words:
        assert sum(word.contribution or 0.0 for word in words) == sum(share for _, _, share in tokens)
