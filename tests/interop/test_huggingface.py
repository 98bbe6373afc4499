import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from src.interop.huggingface import Classifier, load_classifier, load_masked_lm, save_classifier, save_masked_lm
from src.model.bert import BertForSequenceClassification
from src.model.positional_encoding import sinusoidal_table
from src.utils.config import BertConfig
from src.utils.errors import CheckpointError
from tests.interop.peers import (
    FAMILIES,
    LABELS,
    POSITIONS,
    SENTENCES,
    SEQ_LEN,
    D,
    our_config,
    randomized,
    save_theirs,
    tokenizer,
)

# transformers leaves config.json open in save_pretrained
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*config.json:ResourceWarning")

HEADS: dict[str, tuple[Any, Any]] = {
    "classifier": (load_classifier, save_classifier),
    "masked_lm": (load_masked_lm, save_masked_lm),
}


def classifier(config: BertConfig | None = None, labels: tuple[str, ...] = LABELS) -> Classifier:
    model = randomized(BertForSequenceClassification(config or our_config("bert"), len(labels)))
    return Classifier(model, tokenizer(), labels, SEQ_LEN)


def edit_json(path: Path, **changes: Any) -> None:
    """Changes values; those that become None are removed."""
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


def read_by_theirs(folder: Path, text: str) -> Tensor:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt", truncation=True)
    with torch.no_grad():
        return model(**inputs).logits[0]


def read_by_ours(found: Classifier, text: str) -> tuple[list[int], Tensor]:
    ids: list[int] = found.tokenizer.encode(text).ids
    with torch.no_grad():
        return ids, found.model(torch.tensor([ids]))[0]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_their_tensors_come_back_byte_for_byte_with_all_beside_them(family: str, head: str, tmp_path: Path) -> None:
    load, save = HEADS[head]
    first = load(save_theirs(tmp_path / "theirs", family, head))
    (tmp_path / "ours").mkdir()
    save(tmp_path / "ours", first)
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].numpy().tobytes() == tensor.numpy().tobytes(), name
    again = load(tmp_path / "ours")
    assert (again.seq_len, again.model.config) == (first.seq_len, first.model.config) and not again.model.training
    assert again.tokenizer.to_str() == first.tokenizer.to_str()
    assert head == "masked_lm" or again.label_names == LABELS


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("gone", ["config.json", "model.safetensors", "tokenizer.json", "."])
def test_a_folder_or_a_file_that_is_missing_is_named(gone: str, head: str, tmp_path: Path) -> None:
    folder = save_theirs(tmp_path / "model", "bert", head)
    shutil.rmtree(folder) if gone == "." else (folder / gone).unlink()
    with pytest.raises(CheckpointError, match=str(folder / gone)):
        HEADS[head][0](folder)


@pytest.mark.parametrize(("head", "load"), [("classifier", load_masked_lm), ("masked_lm", load_classifier)])
def test_another_head_is_refused(head: str, load: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors holds no"):
        load(save_theirs(tmp_path, "bert", head))


@pytest.mark.parametrize(("count", "expected"), [(2, ("negative", "positive")), (3, ("0", "1", "2"))])
def test_classes_without_names_get_some(count: int, expected: tuple[str, ...], tmp_path: Path) -> None:
    save_classifier(tmp_path, classifier(labels=LABELS[:count]))
    edit_json(tmp_path / "config.json", id2label=None, label2id=None)
    assert load_classifier(tmp_path).label_names == expected


@pytest.mark.parametrize(("family", "positions"), [("bert", POSITIONS), ("roberta", POSITIONS - 2)])
def test_texts_are_no_longer_than_the_positions(family: str, positions: int, tmp_path: Path) -> None:
    save_classifier(tmp_path, classifier(our_config(family)))
    for longest, expected in ((4, 4), (10**30, positions)):
        edit_json(tmp_path / "tokenizer_config.json", model_max_length=longest)
        assert load_classifier(tmp_path).seq_len == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pipeline_of_transformers_gives_our_labels_and_scores(family: str, tmp_path: Path) -> None:
    ours, texts = classifier(our_config(family)), [SENTENCES[0][:12], *SENTENCES[1:], " ".join(SENTENCES)]
    save_classifier(tmp_path, ours)
    pipeline = transformers.pipeline("text-classification", model=str(tmp_path), device="cpu", top_k=None)
    assert ("token_type_ids" in pipeline.tokenizer(*SENTENCES[:2])) == (family == "bert")
    for batch_size in (1, 3):
        for text, rows in zip(texts, pipeline(texts, truncation=True, batch_size=batch_size), strict=True):
            ids, logits = read_by_ours(ours, text)
            assert ids == pipeline.tokenizer(text, truncation=True)["input_ids"]
            scores = dict(zip(LABELS, logits.softmax(-1).tolist(), strict=True))
            # Another attention, and padded.
            assert {row["label"]: row["score"] for row in rows} == pytest.approx(scores, abs=1e-5)


def test_half_precision_on_disk_is_float32_in_both_readers(tmp_path: Path) -> None:
    save_classifier(tmp_path, classifier(), torch.bfloat16)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.bfloat16}
    read = load_classifier(tmp_path)
    assert {tensor.dtype for tensor in read.model.state_dict().values()} == {torch.float32}
    logits, their_logits = read_by_ours(read, SENTENCES[0])[1], read_by_theirs(tmp_path, SENTENCES[0])
    assert their_logits.dtype == torch.float32
    torch.testing.assert_close(their_logits, logits, rtol=0, atol=1e-5)
    assert (logits - read_by_ours(classifier(), SENTENCES[0])[1]).abs().max() > 1e-4  # it was rounded


def test_sinusoidal_positions_are_an_ordinary_table_to_transformers_and_come_back(tmp_path: Path) -> None:
    ours = classifier(BertConfig(**vars(our_config("bert")) | {"positional_encoding": "sinusoidal"}))
    save_classifier(tmp_path, ours)
    table = load_file(tmp_path / "model.safetensors")["bert.embeddings.position_embeddings.weight"]
    assert torch.equal(table, sinusoidal_table(POSITIONS, D))
    logits = read_by_ours(ours, SENTENCES[0])[1]
    torch.testing.assert_close(read_by_theirs(tmp_path, SENTENCES[0]), logits, rtol=0, atol=1e-5)
    transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).save_pretrained(tmp_path)
    read = load_classifier(tmp_path)
    assert read.model.config.positional_encoding == "sinusoidal"
    assert "bert.embedding.position.weight" not in dict(read.model.named_parameters())
    assert torch.equal(read_by_ours(read, SENTENCES[0])[1], logits)
