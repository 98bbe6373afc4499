from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from src.utils.config import SHIPPED_CHECKPOINT
from tests.benchmarks import picture_of_bert, readme
from tests.benchmarks.one_sentence import SENTENCE, Walk, walk
from tests.benchmarks.readme import MODEL, with_section


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


def test_the_script_writes_the_picture_and_the_figures_that_are_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_readme = MODEL.read_text(encoding="utf-8")
    committed = picture_of_bert.PICTURE
    (tmp_path / "README.md").write_text(with_section(kept_readme, "bert", "old\n"), encoding="utf-8")
    monkeypatch.setattr(readme, "MODEL", tmp_path / "README.md")
    monkeypatch.setattr(picture_of_bert, "PICTURE", tmp_path / "bert.png")
    picture_of_bert.main()
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == kept_readme
    assert committed.stat().st_size < 400_000
    drawn, kept = (np.asarray(Image.open(path).convert("RGBA"), float) for path in (tmp_path / "bert.png", committed))
    assert drawn.shape == kept.shape and drawn.std() > 20
    assert np.abs(drawn - kept).mean() < 0.5  # another processor's last digit may change a colour's shade
    assert (drawn[0, 0] == 255).all() and (drawn[..., 3] == 255).all()  # white and opaque, on a dark page too
