from pathlib import Path

import pytest
import torch

from src.evaluation.attention_maps import AttentionMaps, attention_maps, draw_attention
from src.evaluation.predictor import Predictor
from src.interop.huggingface import Classifier, load_classifier
from src.model.bert import BertForSequenceClassification
from tests.evaluation.some_answers import pixels_of
from tests.interop.peers import LABELS, LAYERS, SEQ_LEN, C, H, our_config, randomized, their_model, tokenizer

# transformers leaves config.json open in save_pretrained
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*config.json:ResourceWarning")

CPU = torch.device("cpu")
TEXT = "a very sad film!"


@pytest.fixture
def predictor() -> Predictor:
    model = randomized(BertForSequenceClassification(our_config("bert"), C))
    return Predictor(Classifier(model, tokenizer(), LABELS, SEQ_LEN), CPU)


def test_maps_are_the_attentions_of_transformers(tmp_path: Path) -> None:
    theirs = their_model("roberta", "classifier")
    theirs.save_pretrained(tmp_path)
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    found = attention_maps(Predictor(load_classifier(tmp_path), CPU), TEXT)
    ids = torch.tensor([tokenizer().encode(TEXT).ids])
    wanted = torch.cat(theirs(ids, output_attentions=True).attentions)  # (layers, H, T, T)
    assert found.weights.shape == (LAYERS, H, 7, 7)
    torch.testing.assert_close(found.weights, wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(LAYERS, H, 7))
    assert float(found.weights.std()) > 0.01


def test_tokens_are_spelled_as_the_text_is_and_what_is_unknown_as_the_model_sees_it(predictor: Predictor) -> None:
    spelled = ["[CLS]", "A", "VERY", "sad", "[UNK]", "!", "[SEP]"]
    assert attention_maps(predictor, "A  VERY sad zebra!").tokens == spelled
    assert attention_maps(predictor, "sad", "film").tokens == ["[CLS]", "sad", "[SEP]", "film", "[SEP]"]
    found = attention_maps(predictor, "film " * 50)  # its first window
    assert len(found.tokens) == SEQ_LEN and found.weights.shape[-1] == SEQ_LEN


def test_any_size_and_any_token_is_drawn_with_a_bounded_number_of_pixels(tmp_path: Path) -> None:
    for layers, heads, tokens in ((1, 1, 1), (1, 1, 300), (12, 1, 40)):
        weights = torch.full((layers, heads, tokens, tokens), 1 / tokens)
        draw_attention(tmp_path / "maps.png", AttentionMaps(["$x\u4e2d\x1b"] * tokens, weights), "a <title> $y$ " * 99)
        assert max(pixels_of(tmp_path / "maps.png").shape) < 7000
