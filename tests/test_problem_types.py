"""Regression, several labels at once and one class of several: the same from data to folder, against transformers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import transformers
from sklearn.metrics import accuracy_score, f1_score

from src.data.sources import TextSplit, corpus_of_lists, open_corpus
from src.evaluation.attribution import explain
from src.evaluation.metrics import evaluate_multi_label, evaluate_regression
from src.evaluation.predictor import Predictor
from src.interop.huggingface import load_classifier, save_classifier
from src.train import fit
from src.training.tasks import ClassificationTask
from src.training.trainer import Trainer
from src.utils.config import DataConfig, ProblemType
from src.utils.errors import CheckpointError, UsageError
from tests.conftest import Programs
from tests.interop.peers import FAMILIES, SENTENCES, save_theirs
from tests.training.tiny_training import NO_DROPOUT, corpus_of, sentences, settings

# transformers leaves config.json open in save_pretrained
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*config.json:ResourceWarning")

SINGLE, MULTI, NUMBER = "single_label_classification", "multi_label_classification", "regression"
NAMES = {MULTI: ("insult", "threat", "toxic"), NUMBER: ("stars",)}


def targets(problem_type: str, count: int) -> list[Any]:
    numbers = [float(index % 5) + 0.5 for index in range(count)]
    return numbers if problem_type == NUMBER else [(float(n % 2 == 0.5), float(n > 2), 1.0) for n in numbers]


# Checkpoints of transformers


@pytest.mark.parametrize(
    ("problem_type", "classes"), [(None, 1), (None, 3), (SINGLE, 3), (MULTI, 1), (MULTI, 3), (NUMBER, 1), (NUMBER, 3)]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_and_labels_are_those_of_the_pipeline_and_the_folder_keeps_its_problem_type(
    family: str, problem_type: str | None, classes: int, tmp_path: Path
) -> None:
    names = {index: f"class {index}" for index in range(classes)}
    ids = {name: index for index, name in names.items()}
    save_theirs(tmp_path, family, "classifier", problem_type=problem_type, id2label=names, label2id=ids)
    (tmp_path / "ours").mkdir()
    save_classifier(tmp_path / "ours", load_classifier(tmp_path))
    found = Predictor.load(tmp_path / "ours", "cpu").predict(SENTENCES)
    pipeline = transformers.pipeline("text-classification", model=str(tmp_path / "ours"), device="cpu", top_k=None)
    for prediction, rows in zip(found, pipeline(SENTENCES, truncation=True), strict=True):
        scores = {row["label"]: row["score"] for row in rows}
        assert prediction.scores == pytest.approx(scores, abs=1e-5)
        assert (prediction.label, prediction.score) == (rows[0]["label"], prediction.scores[rows[0]["label"]])
        above_half = tuple(name for name in names.values() if scores[name] > 0.5)
        assert prediction.labels == (above_half if problem_type == MULTI else None)


@pytest.mark.parametrize("problem_type", ["ranking", SINGLE])
def test_a_problem_type_that_cannot_be_is_a_checkpoint_error(problem_type: str, tmp_path: Path) -> None:
    save_theirs(tmp_path, "bert", "classifier", id2label={0: "x"}, label2id={"x": 0})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"problem_type": problem_type}))
    with pytest.raises(CheckpointError, match=rf"config\.json.*{problem_type}"):
        load_classifier(tmp_path)


def test_one_class_without_a_problem_type_has_nothing_to_be_evaluated_on(programs: Programs, tmp_path: Path) -> None:
    save_theirs(tmp_path, "bert", "classifier", id2label={0: "LABEL_0"}, label2id={"LABEL_0": 0})
    answer = programs.inference("--checkpoint", tmp_path, "--dataset", "sample")
    assert answer.code == 2 and str(tmp_path) in answer.error


# Training


@pytest.mark.parametrize("problem_type", [MULTI, NUMBER])
def test_the_losses_of_twenty_steps_are_those_of_transformers(problem_type: ProblemType, tmp_path: Path) -> None:
    train, validation = (
        TextSplit(split.texts, targets(problem_type, len(split.texts)), split.origin)
        for split in (sentences(36, 1), sentences(12, 2))
    )
    corpus = replace(corpus_of(train, validation, NAMES[problem_type]), problem_type=problem_type)
    # No warm-up, decay or clipping, which their plain AdamW has not.
    plain = {"warmup_ratio": 0.0, "weight_decay": 0.0, "max_grad_norm": 1e9, "epochs": 99, "learning_rate": 1e-3}
    task = ClassificationTask(settings(**NO_DROPOUT, **plain, label_smoothing=0.1), corpus)
    assert task.model.config.problem_type == problem_type
    save_classifier(tmp_path, task.classifier)
    theirs = transformers.BertForSequenceClassification.from_pretrained(tmp_path).train()
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    trainer = Trainer(task)
    history = list[tuple[float, float]]()
    while len(history) < 20:
        for (indices,) in trainer.remaining_steps():
            report, batch = trainer.step_with_retry([indices]), task.train.collate(indices)
            for group in optimizer.param_groups:
                group["lr"] = report.learning_rate
            mask = None if batch["attention_mask"] is None else batch["attention_mask"].long()
            loss = theirs(input_ids=batch["input_ids"], attention_mask=mask, labels=batch["labels"]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append((report.loss, loss.item()))
        trainer.progress.epoch, trainer.progress.step_in_epoch = trainer.progress.epoch + 1, 0
    ours, expected = torch.tensor(history).T
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)
    assert ours[-4:].mean() < 0.8 * ours[:4].mean()


KINDS = (
    ("fine", 4.5, ["good", "short"]),
    ("warm", 4.0, ["good"]),
    ("dull", 1.25, ["bad"]),
    ("plain", 2.0, list[str]()),
)
ROWS = [(f"a {word} film {index}", number, labels) for index in range(12) for word, number, labels in KINDS]


def write(path: Path, problem_type: str) -> Path:
    """Numbers as CSV, whose cells are text; lists as JSON."""
    if problem_type == NUMBER:
        path = path.with_suffix(".csv")
        path.write_text("text,label\n" + "".join(f"{text},{number}\n" for text, number, _ in ROWS))
    else:
        path = path.with_suffix(".jsonl")
        path.write_text("".join(json.dumps({"text": text, "labels": labels}) + "\n" for text, _, labels in ROWS))
    return path


@pytest.mark.parametrize("problem_type", [MULTI, NUMBER])
def test_a_run_finds_its_problem_type_and_is_evaluated_resumed_explained_and_fine_tuned(
    problem_type: str, programs: Programs, tmp_path: Path
) -> None:
    data, folder = write(tmp_path / "films", problem_type), tmp_path / "run"
    options = ("--dataset", data, "--epochs", 2, "--keep", "best", "--min-frequency", 1)
    answer = programs.train_small(*options, "--output-dir", folder)
    assert answer.code == 0 and "--problem-type" in answer.err
    config, run = (json.loads((folder / name).read_text()) for name in ("config.json", "run.json"))
    names = {MULTI: ["bad", "good", "short"], NUMBER: ["label"]}[problem_type]
    assert config["problem_type"] == problem_type and list(config["id2label"].values()) == names
    assert (run["data"]["train"], run["data"]["unlabelled"]) == (43, 0)
    saved = json.loads((folder / "evaluation-validation.json").read_text())
    found = json.loads(programs.inference("--checkpoint", folder, "--json").out)
    assert found.pop("checkpoint") == str(folder) and found.pop("dataset") == saved.pop("dataset") == data.name
    assert found == pytest.approx(saved, abs=1e-5)
    assert problem_type in (folder / "README.md").read_text()
    assert programs.inference("--checkpoint", folder).code == 0
    answer = programs.train_small("--resume", folder, "--epochs", 3, "--allow-config-change")
    assert answer.code == 0 and len((folder / "metrics.jsonl").read_text().splitlines()) >= 3
    assert programs.report(folder, "--output-dir", tmp_path / "report").code == 0
    text = programs.inference("--checkpoint", folder, "a fine film").out.split("\t")
    assert len(text[0].split(", ")) == len(text[1].split(", ")) == len(names)
    predictor = Predictor.load(folder, "cpu")
    explanation = explain(predictor, predictor.predict(["a fine film"])[0])
    (best,) = predictor.logits(predictor.classifier.dataset(["a fine film"])).max(-1).values.tolist()
    assert explanation.margin == pytest.approx(best, abs=1e-5)  # the logit itself, not against other classes
    other = write(tmp_path / "others", {MULTI: NUMBER, NUMBER: MULTI}[problem_type])
    options = ("--dataset", other, "--epochs", 1, "--device", "cpu", "--num-threads", 1)
    answer = programs.train("--model-name-or-path", folder, *options, "--output-dir", tmp_path / "tuned")
    tuned = json.loads((tmp_path / "tuned" / "config.json").read_text())
    assert answer.code == 0 and {tuned["problem_type"], problem_type} == {MULTI, NUMBER}  # the data's, not the folder's


# Labels


@pytest.mark.parametrize(
    ("labels", "problem_type", "names", "expected"),
    [
        ([0, 0.5, torch.tensor(-1.0)], None, ("label",), [0.0, 0.5, -1.0]),
        ([np.float32(3), 1, "2e-1"], "regression", ("label",), [3.0, 1.0, 0.2]),
        ([["b", "a"], [], {"c"}], None, ("a", "b", "c"), [(1, 1, 0), (0, 0, 0), (0, 0, 1)]),
        ([np.array([10, 2]), [2], (True,)], None, ("10", "2", "true"), [(1, 1, 0), (0, 1, 0), (0, 0, 1)]),
        (["a, b", "", "b"], "multi_label_classification", ("a", "b"), [(1, 1), (0, 0), (0, 1)]),
        ([[0], [1], [0, 1]], None, ("0", "1"), [(1, 0), (0, 1), (1, 1)]),
        (["1.5", "2.5", "1.5"], "single_label_classification", ("1.5", "2.5"), [0, 1, 0]),
        ([3, 1, 2.0], None, ("1", "2", "3"), [2, 0, 1]),  # small integers are classes
    ],
)
def test_what_labels_are_is_found_or_said(
    labels: list[Any], problem_type: ProblemType | None, names: tuple[str, ...], expected: list[Any]
) -> None:
    corpus = corpus_of_lists(["x", "y", "z"], labels, (["v"], labels[:1]), problem_type)
    assert (corpus.label_names, corpus.splits["train"].labels) == (names, expected)


def test_lists_of_ids_get_the_names_that_a_data_set_declares(tmp_path: Path, own_cache: None) -> None:
    labels = datasets.List(datasets.ClassLabel(names=["joy", "anger", "fear"]))
    rows = datasets.Dataset.from_dict({"text": ["x", "y"], "labels": [[2, 0], []]})
    rows = rows.cast(datasets.Features({"text": datasets.Value("string"), "labels": labels}))
    rows.to_parquet(str(tmp_path / "train.parquet"))
    for source in (tmp_path, tmp_path / "train.parquet"):
        corpus = open_corpus(DataConfig(dataset=str(source)), ("train",))
        assert corpus.label_names == ("joy", "anger", "fear")
        assert corpus.splits["train"].labels == [(1, 0, 1), (0, 0, 0)]


@pytest.mark.parametrize(
    ("problem_type", "cells"),
    [("regression", ["1.5", "NaN"]), ("regression", ["1.5", ""]), ("regression", ["1", "inf"])],
)
def test_what_is_no_number_is_refused_with_its_line(
    problem_type: str, cells: list[str], tmp_path: Path, programs: Programs
) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"x,{cell}\n" for cell in cells))
    answer = programs.train_small("--dataset", tmp_path / "a.csv", "--problem-type", problem_type)
    assert answer.code == 3 and "a.csv:3: " in answer.error


def test_fit_learns_numbers_and_lists(tmp_path: Path) -> None:
    texts = [text for text, _, _ in ROWS]
    options: dict[str, Any] = {"epochs": 30, "learning_rate": 3e-3, "ema_decay": 0.0, "word_dropout": 0.0}
    options |= {"num_hidden_layers": 1, "num_threads": 1, "device": "cpu"}
    predictor = fit(texts, [number for _, number, _ in ROWS], tmp_path / "numbers", None, True, **options)
    fine, dull = (one.score or 0.0 for one in predictor.predict(["a fine film", "a dull film"]))
    assert fine > dull + 1
    predictor = fit(texts, [labels for _, _, labels in ROWS], tmp_path / "lists", None, True, **options)
    assert [one.labels for one in predictor.predict(["a fine film", "a plain film"])] == [("good", "short"), ()]
    with pytest.raises(UsageError, match="dataset"):
        fit(["x", "y"], [0, 1], tmp_path / "none", dataset="sample")


@pytest.mark.parametrize("options", ["--teacher weights/bert-sst2", "--class-weights balanced", "--best-by f1"])
def test_options_for_one_class_of_several_are_refused(options: str, tmp_path: Path, programs: Programs) -> None:
    data = write(tmp_path / "films", NUMBER)
    answer = programs.train_small("--dataset", data, *options.split(), "--output-dir", tmp_path / "run")
    assert answer.code == 2 and options.split()[0] in answer.error and not (tmp_path / "run").exists()


def test_a_teacher_of_several_labels_is_refused(tmp_path: Path) -> None:
    names = {0: "negative", 1: "positive"}
    save_theirs(
        tmp_path, "bert", "classifier", problem_type=MULTI, id2label=names, label2id={"negative": 0, "positive": 1}
    )
    with pytest.raises(UsageError, match=MULTI):
        fit(
            [f"a film {number}" for number in range(8)],
            [1, 0] * 4,
            tmp_path / "run",
            teacher=str(tmp_path),
            device="cpu",
        )


# Numbers


def test_several_labels_are_judged_as_scikit_learn_judges_them() -> None:
    logits = torch.randn(31, 4, generator=torch.Generator().manual_seed(0))
    true = (torch.randn(31, 4, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    found, said = evaluate_multi_label(logits, true.tolist(), "abcd"), logits > 0
    assert found.accuracy == pytest.approx(accuracy_score(true, said))
    assert found.f1 == pytest.approx(f1_score(true, said, average="macro"))
    assert found.score == found.micro_f1 == pytest.approx(f1_score(true, said, average="micro"))
    assert found.loss == pytest.approx(torch.nn.BCEWithLogitsLoss()(logits, true).item())
    nothing = evaluate_multi_label(-torch.ones(3, 1), [[0.0]] * 3, "a")
    assert (nothing.accuracy, nothing.f1, nothing.micro_f1) == (1, 0, 0)


def test_numbers_are_judged_by_their_error_and_their_order() -> None:
    true = np.random.default_rng(0).normal(size=31)
    found = evaluate_regression(torch.tensor(np.exp(true))[:, None], true.tolist(), ["stars"])
    assert found.loss == pytest.approx(np.mean((np.exp(true) - true) ** 2))
    assert found.pearson == pytest.approx(np.corrcoef(np.exp(true), true)[0, 1])
    assert found.score == found.spearman == pytest.approx(1)
    constant = evaluate_regression(torch.ones(3, 1), [1.0, 2.0, 3.0], ["stars"])
    assert (constant.pearson, constant.spearman) == (0, 0)
