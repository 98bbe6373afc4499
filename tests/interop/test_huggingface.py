"""The hand-written model and the one of `transformers`, with the same weights moved through folders both ways."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

from src.interop.huggingface import (
    Classifier,
    MaskedLanguageModel,
    load_classifier,
    load_masked_lm,
    save_classifier,
    save_masked_lm,
)
from src.interop.key_tables import their_name
from src.model.bert import Bert, BertForMaskedLM, BertForSequenceClassification
from src.model.positional_encoding import sinusoidal_table
from src.utils.config import BertConfig
from src.utils.errors import CheckpointError, UsageError
from tests.interop.peers import (
    CLASSES,
    FAMILIES,
    HEADS,
    LABELS,
    POSITIONS,
    SENTENCES,
    SEQ_LEN,
    B,
    C,
    D,
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

PROGRAMS: dict[str, tuple[Any, Any]] = {
    "classifier": (load_classifier, save_classifier),
    "masked_lm": (load_masked_lm, save_masked_lm),
}
both_heads = pytest.mark.parametrize("head", PROGRAMS)
every_family = pytest.mark.parametrize("family", FAMILIES)
both_directions = pytest.mark.parametrize("direction", ["theirs to ours", "ours to theirs"])


def classifier(config: BertConfig | None = None, labels: tuple[str, ...] = LABELS) -> Classifier:
    model = randomized(BertForSequenceClassification(config or our_config("bert"), len(labels)))
    return Classifier(model, tokenizer(), labels, SEQ_LEN)


def pair(family: str, head: str, direction: str, folder: Path) -> tuple[Any, Any]:
    """A model of ours and one of theirs with the same weights, moved through a folder."""
    load, save = PROGRAMS[head]
    if direction == "theirs to ours":
        ours = load(save_theirs(folder, family, head))
    else:
        config = our_config(family)
        masked_lm = MaskedLanguageModel(randomized(BertForMaskedLM(config)), tokenizer(), SEQ_LEN)
        ours = classifier(config) if head == "classifier" else masked_lm
        folder.mkdir(exist_ok=True)
        save(folder, ours)
    class_ = getattr(transformers, CLASSES[family] + HEADS[head])
    theirs, report = class_.from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
    assert not any(report.values()), report  # no key is missing, unexpected or of another shape
    return ours.model, theirs.eval()


def assert_near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
@every_family
@both_directions
def test_states_attentions_pooled_output_and_logits_equal_theirs(family: str, direction: str, tmp_path: Path) -> None:
    ours, theirs = pair(family, "classifier", direction, tmp_path)
    inputs = batch(family)
    real = inputs["attention_mask"].bool()  # at padding RoBERTa's positions differ, and nobody reads them
    expected = theirs.base_model(**inputs, output_hidden_states=True, output_attentions=True)
    found = ours.bert(**inputs, return_attentions=True)
    for output in (found, ours.bert(**inputs)):  # the second one by the fused attention
        for state, wanted in zip(output.hidden_states, expected.hidden_states, strict=True):
            assert_near(state[real], wanted[real])
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
    assert_near(logits, theirs(**inputs).logits)
    assert logits.std(0).min() > 1e-3  # the sentences do differ
    ours, theirs = pair(family, "masked_lm", direction, tmp_path / "masked_lm")
    assert_near(ours(**inputs)[real], theirs(**inputs).logits[real])


def test_roberta_does_not_count_padding_wherever_it_stands(tmp_path: Path) -> None:
    ours, theirs = (model.train() for model in pair("roberta", "classifier", "theirs to ours", tmp_path))
    ids = torch.tensor([[1, 1, 5, 6, 7, 8], [5, 1, 6, 1, 7, 8], [5, 6, 7, 8, 9, 10]])
    found, wanted = ours(ids, ids != 1), theirs(input_ids=ids, attention_mask=ids != 1).logits
    assert_near(found, wanted)
    assert_near(ours(ids), theirs(input_ids=ids).logits)  # though it is attended to
    table, their_table = ours.bert.embedding.position.weight, theirs.roberta.embeddings.position_embeddings.weight
    gradients = [
        torch.autograd.grad(logits.square().sum(), weight)[0]
        for logits, weight in ((found, table), (wanted, their_table))
    ]
    assert_near(*gradients)


def test_two_texts_need_two_segments(tmp_path: Path) -> None:
    found = load_classifier(save_theirs(tmp_path, "bert", "classifier", type_vocab_size=1))
    assert found.dataset(SENTENCES).token_type_ids is None
    with pytest.raises(UsageError, match="type_vocab_size"):
        found.dataset(SENTENCES, pairs=SENTENCES)


@both_heads
@every_family
def test_gradients_and_the_losses_of_twenty_steps_equal_theirs(family: str, head: str, tmp_path: Path) -> None:
    ours, theirs = (model.double().train() for model in pair(family, head, "theirs to ours", tmp_path))
    inputs, labels = batch(family), torch.arange(B) % C
    if head == "masked_lm":
        chosen = (torch.arange(T) % 2 == 0) & inputs["attention_mask"].bool()  # every second token is to be named
        labels = (inputs["input_ids"] * 7 % V).masked_fill(~chosen, -100)
    optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-3) for model in (ours, theirs)]
    history = []
    for step in range(20):
        logits = ours(**inputs, target_mask=chosen) if head == "masked_lm" else ours(**inputs)
        losses = F.cross_entropy(logits, labels[labels != -100]), theirs(**inputs, labels=labels).loss
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
        if step == 0:
            found = {their_name(name, family): p.grad for name, p in ours.named_parameters()}
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


@both_heads
@every_family
def test_a_folder_comes_back_byte_for_byte(family: str, head: str, tmp_path: Path) -> None:
    load, save = PROGRAMS[head]
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


@pytest.mark.parametrize("gone", ["config.json", "model.safetensors", "tokenizer.json", "."])
def test_a_folder_or_a_file_that_is_missing_is_named(gone: str, tmp_path: Path) -> None:
    folder = save_theirs(tmp_path / "model", "bert", "classifier")
    shutil.rmtree(folder) if gone == "." else (folder / gone).unlink()
    with pytest.raises(CheckpointError, match=str(folder / gone)):
        load_classifier(folder)


@pytest.mark.parametrize(("head", "load"), [("classifier", load_masked_lm), ("masked_lm", load_classifier)])
def test_another_head_is_refused(head: str, load: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: .*head"):
        load(save_theirs(tmp_path, "bert", head))


@pytest.mark.parametrize(("family", "positions"), [("bert", POSITIONS), ("roberta", POSITIONS - 2)])
def test_two_classes_without_names_get_some_and_texts_fit_the_positions(
    family: str, positions: int, tmp_path: Path
) -> None:
    save_classifier(tmp_path, classifier(our_config(family), LABELS[:2]))
    edit_json(tmp_path / "config.json", id2label=None, label2id=None)
    for longest, expected in ((4, 4), (10**30, positions)):
        edit_json(tmp_path / "tokenizer_config.json", model_max_length=longest)
        found = load_classifier(tmp_path)
        assert found.seq_len == expected and found.label_names == ("LABEL_0", "LABEL_1")


@every_family
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
    logits = read_by_ours(load_classifier(tmp_path), SENTENCES[0])[1]
    assert_near(read_by_theirs(tmp_path, SENTENCES[0]), logits)  # of one type
    assert (logits - read_by_ours(classifier(), SENTENCES[0])[1]).abs().max() > 1e-4  # it was rounded


def test_sinusoidal_positions_are_an_ordinary_table_to_transformers_and_come_back(tmp_path: Path) -> None:
    ours = classifier(BertConfig(**vars(our_config("bert")) | {"positional_encoding": "sinusoidal"}))
    save_classifier(tmp_path, ours)
    table = load_file(tmp_path / "model.safetensors")["bert.embeddings.position_embeddings.weight"]
    assert torch.equal(table, sinusoidal_table(POSITIONS, D) / D**0.5)
    logits = read_by_ours(ours, SENTENCES[0])[1]
    assert_near(read_by_theirs(tmp_path, SENTENCES[0]), logits)
    transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).save_pretrained(tmp_path)
    read = load_classifier(tmp_path)
    assert read.model.config.positional_encoding == "sinusoidal"
    assert "bert.embedding.position.weight" not in dict(read.model.named_parameters())
    assert torch.equal(read_by_ours(read, SENTENCES[0])[1], logits)


@every_family
@pytest.mark.parametrize("kind", [str, Path])
def test_a_model_is_loaded_in_one_line_by_the_name_of_its_folder(family: str, kind: Any, tmp_path: Path) -> None:
    inputs = batch(family)
    for head, model_class in (("classifier", BertForSequenceClassification), ("masked_lm", BertForMaskedLM)):
        folder = save_theirs(tmp_path / head, family, head)
        model, encoder = model_class.from_pretrained(kind(folder)), Bert.from_pretrained(kind(folder))
        assert type(model) is model_class and not model.training and not encoder.training
        assert encoder.config == model.config
        expected, theirs = PROGRAMS[head][0](folder).model(**inputs), encoder(**inputs).last_hidden_state
        torch.testing.assert_close(model(**inputs), expected, rtol=0, atol=0)
        torch.testing.assert_close(theirs, model.bert(**inputs).last_hidden_state, rtol=0, atol=0)
    with pytest.raises(CheckpointError):
        BertForMaskedLM.from_pretrained(kind(tmp_path / "classifier"))
    with pytest.raises(CheckpointError):
        Bert.from_pretrained(kind(tmp_path / "nothing there"))


class Doubled(BertForSequenceClassification):
    """Its parameters are those of BERT's classifier, its logits are not."""

    def forward(self, *inputs: Any) -> Tensor:
        return 2 * super().forward(*inputs)


class Gated(BertForSequenceClassification):
    """Has parameters that `transformers` has no name for."""

    def __init__(self, config: BertConfig, num_labels: int):
        super().__init__(config, num_labels)
        self.gates = nn.ModuleList([nn.Linear(num_labels, num_labels)])

    def forward(self, *inputs: Any) -> Tensor:
        return self.gates[0](super().forward(*inputs))


@pytest.mark.parametrize("model_class", [Doubled, Gated])
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_head_of_ones_own_is_opened_by_its_own_class_alone(
    family: str, model_class: type[BertForSequenceClassification], tmp_path: Path
) -> None:
    model = randomized(model_class(our_config(family), C))
    save_classifier(tmp_path, Classifier(model, tokenizer(), LABELS, SEQ_LEN))
    ids, mask = batch(family)["input_ids"], batch(family)["attention_mask"]
    torch.testing.assert_close(model_class.from_pretrained(tmp_path)(ids, mask), model(ids, mask), rtol=0, atol=0)
    for load in (load_classifier, BertForSequenceClassification.from_pretrained, Bert.from_pretrained):
        with pytest.raises(CheckpointError, match=model_class.__name__):
            load(tmp_path)
    for auto in (transformers.AutoModelForSequenceClassification, transformers.AutoModel):
        with pytest.raises(ValueError, match=model_class.__name__):
            auto.from_pretrained(tmp_path)
