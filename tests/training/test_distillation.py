import json
import math
from pathlib import Path

import pytest
import torch

from src.data.dataset import Batch, to_device
from src.training.distillation import distillation_loss, teacher_logits, with_unlabelled
from src.training.tasks import ClassificationTask
from src.training.trainer import Trainer
from src.utils.errors import UsageError
from tests.training.tiny_training import LABELS, NO_DROPOUT, corpus_of, sentences, settings, task, train_epoch, trainer

CPU = torch.device("cpu")
LOGITS, TEACHER = torch.tensor([[0.5, -1.0, 2.0], [3.0, 0.0, -0.5]]), torch.tensor([[1.0, 0.0, -1.0], [2.0, 2.0, 0.0]])


def test_the_loss_is_the_divergence_of_softened_probabilities_times_the_square_of_the_temperature() -> None:
    expected = 0.0
    for z, v in zip(LOGITS.tolist(), TEACHER.tolist(), strict=True):
        p, q = ([math.exp(x / 3) / sum(math.exp(y / 3) for y in row) for x in row] for row in (v, z))
        expected += 9 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert distillation_loss(LOGITS, TEACHER, 3.0).item() == pytest.approx(expected, rel=1e-5)
    assert distillation_loss(TEACHER, TEACHER, 3.0).item() == pytest.approx(0, abs=1e-6)


def batch_of(labels: list[int]) -> Batch:
    ids, targets = torch.tensor([[2, 5], [2, 6]]), torch.tensor(labels)
    return Batch(input_ids=ids, attention_mask=None, token_type_ids=None, labels=targets, teacher_logits=TEACHER)


def test_true_labels_have_their_weight_and_texts_without_one_only_the_teacher() -> None:
    student = task(temperature=2.0, hard_label_weight=0.25)

    def loss(labels: list[int]) -> float:
        batch = batch_of(labels)
        return student.loss(lambda *_: LOGITS, batch).item()  # type: ignore[arg-type]

    soft = 0.75 * distillation_loss(LOGITS, TEACHER, 2.0).item()
    of_labels = -LOGITS.log_softmax(-1)[[0, 1], [2, 0]]
    assert loss([-1, -1]) == pytest.approx(soft, rel=1e-5)
    assert loss([2, -1]) == pytest.approx(soft + 0.25 * of_labels[0].item(), rel=1e-5)
    assert loss([2, 0]) == pytest.approx(soft + 0.25 * of_labels.sum().item(), rel=1e-5)


def test_teacher_logits_stay_with_their_sentences() -> None:
    batch = batch_of([0, 1])
    assert torch.equal(to_device(batch, CPU)["teacher_logits"], TEACHER)
    train = task().train
    train.teacher_logits = torch.arange(2.0 * len(train)).view(-1, 2)
    assert train.collate([3, 1])["teacher_logits"].tolist() == [[6.0, 7.0], [2.0, 3.0]]


def test_unlabelled_sources_give_each_new_sentence_once(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    reviews = [
        "A fine film it is.<br /><br />Nobody will ever forget it! Short.",
        'NOBODY will ever forget it! "So he says." And more of it is here. This one is held out.',
    ]
    path.write_text("".join(json.dumps({"text": review}) + "\n" for review in reviews))
    train, validation = sentences(4, 0), sentences(2, 1)
    train.texts[0], validation.texts[0] = "a fine film it is.", "this one is held out."
    found = with_unlabelled(train, [validation], [str(path)])
    assert found.texts[4:] == ["Nobody will ever forget it!", "And more of it is here."]
    assert found.texts[:4] == train.texts and found.labels == [*train.labels, -1, -1]
    assert with_unlabelled(train, [validation], []) == train


def accuracy_after_training(trainer: Trainer) -> float:
    while trainer.progress.step < trainer.total_steps:
        train_epoch(trainer)
    return trainer.task.evaluate(trainer.trained_model).score


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that has learned its task, on disk."""
    folder = tmp_path_factory.mktemp("teacher")
    trained = trainer(examples=240, epochs=15, **NO_DROPOUT)
    assert accuracy_after_training(trained) > 0.9
    trained.task.save(folder, trained.trained_model)
    return folder


def test_logits_are_computed_once_a_teacher_and_texts(teacher: Path, tmp_path: Path) -> None:
    split = sentences(12, 5)
    found, _ = teacher_logits(str(teacher), split, LABELS, tmp_path, CPU, bf16=False)
    assert found.shape == (12, 2) and found.dtype == torch.float16
    assert (found.argmax(-1) == torch.tensor(split.labels)).float().mean() > 0.8
    (place,) = tmp_path.glob("[!.]*")
    written = place.stat().st_mtime_ns
    assert torch.equal(teacher_logits(str(teacher), split, LABELS, tmp_path, CPU, bf16=False)[0], found)
    assert place.stat().st_mtime_ns == written
    teacher_logits(str(teacher), sentences(12, 6), LABELS, tmp_path, CPU, bf16=False)
    assert len(list(tmp_path.glob("[!.]*"))) == 2


def test_a_teacher_of_other_classes_is_refused_by_name(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=str(teacher)):
        teacher_logits(str(teacher), sentences(4, 0), LABELS[::-1], tmp_path, CPU, bf16=False)


def test_a_student_learns_from_a_teacher_alone(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.training.tasks.CACHE_DIR", tmp_path)
    train, validation = sentences(240, 1), sentences(36, 2)
    wrong = [1 - label for label in train.labels]  # what the labels say counts for nothing
    options = NO_DROPOUT | {"epochs": 10, "teacher": str(teacher), "hard_label_weight": 0.0}
    student = ClassificationTask(
        settings(**options), corpus_of(type(train)(train.texts, wrong, train.origin), validation)
    )
    assert accuracy_after_training(Trainer(student)) > 0.9
