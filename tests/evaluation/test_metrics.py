import json
import math
import random

import pytest
import torch
from torch import Tensor

from src.evaluation.metrics import Evaluation, evaluate, expected_calibration_error, fit_temperature
from src.utils.errors import DataError

NAMES = ("negative", "positive")


def logits_for(predicted: list[int], classes: int) -> Tensor:
    return 2.0 * torch.nn.functional.one_hot(torch.tensor(predicted), classes).float()


def binary(tn: int, fp: int, fn: int, tp: int) -> Evaluation:
    predicted = [0] * tn + [1] * fp + [0] * fn + [1] * tp
    return evaluate(logits_for(predicted, 2), [0] * (tn + fp) + [1] * (fn + tp), NAMES)


def test_the_interval_is_wilsons() -> None:
    z = 1.959963984540054  # the 97.5 % quantile of the normal distribution
    for right, wrong in ((719, 153), (7, 2), (0, 11), (11, 0)):
        n, p = right + wrong, right / (right + wrong)
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        assert binary(right, wrong, 0, 0).interval == pytest.approx((middle - half, middle + half), abs=1e-9)


def test_the_loss_is_the_mean_cross_entropy_in_nats() -> None:
    # softmax([0, ln 3]) = [1/4, 3/4]
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)], [0.0, 0.0]])
    expected = -(math.log(1 / 4) + math.log(3 / 4) + math.log(1 / 2)) / 3
    assert evaluate(logits, [0, 1, 1], NAMES).loss == pytest.approx(expected)


def test_three_classes_agree_with_hand_counts() -> None:
    true, predicted = [0, 0, 0, 1, 1, 2, 2, 2, 2], [0, 0, 1, 1, 2, 2, 2, 2, 2]
    result = evaluate(logits_for(predicted, 4), true, ("a", "b", "c", "absent"))
    assert result.n == 9 and result.accuracy == pytest.approx(7 / 9)
    assert result.confusion == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 4, 0], [0, 0, 0, 0]]
    rows = {"a": (1, 2 / 3, 4 / 5, 3), "b": (1 / 2, 1 / 2, 1 / 2, 2), "c": (4 / 5, 1, 8 / 9, 4), "absent": (0, 0, 0, 0)}
    for name, (precision, recall, f1, support) in rows.items():
        expected = {"precision": precision, "recall": recall, "f1": f1, "support": support}
        assert result.per_class[name] == pytest.approx(expected)
    assert result.precision == pytest.approx((1 + 1 / 2 + 4 / 5) / 4)
    assert result.recall == pytest.approx((2 / 3 + 1 / 2 + 1) / 4)
    assert result.f1 == pytest.approx((4 / 5 + 1 / 2 + 8 / 9) / 4)
    # Gorodkin's R_K: correct * n minus the products of the margins, here (3, 2, 4) and (2, 2, 5).
    products = 3 * 2 + 2 * 2 + 4 * 5
    assert result.mcc == pytest.approx((7 * 9 - products) / math.sqrt((81 - 29) * (81 - 33)))
    dictionary = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert dictionary == result.as_dict() and Evaluation.from_dict(dictionary | {"dataset": "films"}) == result


def test_all_right_all_wrong_and_only_one_class() -> None:
    right, wrong, single = binary(4, 0, 0, 3), binary(0, 4, 3, 0), binary(0, 3, 0, 0)
    assert right.accuracy == right.f1 == right.mcc == 1
    assert (wrong.accuracy, wrong.f1, wrong.mcc) == (0, 0, -1)
    assert (single.accuracy, single.mcc) == (0, 0)  # a correlation that is not defined
    found = [one.only_prediction for one in (right, wrong, single, binary(3, 0, 4, 0), binary(3, 0, 0, 0))]
    assert found == [None, None, "positive", "negative", None]  # the last is right


def test_a_label_may_carry_the_name_of_an_average() -> None:
    names = ("macro avg", "accuracy")
    result = evaluate(logits_for([0, 0, 1], 2).bfloat16().requires_grad_(), [0, 1, 1], names)
    assert result.per_class["macro avg"]["recall"] == 1
    assert result.per_class["accuracy"]["recall"] == 0.5
    assert result.recall == 0.75


def test_what_cannot_be_evaluated_is_refused() -> None:
    with pytest.raises(DataError, match="same"):
        evaluate(torch.zeros(1, 2), [0], ("same", "same"))


def test_the_text_states_the_numbers_in_per_cent_within_80_columns() -> None:
    # 719 / 872 = 82.454 %; precisions 350/423, 369/449, recalls 350/430, 369/442
    text = " ".join(binary(350, 80, 73, 369).as_text().split())
    facts = ["82.5 %", "79.8-84.8", "872", "0.649", "negative 82.7 81.4 82.1 430", "positive 82.2 83.5 82.8 442"]
    facts += ["macro average 82.5 82.4 82.4 872", "negative 350 80", "positive 73 369"]
    assert [fact for fact in facts if fact not in text] == []
    for classes in (2, 30):
        names = [f"{index} a label with\x1b[31m a very long name indeed" for index in range(classes)]
        labels = random.Random(0).choices(range(classes), k=2000)
        lines = evaluate(logits_for(labels, classes), labels, names).as_text().splitlines()
        assert max(map(len, lines)) <= 80 and all(line.isprintable() for line in lines)


def test_the_calibration_error_is_the_one_computed_by_hand() -> None:
    # Of (0.5, 0.55] one of one is right, of (0.6, 0.65] one of one, of (0.95, 1] one of three, 0.98 sure in the mean.
    scores, right = [0.62, 1.0, 0.96, 0.55, 0.98], [True, False, False, True, True]
    error = (0.45 + 0.38 + 3 * abs(1 / 3 - 0.98)) / 5
    assert expected_calibration_error(scores, right) == pytest.approx(error)
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert evaluate(logits, [0, 0], ("a", "b")).calibration_error == pytest.approx(1 / (1 + math.exp(-1)) - 0.5)


@pytest.mark.parametrize(("temperature", "classes"), [(2.5, 2), (0.4, 3)])
def test_the_temperature_by_which_labels_were_drawn_is_found(temperature: float, classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(20_000, classes, generator=generator)
    labels = (logits / temperature).softmax(-1).multinomial(1, generator=generator).squeeze(1).tolist()
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.03)


def test_texts_that_are_all_right_or_all_wrong_give_a_finite_temperature() -> None:
    logits = torch.tensor([[4.0, 0.0]]).repeat(40, 1)
    confidence = (logits / fit_temperature(logits, [0] * 40)).softmax(-1)[0, 0]
    assert float(confidence) == pytest.approx(41 / 42, abs=1e-4)
    assert (logits / fit_temperature(logits, [1] * 40)).softmax(-1)[0, 0] < 0.52
