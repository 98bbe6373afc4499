import json
from pathlib import Path

import pytest

from src.utils.config import SHIPPED_CHECKPOINT
from tests.benchmarks.gpu import Run
from tests.training.tiny_training import LABELS, sentences


@pytest.mark.deep
def test_what_a_gpu_does_is_rehearsed_on_a_cpu(tmp_path: Path) -> None:
    split = sentences(1000, seed=0)
    rows = "".join(f"{text},{LABELS[label]}\n" for text, label in zip(split.texts, split.labels, strict=True))
    for name in ("train", "validation"):
        (tmp_path / f"sst2-{name}.csv").write_text(f"text,label\n{rows}")
    reviews = "".join(
        json.dumps({"text": ". ".join(split.texts[:300]), "label": label}) + "\n" for label in LABELS * 10
    )
    for kind in ("labelled", "unlabelled"):
        (tmp_path / f"reviews-{kind}.jsonl").write_text(reviews)
    (tmp_path / "minilm").symlink_to(SHIPPED_CHECKPOINT)  # its tokenizer is all that is wanted here
    run = Run(tmp_path, tmp_path / "out", rehearse=True)
    for part in (run.shapes, run.pretrain, run.trainer):
        part()
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(found["pretraining"]) == 8 and found["pretrained"]["n"] > 0 and len(found["finetuning"]) == 4
