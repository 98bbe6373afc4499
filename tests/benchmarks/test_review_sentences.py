from src.data.documents import sentences
from tests.benchmarks.review_sentences import agreed

REVIEWS = [
    'I liked it very much.<br /><br />The actors are so good! "It has a heart." Short one.',
    "the actors are SO good! A terrible and boring waste of time.",
]


def test_sentences_have_ordinary_length_and_come_once() -> None:
    assert list(sentences(REVIEWS)) == [
        (0, "I liked it very much."),
        (0, "The actors are so good!"),
        (0, '"It has a heart.'),
        (1, "A terrible and boring waste of time."),
    ]


def test_those_on_whose_label_both_agree_are_chosen_half_of_the_surest() -> None:
    found = [(f"Text {number}", "positive" if number % 2 else "negative") for number in range(4000)]
    answers = [("positive", 0.99 if number < 2000 else 0.9) for number in range(4000)]
    chosen = agreed(found, answers)
    assert chosen == agreed(found, answers) and len({text for text, _ in chosen}) == len(chosen)
    numbers = [int(text.removeprefix("text ")) for text, label in chosen if label == "positive"]
    assert len(numbers) == len(chosen) and all(number % 2 for number in numbers) and numbers != sorted(numbers)
    assert len([number for number in numbers if number >= 2000]) == 1000
    assert 400 < len([number for number in numbers if number < 2000]) < 600
