from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from src.utils.config import SHIPPED_CHECKPOINT
from tests.benchmarks.picture_of_bert import PICTURE, SENTENCE, Walk, draw, summary, walk
from tests.benchmarks.readme import MODEL, section


@pytest.fixture(scope="module")
def found() -> Walk:
    torch.set_num_threads(1)
    return walk()


def test_what_is_drawn_is_what_transformers_computes(found: Walk) -> None:
    from transformers import AutoTokenizer, BertForSequenceClassification

    theirs = BertForSequenceClassification.from_pretrained(SHIPPED_CHECKPOINT, attn_implementation="eager").eval()
    tokens = AutoTokenizer.from_pretrained(SHIPPED_CHECKPOINT)(SENTENCE, return_tensors="pt")
    assert found.input_ids.tolist() == tokens["input_ids"].tolist()
    with torch.inference_mode():
        wanted = theirs(**tokens, output_attentions=True, output_hidden_states=True)
    assert_close(found.logits, wanted.logits[0], rtol=0, atol=1e-5)
    *before, last = zip(found.hidden_states, wanted.hidden_states, strict=True)
    for ours, their_states in before:
        assert_close(ours, their_states[0], rtol=0, atol=1e-4)
    assert_close(last[0], last[1][0, :1], rtol=0, atol=1e-4)
    for number, weights in enumerate(wanted.attentions[:-1]):
        assert_close(found.attentions[number], weights[0], rtol=0, atol=1e-5)
    assert_close(found.attentions[-1], wanted.attentions[-1][0, :, :1], rtol=0, atol=1e-5)


def test_picture_and_figures_are_those_in_the_repository(found: Walk, tmp_path: Path) -> None:
    assert section(MODEL, "bert") == summary(found)
    draw(tmp_path / "bert.png", found)
    drawn, kept = (np.asarray(Image.open(path).convert("RGBA"), float) for path in (tmp_path / "bert.png", PICTURE))
    assert drawn.shape == kept.shape and drawn.std() > 20
    assert np.abs(drawn - kept).mean() < 0.5  # another processor's last digit may change a colour's shade
