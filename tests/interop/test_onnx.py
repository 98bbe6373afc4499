from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer

from src.interop.huggingface import load_classifier
from src.interop.onnx import GRAPH, OnnxModel, save_onnx
from src.utils.config import SHIPPED_CHECKPOINT
from tests.conftest import TrainedRun
from tests.interop.peers import POSITIONS, SENTENCES, C, batch, save_theirs

# transformers leaves config.json open in save_pretrained
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*config.json:ResourceWarning")


@torch.no_grad()
def test_the_graph_of_a_bert_has_the_logits_of_transformers(exported: TrainedRun) -> None:
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(SHIPPED_CHECKPOINT)
    graph, random = OnnxModel(exported.path / GRAPH), torch.Generator().manual_seed(3)
    assert "token_type_ids" in graph.input_names
    for B, T in ((1, 1), (13, 7), (7, 13), (1, 512)):
        inputs = {"input_ids": torch.randint(8192, (B, T), generator=random)}
        inputs["attention_mask"] = (torch.arange(T) < torch.randint(1, T + 1, (B, 1), generator=random)).long()
        inputs["token_type_ids"] = torch.randint(2, (B, T), generator=random)
        torch.testing.assert_close(graph(**inputs), theirs(**inputs).logits, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("family", [pytest.param("distilbert", marks=pytest.mark.deep), "roberta"])
def test_the_graph_of_the_other_families_has_the_logits_of_transformers(family: str, tmp_path: Path) -> None:
    layers = {"distilbert": "n_layers", "roberta": "num_hidden_layers"}[family]
    classifier = load_classifier(save_theirs(tmp_path, family, "classifier", **{layers: 2}))
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    before = classifier.tokenizer.to_str()
    assert 0 < save_onnx(tmp_path, classifier) < 1e-5
    assert classifier.tokenizer.to_str() == before != (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    graph = OnnxModel(tmp_path / GRAPH)
    assert "token_type_ids" not in graph.input_names
    longest = POSITIONS - (2 if family == "roberta" else 0)  # RoBERTa's first position is pad_token_id + 1
    long = {"input_ids": torch.arange(5, 5 + longest)[None], "attention_mask": torch.ones(1, longest).long()}
    shapes = ((13, 7), (1, 7), (13, 1), (1, 1))
    cut = ({name: tensor[:rows, :length] for name, tensor in batch(family).items()} for rows, length in shapes)
    for inputs in (*cut, long):
        found, expected = graph(**inputs), theirs(**inputs).logits
        assert found.shape == (len(inputs["input_ids"]), C)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_tokenizer_cuts_and_pads_by_itself_as_ours_does(exported: TrainedRun) -> None:
    ours = load_classifier(SHIPPED_CHECKPOINT)
    alone = Tokenizer.from_file(str(exported.path / "tokenizer.json"))
    texts = [*SENTENCES, "a long film " * 100]
    encodings = alone.encode_batch(texts)
    assert {len(encoding.ids) for encoding in encodings} == {ours.seq_len}
    for found, whole in zip(encodings, ours.tokenizer.encode_batch(texts), strict=True):
        real = sum(found.attention_mask)
        assert found.ids[:real] == whole.ids[: ours.seq_len - 1] + whole.ids[-1:] if real == ours.seq_len else whole.ids
        assert set(found.ids[real:]) <= {ours.model.config.pad_token_id}
