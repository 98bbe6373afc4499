import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor

from src.interop.huggingface import (
    Classifier,
    MaskedLanguageModel,
    load_classifier,
    load_masked_lm,
    save_classifier,
    save_masked_lm,
)
from src.model.bert import BertForMaskedLM, BertForSequenceClassification
from src.model.positional_encoding import sinusoidal_table
from src.utils.config import BertConfig
from src.utils.errors import CheckpointError
from tests.interop.peers import (
    FAMILIES,
    LABELS,
    POSITIONS,
    SENTENCES,
    SEQ_LEN,
    C,
    D,
    our_config,
    randomized,
    their_model,
    tokenizer,
)  # fmt: skip

# transformers leaves config.json open in save_pretrained
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*config.json:ResourceWarning")

LONG = " ".join(SENTENCES)


def classifier(config: BertConfig | None = None, labels: tuple[str, ...] = LABELS) -> Classifier:
    model = randomized(BertForSequenceClassification(config or our_config("bert"), len(labels)))
    return Classifier(model, tokenizer(), labels, SEQ_LEN)


def saved(folder: Path, **options: Any) -> Path:
    save_classifier(folder, classifier(**options))
    return folder


def saved_by_transformers(folder: Path, family: str = "bert") -> Path:
    their_model(family, "classifier").save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, edit: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file(edit(load_file(path)), path)


def read_by_theirs(folder: Path, text: str, **options: Any) -> tuple[list[int], Tensor]:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt", **options)
    with torch.no_grad():
        return inputs["input_ids"][0].tolist(), model(**inputs).logits[0]


def read_by_ours(found: Classifier, text: str) -> tuple[list[int], Tensor]:
    ids: list[int] = found.tokenizer.encode(text).ids
    with torch.no_grad():
        return ids, found.model(torch.tensor([ids]))[0]


def refusal(folder: Path, load: Callable[[Path], object] = load_classifier) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def assert_same_bytes(found: Path, expected: Path) -> None:
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (found, expected))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].numpy().tobytes() == tensor.numpy().tobytes(), name


@pytest.mark.parametrize("family", FAMILIES)
def test_their_tensors_come_back_byte_for_byte(family: str, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("classifier", "its copy", "masked lm", "its copy too")]
    for folder in folders:
        folder.mkdir()
    save_classifier(folders[1], load_classifier(saved_by_transformers(folders[0], family)))
    assert_same_bytes(folders[1], folders[0])
    their_model(family, "masked_lm").save_pretrained(folders[2])
    tokenizer().save(str(folders[2] / "tokenizer.json"))
    save_masked_lm(folders[3], load_masked_lm(folders[2]))
    assert_same_bytes(folders[3], folders[2])


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    written, read = classifier(), load_classifier(saved(tmp_path))
    assert (read.label_names, read.seq_len, read.model.config) == (LABELS, SEQ_LEN, written.model.config)
    assert not read.model.training
    for name, tensor in written.model.state_dict().items():
        assert torch.equal(read.model.state_dict()[name], tensor), name
    assert read_by_ours(read, LONG)[0] == read_by_ours(written, LONG)[0]


def test_old_names_load_and_stale_position_ids_are_ignored(tmp_path: Path) -> None:
    def old(name: str) -> str:
        return "_orig_mod.module." + name.removeprefix("bert.").replace("Norm.weight", "Norm.gamma")

    saved(tmp_path)
    stale = {"bert.embeddings.position_ids": torch.arange(POSITIONS)[None]}
    edit_weights(tmp_path, lambda state: stale | {old(name): tensor for name, tensor in state.items()})
    loaded = load_classifier(tmp_path).model.state_dict()
    for name, tensor in classifier().model.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


def test_a_missing_tensor_is_named_with_its_shape(tmp_path: Path) -> None:
    name = "bert.encoder.layer.1.attention.self.key.weight"
    saved(tmp_path)
    edit_weights(tmp_path, lambda state: {key: tensor for key, tensor in state.items() if key != name})
    message = refusal(tmp_path)
    assert name in message and f"({D}, {D})" in message


@pytest.mark.parametrize(
    ("name", "ours"), [("classifier.bias", (C,)), ("bert.encoder.layer.1.attention.self.query.bias", (D,))]
)
def test_a_wrong_shape_is_named_with_both_shapes(name: str, ours: tuple[int, ...], tmp_path: Path) -> None:
    saved(tmp_path)
    edit_weights(tmp_path, lambda state: state | {name: torch.zeros(ours[0] + 1)})
    message = refusal(tmp_path)
    assert all(part in message for part in (name, str((ours[0] + 1,)), str(ours)))


def test_a_pickle_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (saved(tmp_path) / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    message = refusal(tmp_path)
    assert "pytorch_model.bin" in message and "save_pretrained" in message


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    for number, name in enumerate(("config.json", "model.safetensors", "tokenizer.json")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (saved(folder) / name).unlink()
        assert str(folder / name) in refusal(folder)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    for load in (load_classifier, load_masked_lm):
        assert str(tmp_path / "nowhere") in refusal(tmp_path / "nowhere", load)


def test_an_encoder_without_classifier_is_refused_with_the_way_out(tmp_path: Path) -> None:
    their_model("bert", "masked_lm").save_pretrained(tmp_path)
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    message = refusal(tmp_path)
    assert str(tmp_path / "model.safetensors") in message and "src.train" in message


def test_as_many_names_as_classes_are_needed(tmp_path: Path) -> None:
    edit_json(saved(tmp_path) / "config.json", id2label={"0": "no", "1": "yes"})
    message = refusal(tmp_path)
    assert f"{C} classes" in message and "names 2" in message


@pytest.mark.parametrize(("count", "expected"), [(2, ("negative", "positive")), (3, ("0", "1", "2"))])
def test_classes_without_names_get_some(count: int, expected: tuple[str, ...], tmp_path: Path) -> None:
    path = saved(tmp_path, labels=LABELS[:count]) / "config.json"
    content = json.loads(path.read_text())
    unnamed = {name: value for name, value in content.items() if name not in ("id2label", "label2id")}
    path.write_text(json.dumps(unnamed))
    assert load_classifier(tmp_path).label_names == expected


@pytest.mark.parametrize(("family", "positions"), [("bert", POSITIONS), ("roberta", POSITIONS - 2)])
def test_texts_are_no_longer_than_the_positions(family: str, positions: int, tmp_path: Path) -> None:
    save_classifier(tmp_path, classifier(our_config(family)))
    edit_json(tmp_path / "tokenizer_config.json", model_max_length=POSITIONS + 1)
    assert load_classifier(tmp_path).seq_len == positions
    (tmp_path / "tokenizer_config.json").unlink()
    assert load_classifier(tmp_path).seq_len == positions


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pipeline_of_transformers_gives_our_labels_and_scores(family: str, tmp_path: Path) -> None:
    ours, texts = classifier(our_config(family)), [SENTENCES[0][:12], *SENTENCES[1:], LONG]
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
    logits = read_by_ours(read, SENTENCES[0])[1]
    their_logits = read_by_theirs(tmp_path, SENTENCES[0], truncation=True)[1]
    assert their_logits.dtype == torch.float32
    torch.testing.assert_close(their_logits, logits, rtol=0, atol=1e-5)
    assert (logits - read_by_ours(classifier(), SENTENCES[0])[1]).abs().max() > 1e-4  # it was rounded


def test_sinusoidal_positions_are_an_ordinary_table_to_transformers_and_come_back(tmp_path: Path) -> None:
    ours = classifier(BertConfig(**vars(our_config("bert")) | {"positional_encoding": "sinusoidal"}))
    save_classifier(tmp_path, ours)
    table = load_file(tmp_path / "model.safetensors")["bert.embeddings.position_embeddings.weight"]
    assert torch.equal(table, sinusoidal_table(POSITIONS, D))
    logits = read_by_ours(ours, SENTENCES[0])[1]
    torch.testing.assert_close(read_by_theirs(tmp_path, SENTENCES[0], truncation=True)[1], logits, rtol=0, atol=1e-5)
    transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).save_pretrained(tmp_path)
    read = load_classifier(tmp_path)
    assert read.model.config.positional_encoding == "sinusoidal"
    assert "bert.embedding.position.weight" not in dict(read.model.named_parameters())
    assert torch.equal(read_by_ours(read, SENTENCES[0])[1], logits)


def test_tokenizer_with_special_tokens_of_another_spelling_keeps_them(tmp_path: Path) -> None:
    vocabulary = {token: index for index, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "film", "<mask>"])}
    spelled = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    spelled.pre_tokenizer = Whitespace()
    spelled.add_special_tokens([AddedToken(token, special=True) for token in vocabulary if token != "film"])
    model = classifier(our_config("roberta")).model
    save_classifier(tmp_path, Classifier(model, spelled, LABELS, SEQ_LEN))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == len(vocabulary)
    assert (theirs.pad_token, theirs.cls_token, theirs.sep_token) == ("<pad>", "<s>", "</s>")
    assert (theirs.unk_token, theirs.mask_token) == ("<unk>", "<mask>")


# Masked language models


def masked_lm(family: str = "bert") -> MaskedLanguageModel:
    return MaskedLanguageModel(randomized(BertForMaskedLM(our_config(family))), tokenizer(), SEQ_LEN)


def test_a_masked_lm_that_is_saved_is_loaded_again(tmp_path: Path) -> None:
    written = masked_lm()
    save_masked_lm(tmp_path, written)
    read = load_masked_lm(tmp_path)
    assert (read.seq_len, read.model.config) == (SEQ_LEN, written.model.config)
    assert read.tokenizer.to_str() == written.tokenizer.to_str()
    assert not read.model.training
    found, expected = read.model.state_dict(), written.model.state_dict()
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    edit_json(tmp_path / "tokenizer_config.json", model_max_length=POSITIONS + 1)
    assert load_masked_lm(tmp_path).seq_len == POSITIONS


def test_a_model_without_the_head_is_no_masked_lm(tmp_path: Path) -> None:
    assert str(tmp_path / "model.safetensors") in refusal(saved_by_transformers(tmp_path, "roberta"), load_masked_lm)
