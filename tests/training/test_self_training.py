from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from src.data.sources import Corpus, TextSplit
from src.evaluation.predictor import Predictor
from src.interop.huggingface import save_classifier
from src.training.self_training import taught
from src.utils.config import TrainConfig
from src.utils.errors import CheckpointError, DataError, UsageError
from tests.conftest import Programs
from tests.training import tiny_training
from tests.training.tiny_training import BAD, GOOD, corpus_of, sentences, settings

TEXTS = [f"a {word} film" for word in (*GOOD, *BAD)]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts = tiny_training.setup(examples=400, epochs=4, learning_rate=1e-2)
    for _ in range(4):
        parts.trainer.train_epoch(lambda report: None)
    folder = tmp_path_factory.mktemp("teacher")
    save_classifier(folder, parts.classifier)
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "films.txt").write_text("\n\n".join(TEXTS))
    return tmp_path / "films.txt"


def config(teacher: Path, *texts: Path, **options: Any) -> TrainConfig:
    return settings(teacher=str(teacher), unlabelled=tuple(map(str, texts)), **options)


def corpus() -> Corpus:
    return tiny_training.corpus()


def test_without_a_teacher_a_corpus_stays_as_it_is() -> None:
    assert taught(found := corpus(), settings()) is found


def test_the_training_split_becomes_the_texts_with_the_teachers_labels(teacher: Path, texts: Path) -> None:
    before = corpus()
    found = taught(before, config(teacher, texts, teacher_confidence=0.0))
    train = found.splits["train"]
    assert [text.strip() for text in train.texts] == TEXTS
    predictions = Predictor.load(teacher, "cpu").predict(TEXTS)
    assert [found.label_names[label] for label in train.labels] == [prediction.label for prediction in predictions]
    assert train.labels == [1] * len(GOOD) + [0] * len(BAD)
    assert (found.name, train.origin) == ("films.txt", "films.txt, as the teacher labels them")
    assert found.splits["validation"] is before.splits["validation"]


def test_texts_the_teacher_is_unsure_of_are_left_out(teacher: Path, texts: Path) -> None:
    scores = {each.text: each.score or 0.0 for each in Predictor.load(teacher, "cpu").predict(TEXTS)}
    threshold = sorted(scores.values())[len(scores) // 2]
    found = taught(corpus(), config(teacher, texts, teacher_confidence=threshold)).splits["train"]
    assert {text.strip() for text in found.texts} == {text for text in TEXTS if scores[text] >= threshold}
    assert 0 < len(found.texts) == len(found.labels) < len(TEXTS)


def test_a_teacher_sure_of_nothing_is_a_data_error(teacher: Path, texts: Path) -> None:
    with pytest.raises(DataError, match=r"sure of no text of films\.txt; lower --teacher-confidence"):
        taught(corpus(), config(teacher, texts, teacher_confidence=0.9999999))


def test_several_sources_are_read_and_as_many_drawn_as_asked_for(teacher: Path, texts: Path, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("a fine story\n\n\n\na dull story")
    found = taught(corpus(), config(teacher, texts, tmp_path / "more.txt", teacher_confidence=0.0))
    assert len(found.splits["train"].texts) == len(TEXTS) + 2 and found.name == "films.txt + more.txt"
    drawn = taught(corpus(), config(teacher, texts, teacher_confidence=0.0, max_train_samples=3)).splits["train"]
    assert len(drawn.texts) == 3 and {text.strip() for text in drawn.texts} <= set(TEXTS)


def test_the_teacher_reads_long_texts_as_the_student_will(teacher: Path, tmp_path: Path) -> None:
    neutral = " ".join(["the film"] * 60)
    (tmp_path / "long.txt").write_text(f"{neutral} lovely fine warm clever\n\n{neutral} dull ugly cold stupid")
    by_end = taught(corpus(), config(teacher, tmp_path / "long.txt", teacher_confidence=0.0, long_text="head-tail"))
    assert by_end.splits["train"].labels == [1, 0]
    by_beginning = taught(corpus(), config(teacher, tmp_path / "long.txt", teacher_confidence=0.0))
    assert len(set(by_beginning.splits["train"].labels)) == 1


def test_a_teacher_of_other_classes_is_refused(teacher: Path, texts: Path) -> None:
    other = corpus_of(sentences(8, 1), TextSplit(["a"], [0], "made up"), ("bad", "good"))
    with pytest.raises(CheckpointError, match="knows the classes negative, positive, made-up bad, good"):
        taught(replace(other, name="made-up"), config(teacher, texts))


@pytest.mark.parametrize("options", [{"teacher": "weights/x"}, {"unlabelled": ("films.txt",)}])
def test_teacher_and_texts_come_together(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="give both or neither"):
        settings(**options)


def test_a_student_is_trained_from_the_command_line_and_resumed_from_another_folder(
    programs: Programs, teacher: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"a {word} story,{int(word in GOOD)}" for word in (*GOOD, *BAD)] * 2
    (tmp_path / "data.csv").write_text("\n".join(["sentence,label", *rows]))
    monkeypatch.chdir(texts.parent)
    options: tuple[Any, ...] = ("--train-file", tmp_path / "data.csv", "--preset", "tiny", "--min-frequency", 1)
    options += ("--teacher", teacher, "--unlabelled", texts.name, "--teacher-confidence", 0.1, "--device", "cpu")
    run = tmp_path / "run"
    answer = programs.train(*options, "--epochs", 1, "--output-dir", run)
    assert answer.code == 0, answer.err
    assert "labelling   8 of 8 texts of films.txt" in answer.err
    assert "training    8 examples (4 negative, 4 positive) of films.txt, as the teacher labels them" in answer.err
    card = (run / "README.md").read_text()
    assert "on 8 examples of films.txt" in card and str(tmp_path) not in card
    monkeypatch.chdir(tmp_path.parent)
    again = programs.train("--resume", run, "--epochs", 1)
    assert again.code == 0, again.err
