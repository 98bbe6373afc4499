"""The hand-written model beside the one of `transformers`, with the same weights, moved in either direction."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

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
    CLASSES,
    FAMILIES,
    HEADS,
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
    save_theirs,
    tokenizer,
)

# transformers leaves config.json open in save_pretrained
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*config.json:ResourceWarning")

DIRECTIONS = ("theirs to ours", "ours to theirs")


def pair(family: str, head: str, direction: str, folder: Path) -> tuple[Any, Any]:
    """A model of ours and one of theirs with the same weights, moved through a folder."""
    ours: Any
    if direction == "theirs to ours":
        save_theirs(folder, family, head)
        ours = (load_classifier(folder) if head == "classifier" else load_masked_lm(folder)).model
    elif head == "classifier":
        ours = randomized(BertForSequenceClassification(our_config(family), C))
        save_classifier(folder, Classifier(ours, tokenizer(), LABELS, SEQ_LEN))
    else:
        ours = randomized(BertForMaskedLM(our_config(family)))
        save_masked_lm(folder, MaskedLanguageModel(ours, tokenizer(), SEQ_LEN))
    class_ = getattr(transformers, CLASSES[family] + HEADS[head])
    theirs, report = class_.from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
    assert not any(report.values()), report  # no key is missing, unexpected or of another shape
    return ours, theirs.eval()


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
    for output in (found, ours.bert(**inputs)):  # the second one by the fused attention
        assert len(output.hidden_states) == LAYERS + 1
        for state, wanted in zip(output.hidden_states, expected.hidden_states, strict=True):
            assert_near(state[real], wanted[real])
    assert len(found.attentions) == LAYERS
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
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_masked_lm_logits_equal_theirs(family: str, direction: str, tmp_path: Path) -> None:
    inputs = batch(family)
    real = inputs["attention_mask"].bool()
    ours, theirs = pair(family, "masked_lm", direction, tmp_path)
    assert_near(ours(**inputs)[real], theirs(**inputs).logits[real])


@pytest.mark.parametrize("head", ["classifier", "masked_lm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_and_the_losses_of_twenty_steps_equal_theirs(family: str, head: str, tmp_path: Path) -> None:
    ours, theirs = (model.double().train() for model in pair(family, head, "theirs to ours", tmp_path))
    inputs, labels = batch(family), torch.arange(B) % C
    if head == "masked_lm":
        chosen = (torch.arange(T) % 2 == 0) & inputs["attention_mask"].bool()  # every second token is to be named
        labels = (inputs["input_ids"] * 7 % V).masked_fill(~chosen, -100)
    optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-3) for model in (ours, theirs)]
    history = []
    for step in range(20):
        logits = ours(**inputs, positions=chosen) if head == "masked_lm" else ours(**inputs)
        losses = F.cross_entropy(logits, labels[labels != -100]), theirs(**inputs, labels=labels).loss
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
        if step == 0:
            found = to_hugging_face({name: p.grad for name, p in ours.named_parameters()}, family)
            for name, parameter in theirs.named_parameters():
                # The absolute tolerance is for the keys' biases, whose gradients are zero but for rounding.
                assert torch.allclose(found.pop(name), parameter.grad, rtol=1e-5, atol=1e-12), name
            assert not found
        for optimizer in optimizers:
            optimizer.step()
        history.append([float(loss.detach()) for loss in losses])
    ours_, theirs_ = torch.tensor(history).T
    torch.testing.assert_close(ours_, theirs_, rtol=0, atol=1e-6)
    assert ours_[-1] < 0.5 * ours_[0]
