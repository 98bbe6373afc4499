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
    V,
    our_config,
    randomized,
    their_model,
    tokenizer,
)  # fmt: skip

# transformers leaves config.json open in save_pretrained
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*config.json:ResourceWarning")

LONG = " ".join(SENTENCES)
CHANGES: dict[str, Callable[[str], str]] = {
    "gamma and beta": lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"
    ),
    "module.": lambda name: f"module.{name}",
    "_orig_mod.": lambda name: f"_orig_mod.{name}",
    "no prefix": lambda name: name.removeprefix("bert."),
    "all of them": lambda name: "_orig_mod.module." + name.removeprefix("bert.").replace("Norm.weight", "Norm.gamma"),
}


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


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_classifier(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("family", FAMILIES)
def test_their_tensors_come_back_byte_for_byte(family: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    save_classifier(there, load_classifier(saved_by_transformers(here, family)))
    expected, found = load_file(here / "model.safetensors"), load_file(there / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].numpy().tobytes() == tensor.numpy().tobytes(), name


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    written, read = classifier(), load_classifier(saved(tmp_path))
    assert read.label_names == LABELS
    assert read.seq_len == SEQ_LEN
    assert read.model.config == written.model.config
    assert not read.model.training
    for name, tensor in written.model.state_dict().items():
        assert torch.equal(read.model.state_dict()[name], tensor), name
    assert read_by_ours(read, LONG)[0] == read_by_ours(written, LONG)[0]


@pytest.mark.parametrize("change", CHANGES)
def test_old_names_load(change: str, tmp_path: Path) -> None:
    saved(tmp_path)
    edit_weights(tmp_path, lambda state: {CHANGES[change](name): tensor for name, tensor in state.items()})
    loaded = load_classifier(tmp_path).model.state_dict()
    for name, tensor in classifier().model.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


def test_stale_position_ids_are_ignored(tmp_path: Path) -> None:
    saved(tmp_path)
    stale = {"bert.embeddings.position_ids": torch.arange(POSITIONS)[None]}
    edit_weights(tmp_path, lambda state: state | stale)
    loaded = load_classifier(tmp_path).model.state_dict()
    assert torch.equal(loaded["classifier.weight"], classifier().model.classifier.weight)


def test_missing_tensor_is_named_with_its_shape(tmp_path: Path) -> None:
    name = "bert.encoder.layer.1.attention.self.key.weight"
    saved(tmp_path)
    edit_weights(tmp_path, lambda state: {key: tensor for key, tensor in state.items() if key != name})
    message = refusal(tmp_path)
    assert name in message
    assert f"shape ({3 * D}, {D})" in message


@pytest.mark.parametrize(
    ("name", "other", "ours"),
    [
        ("bert.embeddings.word_embeddings.weight", (V + 2, D), (V, D)),
        ("bert.encoder.layer.1.attention.self.query.bias", (D + 1,), (D,)),
        ("bert.encoder.layer.1.attention.self.key.weight", (D, D + 1), (D, D)),
        ("classifier.bias", (C + 1,), (C,)),
    ],
)
def test_wrong_shape_is_named_with_both_shapes(
    name: str, other: tuple[int, ...], ours: tuple[int, ...], tmp_path: Path
) -> None:
    saved(tmp_path)
    edit_weights(tmp_path, lambda state: state | {name: torch.zeros(other)})
    message = refusal(tmp_path)
    for part in (name, str(other), str(ours)):
        assert part in message


def test_stacked_tensors_that_agree_with_each_other_only_are_named_with_both_shapes(tmp_path: Path) -> None:
    names = [f"bert.encoder.layer.1.attention.self.{part}.bias" for part in ("query", "key", "value")]
    saved(tmp_path)
    edit_weights(tmp_path, lambda state: state | {name: torch.zeros(D + 1) for name in names})
    message = refusal(tmp_path)
    for part in (*names, str((3 * D + 3,)), str((3 * D,))):
        assert part in message


def test_pickle_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (saved(tmp_path) / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    message = refusal(tmp_path)
    assert "pytorch_model.bin" in message
    assert "save_pretrained" in message


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_file_is_named(name: str, tmp_path: Path) -> None:
    (saved(tmp_path) / name).unlink()
    assert f"{name} is missing" in refusal(tmp_path)


def test_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_truncated_file_is_named(name: str, kept: float, tmp_path: Path) -> None:
    path = saved(tmp_path) / name
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) - (kept > 0)])
    assert str(path) in refusal(tmp_path)


def test_encoder_without_classifier_is_refused_with_the_way_out(tmp_path: Path) -> None:
    their_model("bert", "masked_lm").save_pretrained(tmp_path)
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    message = refusal(tmp_path)
    assert "no classifier" in message
    assert "src.train" in message


def test_as_many_names_as_classes_are_needed(tmp_path: Path) -> None:
    edit_json(saved(tmp_path) / "config.json", id2label={"0": "no", "1": "yes"})
    assert f"{C} classes, config.json names 2" in refusal(tmp_path)


def test_foreign_model_is_refused(tmp_path: Path) -> None:
    edit_json(saved(tmp_path) / "config.json", model_type="electra")
    assert "electra" in refusal(tmp_path)


def test_tokenizer_with_an_id_beyond_the_vocabulary_is_refused(tmp_path: Path) -> None:
    grown = tokenizer()
    while grown.get_vocab_size() <= V:
        grown.add_tokens([f"word{grown.get_vocab_size()}"])
    grown.save(str(saved(tmp_path) / "tokenizer.json"))
    message = refusal(tmp_path)
    assert f"largest id is {V}" in message
    assert f"vocab_size = {V}" in message


@pytest.mark.parametrize(("count", "expected"), [(2, ("negative", "positive")), (3, ("0", "1", "2"))])
def test_classes_without_names_get_some(count: int, expected: tuple[str, ...], tmp_path: Path) -> None:
    path = saved(tmp_path, labels=LABELS[:count]) / "config.json"
    content = json.loads(path.read_text())
    path.write_text(
        json.dumps({name: value for name, value in content.items() if name not in ("id2label", "label2id")})
    )
    assert load_classifier(tmp_path).label_names == expected


@pytest.mark.parametrize("declared", [None, 1e30, int(1e30), POSITIONS + 1])
def test_texts_are_no_longer_than_the_positions(declared: float | None, tmp_path: Path) -> None:
    edit_json(saved(tmp_path) / "tokenizer_config.json", model_max_length=declared)
    assert load_classifier(tmp_path).seq_len == POSITIONS


def test_folder_without_tokenizer_config_reads_all_positions(tmp_path: Path) -> None:
    (saved_by_transformers(tmp_path, "roberta") / "tokenizer_config.json").unlink(missing_ok=True)
    assert load_classifier(tmp_path).seq_len == POSITIONS - 2


@pytest.mark.parametrize("declared", ["long", -1, float("nan")], ids=str)
def test_length_that_is_none_is_refused_by_name(declared: Any, tmp_path: Path) -> None:
    edit_json(saved(tmp_path) / "tokenizer_config.json", model_max_length=declared)
    assert "model_max_length" in refusal(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_reads_the_same_ids_and_logits_from_our_folder(family: str, tmp_path: Path) -> None:
    ours = classifier(our_config(family))
    save_classifier(tmp_path, ours)
    for text in SENTENCES:
        ids, logits = read_by_ours(ours, text)
        their_ids, their_logits = read_by_theirs(tmp_path, text, truncation=True)
        assert their_ids == ids
        torch.testing.assert_close(their_logits, logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", [SENTENCES[0][:12], LONG], ids=["short", "too long"])
def test_pipeline_of_transformers_gives_our_labels_and_scores(family: str, text: str, tmp_path: Path) -> None:
    ours = classifier(our_config(family))
    save_classifier(tmp_path, ours)
    pipeline = transformers.pipeline("text-classification", model=str(tmp_path), device="cpu", top_k=None)
    found = {row["label"]: row["score"] for row in pipeline([text], truncation=True)[0]}
    ids, logits = read_by_ours(ours, text)
    assert (len(ids) == SEQ_LEN) == (text == LONG)
    assert found == pytest.approx(dict(zip(LABELS, logits.softmax(-1).tolist(), strict=True)), abs=1e-5)


def test_pipeline_of_transformers_gives_the_same_scores_in_a_padded_batch(tmp_path: Path) -> None:
    save_classifier(tmp_path, classifier())
    pipeline = transformers.pipeline("text-classification", model=str(tmp_path), device="cpu", top_k=None)
    texts = [SENTENCES[0][:12], LONG]
    together, alone = (pipeline(texts, truncation=True, batch_size=size) for size in (2, 1))
    scores = [[{row["label"]: row["score"] for row in rows} for rows in batch] for batch in (together, alone)]
    for found, expected in zip(*scores, strict=True):
        assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_on_disk_is_float32_in_both_readers(dtype: torch.dtype, tmp_path: Path) -> None:
    save_classifier(tmp_path, classifier(), dtype)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {dtype}
    read = load_classifier(tmp_path)
    assert {tensor.dtype for tensor in read.model.state_dict().values()} == {torch.float32}
    logits, their_logits = (
        read_by_ours(read, SENTENCES[0])[1],
        read_by_theirs(tmp_path, SENTENCES[0], truncation=True)[1],
    )
    assert their_logits.dtype == torch.float32
    torch.testing.assert_close(their_logits, logits, rtol=0, atol=1e-5)
    assert not torch.equal(logits, read_by_ours(classifier(), SENTENCES[0])[1])  # it was rounded


def sinusoidal() -> Classifier:
    return classifier(BertConfig(**vars(our_config("bert")) | {"positional_encoding": "sinusoidal"}))


def test_sinusoidal_positions_are_an_ordinary_table_to_transformers(tmp_path: Path) -> None:
    ours = sinusoidal()
    save_classifier(tmp_path, ours)
    table = load_file(tmp_path / "model.safetensors")["bert.embeddings.position_embeddings.weight"]
    assert torch.equal(table, sinusoidal_table(POSITIONS, D))
    logits = read_by_theirs(tmp_path, SENTENCES[0], truncation=True)[1]
    torch.testing.assert_close(logits, read_by_ours(ours, SENTENCES[0])[1], rtol=0, atol=1e-5)


def test_sinusoidal_positions_come_back_by_their_config_key(tmp_path: Path) -> None:
    ours = sinusoidal()
    save_classifier(tmp_path, ours)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    theirs.save_pretrained(tmp_path)
    read = load_classifier(tmp_path)
    assert read.model.config.positional_encoding == "sinusoidal"
    assert "bert.embedding.position.weight" not in dict(read.model.named_parameters())
    assert torch.equal(read_by_ours(read, SENTENCES[0])[1], read_by_ours(ours, SENTENCES[0])[1])


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


@pytest.mark.parametrize(("family", "segments"), [("bert", True), ("distilbert", False), ("roberta", False)])
def test_only_a_model_with_segments_is_given_token_types(family: str, segments: bool, tmp_path: Path) -> None:
    save_classifier(tmp_path, classifier(our_config(family)))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert ("token_type_ids" in theirs(SENTENCES[0], SENTENCES[1])) == segments


# Masked language models


def masked_lm(family: str = "bert") -> MaskedLanguageModel:
    return MaskedLanguageModel(randomized(BertForMaskedLM(our_config(family))), tokenizer(), SEQ_LEN)


def masked_lm_refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_masked_lm(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("family", FAMILIES)
def test_their_masked_lm_comes_back_byte_for_byte(family: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    their_model(family, "masked_lm").save_pretrained(here)
    tokenizer().save(str(here / "tokenizer.json"))
    save_masked_lm(there, load_masked_lm(here))
    expected, found = load_file(here / "model.safetensors"), load_file(there / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].numpy().tobytes() == tensor.numpy().tobytes(), name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_masked_lm_that_is_saved_is_loaded_again(family: str, tmp_path: Path) -> None:
    written = masked_lm(family)
    save_masked_lm(tmp_path, written)
    read = load_masked_lm(tmp_path)
    assert (read.seq_len, read.model.config) == (SEQ_LEN, written.model.config)
    assert read.tokenizer.to_str() == written.tokenizer.to_str()
    assert not read.model.training
    found, expected = read.model.state_dict(), written.model.state_dict()
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_reads_the_same_ids_and_logits_from_our_masked_lm(family: str, tmp_path: Path) -> None:
    ours = masked_lm(family)
    save_masked_lm(tmp_path, ours)
    theirs, report = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [type(theirs).__name__]
    inputs = transformers.AutoTokenizer.from_pretrained(tmp_path)(LONG, return_tensors="pt", truncation=True)
    ids = ours.tokenizer.encode(LONG).ids
    assert inputs["input_ids"][0].tolist() == ids and len(ids) == SEQ_LEN
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(**inputs).logits, ours.model(torch.tensor([ids])), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_without_the_head_is_no_masked_lm(family: str, tmp_path: Path) -> None:
    saved_by_transformers(tmp_path, family)
    message = masked_lm_refusal(tmp_path)
    assert "model.safetensors holds no masked-language-model head; name a pre-trained checkpoint" in message


def test_a_missing_tensor_of_a_masked_lm_is_named(tmp_path: Path) -> None:
    save_masked_lm(tmp_path, masked_lm())
    name = "cls.predictions.transform.dense.bias"
    edit_weights(tmp_path, lambda state: {key: tensor for key, tensor in state.items() if key != name})
    message = masked_lm_refusal(tmp_path)
    assert f"lacks {name}, shape ({D},)" in message


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_or_truncated_file_of_a_masked_lm_is_named(name: str, tmp_path: Path) -> None:
    save_masked_lm(tmp_path, masked_lm())
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-2])
    assert str(path) in masked_lm_refusal(tmp_path)
    path.unlink()
    assert f"{name} is missing" in masked_lm_refusal(tmp_path)
    assert "is not a folder" in masked_lm_refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("declared", [None, 1e30, POSITIONS + 1])
def test_a_masked_lm_reads_no_more_than_its_positions(declared: float | None, tmp_path: Path) -> None:
    save_masked_lm(tmp_path, masked_lm())
    edit_json(tmp_path / "tokenizer_config.json", model_max_length=declared)
    assert load_masked_lm(tmp_path).seq_len == POSITIONS
