import re
from dataclasses import replace

from sklearn.metrics import classification_report

from src.evaluation.predictions import Predictions
from src.evaluation.report import Report, most_confident_mistakes, render
from tests.evaluation.some_predictions import FEW, HOSTILE, Page, drawn, hostile, in_pairs


def page_of(predictions: Predictions | None, *missing: str) -> str:
    report = Report("A run", {"command": HOSTILE}, {"epochs": 3, "tokenizer": HOSTILE}, list(missing), [], predictions)
    return render(report, [("A line", "bGlnaHQ=", "ZGFyaw==")])


def test_the_page_holds_its_pictures_for_light_and_dark_and_needs_nothing_else() -> None:
    content = page_of(hostile(), "See https://example.org for more.")
    page = Page(content)
    ((dark,), (light,)) = page.found("source"), page.found("img")
    assert light == {"src": "data:image/png;base64,bGlnaHQ=", "alt": "A line"}
    assert dark == {"srcset": "data:image/png;base64,ZGFyaw==", "media": "(prefers-color-scheme: dark)"}
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "form", "a"})
    assert "url(" not in content and "@import" not in content
    policy = [meta["content"] for meta in page.found("meta") if "http-equiv" in meta]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_data_is_shown_as_it_is_and_never_obeyed() -> None:
    content = page_of(hostile(), HOSTILE)
    page = Page(content)
    assert not any("script" in tag or "onerror" in attributes for tag, attributes in page.tags)
    shown = HOSTILE.encode("unicode_escape").decode()  # control characters and what turns the direction of writing
    # The command, a setting, what is missing, and two mistakes of two texts each.
    assert sum(shown in text for text in page.text) == 3 + 2 * 2
    assert "\x1b" not in content and "\u202e" not in content
    content.encode("utf-8")


def test_the_surest_twenty_mistakes_are_listed_and_long_texts_and_names_cut() -> None:
    assert most_confident_mistakes(FEW) == [4, 2]
    expected = ["97.0%", "bad", "good", "well", "91.0%", "good", "bad", "it is n't dull"]
    assert Page(page_of(FEW)).text[-8:] == expected
    assert Page(page_of(in_pairs())).text[-2:] == ["it is n't dull", "three"]  # both texts of a pair
    predictions = drawn()
    rows = most_confident_mistakes(predictions)
    others = {row for row, right in enumerate(predictions.right) if not right} - set(rows)
    assert len(rows) == 20 and not any(predictions.right[row] for row in rows)
    assert min(predictions.scores[row] for row in rows) >= max(predictions.scores[row] for row in others)
    long = page_of(replace(FEW, texts=["x" * 9999] * 5, label_names=("n" * 99, "p" * 99)))
    assert max(map(len, re.findall("x+", long))) <= 400 and max(map(len, re.findall("n+|p+", long))) <= 30


def test_the_classes_have_the_rates_of_scikit_learn() -> None:
    predictions = drawn()
    rates = classification_report(predictions.true, predictions.predicted, output_dict=True)
    text = "\n".join(Page(page_of(predictions)).text)
    for number, name in enumerate(predictions.label_names):
        (found,) = re.findall(rf"{number} {name} +([\d.]+) +([\d.]+) +([\d.]+) +(\d+)", text)
        assert [float(value) for value in found] == [round(value, 2) for value in rates[str(number)].values()]


def test_without_labels_or_predictions_the_page_says_what_is_missing() -> None:
    assert "mistakes" not in page_of(replace(FEW, true=None))
    assert "There is no model." in Page(page_of(None, "There is no model.")).text
