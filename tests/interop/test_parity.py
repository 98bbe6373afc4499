"""The hand-written model beside the one of `transformers`, with the same weights, moved in either direction."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from src.interop.configs import ARCHITECTURES
from src.interop.huggingface import (
    Classifier,
    MaskedLanguageModel,
    load_classifier,
    load_masked_lm,
    save_classifier,
    save_masked_lm,
)
from src.interop.key_tables import to_hugging_face
from src.model.bert import BertForMaskedLM, BertForSequenceClassification
from tests.interop.peers import (
    FAMILIES,
    LABELS,
    LAYERS,
    SEQ_LEN,
    B,
    C,
    T,
    V,
    batch,
    our_config,
    randomized,
    their_model,
    tokenizer,
)

# transformers leaves config.json open in save_pretrained
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*config.json:ResourceWarning")

Pair = tuple[Any, Any]  # ours, theirs
DIRECTIONS = ("theirs to ours", "ours to theirs")


def open_theirs(folder: Path, family: str, head: str) -> Any:
    class_ = getattr(transformers, ARCHITECTURES[family][head])
    model, report = class_.from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
    assert not any(report.values()), report  # no key is missing, unexpected or of another shape
    return model.eval()


def pair(family: str, head: str, direction: str, folder: Path) -> Pair:
    """A model of ours and one of theirs with the same weights, moved through a folder."""
    if direction == "theirs to ours":
        theirs = their_model(family, head)
        theirs.save_pretrained(folder)
        tokenizer().save(str(folder / "tokenizer.json"))
        return (load_classifier(folder) if head == "classifier" else load_masked_lm(folder)).model, theirs
    if head == "classifier":
        ours = randomized(BertForSequenceClassification(our_config(family), C))
        save_classifier(folder, Classifier(ours, tokenizer(), LABELS, SEQ_LEN))
    else:
        ours = randomized(BertForMaskedLM(our_config(family)))
        save_masked_lm(folder, MaskedLanguageModel(ours, tokenizer(), SEQ_LEN))
    return ours, open_theirs(folder, family, head)


def assert_near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_states_attentions_pooled_output_and_logits_equal_theirs(family: str, direction: str, tmp_path: Path) -> None:
    ours, theirs = pair(family, "classifier", direction, tmp_path)
    inputs = batch(family)
    real = inputs["attention_mask"].bool()  # at padding RoBERTa's positions differ, and nobody reads them
    expected = theirs.base_model(**inputs, output_hidden_states=True, output_attentions=True)
    found = ours.bert(**inputs, return_attentions=True)
    assert len(found.hidden_states) == len(expected.hidden_states) == LAYERS + 1
    for state, wanted in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert_near(state[real], wanted[real])
    for state, wanted in zip(ours.bert(**inputs).hidden_states, expected.hidden_states, strict=True):
        assert_near(state[real], wanted[real])  # by the fused attention
    assert len(found.attentions) == len(expected.attentions) == LAYERS
    for weights, wanted in zip(found.attentions, expected.attentions, strict=True):
        assert_near(weights.transpose(1, 2)[real], wanted.transpose(1, 2)[real])  # (N, H, T)
    first = expected.last_hidden_state[:, 0]
    pooled = {
        "bert": lambda: expected.pooler_output,
        "distilbert": lambda: theirs.pre_classifier(first).relu(),
        "roberta": lambda: theirs.classifier.dense(first).tanh(),
    }[family]()
    assert_near(ours.pooler(found.last_hidden_state), pooled)
    logits = ours(**inputs)
    assert logits.shape == (B, C)
    assert_near(logits, theirs(**inputs).logits)
    assert logits.std(0).min() > 1e-3  # the sentences do differ


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_masked_lm_logits_equal_theirs(family: str, tmp_path: Path) -> None:
    inputs = batch(family)
    real = inputs["attention_mask"].bool()
    for direction in DIRECTIONS:
        ours, theirs = pair(family, "masked_lm", direction, tmp_path)
        assert_near(ours(**inputs)[real], theirs(**inputs).logits[real])


def assert_equal_gradients(ours: nn.Module, theirs: nn.Module, family: str) -> None:
    found = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    assert len(found) == len(list(ours.parameters()))
    expected = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    renamed = to_hugging_face(found, family)
    assert renamed.keys() == expected.keys()
    for name, gradient in renamed.items():
        # The absolute tolerance is for the keys' biases, whose gradients are zero but for rounding.
        assert torch.allclose(gradient, expected[name], rtol=1e-5, atol=1e-12), name


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_equal_theirs(family: str, tmp_path: Path) -> None:
    ours, theirs = (model.double().train() for model in pair(family, "classifier", "theirs to ours", tmp_path))
    inputs, labels = batch(family), torch.arange(B) % C
    F.cross_entropy(ours(**inputs), labels).backward()  # type: ignore[no-untyped-call]
    theirs(**inputs, labels=labels).loss.backward()
    assert_equal_gradients(ours, theirs, family)
    ours, theirs = (model.double().train() for model in pair(family, "masked_lm", "theirs to ours", tmp_path))
    chosen = (torch.arange(T) % 2 == 0) & inputs["attention_mask"].bool()  # every second token is to be named
    labels = (inputs["input_ids"] * 7 % V).masked_fill(~chosen, -100)
    F.cross_entropy(ours(**inputs, positions=labels != -100), labels[labels != -100]).backward()  # type: ignore[no-untyped-call]
    theirs(**inputs, labels=labels).loss.backward()
    assert_equal_gradients(ours, theirs, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_twenty_steps_of_adamw_have_the_same_losses(family: str, tmp_path: Path) -> None:
    ours, theirs = (model.train() for model in pair(family, "classifier", "theirs to ours", tmp_path))
    optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-3) for model in (ours, theirs)]
    inputs, labels = batch(family), torch.arange(B) % C
    history = []
    for _ in range(20):
        losses = [F.cross_entropy(ours(**inputs), labels), theirs(**inputs, labels=labels).loss]
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        history.append([float(loss.detach()) for loss in losses])
    found, expected = torch.tensor(history).T
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert found[-1] < 0.5 * found[0]
