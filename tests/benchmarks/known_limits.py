"""Counts what the shipped model makes of sentences that are known to be hard, for README.md.

    python -m tests.benchmarks.known_limits

The sentences are made by hand, ten of a kind: of the first two half are positive, neutral ones have no right answer.
"""

from pathlib import Path

from src.evaluation.predictor import Predictor
from src.utils.config import SHIPPED_CHECKPOINT
from tests.benchmarks.readme import FRONT_PAGE, write_section

SURE = 0.9
GOOD = {
    "double negation": [
        "The film is not without charm.",
        "You will not be disappointed.",
        "It is never less than gripping.",
        "There is nothing here that I did not like.",
        "Nobody can say that it is not moving.",
    ],
    "another language": [
        "Ein wunderbarer Film, den man gesehen haben muss.",
        "Un film magnifique et bouleversant.",
        "Una película maravillosa y emocionante.",
        "Un bellissimo film, pieno di vita.",
        "En underbar film, varm och rolig.",
    ],
}
BAD = {
    "double negation": [
        "It does not fail to bore.",
        "The plot is not free of flaws.",
        "No one will deny that it is not funny.",
        "It is hardly ever not dull.",
        "There is no scene that does not drag.",
    ],
    "another language": [
        "Ein langweiliger Film, der kein Ende findet.",
        "Un film ennuyeux et sans intérêt.",
        "Una película aburrida y sin gracia.",
        "Un film noioso e senza anima.",
        "En tråkig film utan liv.",
    ],
}
NEUTRAL = [
    "The film was shot in Norway.",
    "It opens in March.",
    "The story is set in 1950.",
    "Two brothers travel to the coast.",
    "The director has made four films.",
    "It is based on a novel.",
    "The film is two hours long.",
    "The cast has six actors.",
    "It was shown in Berlin last year.",
    "The music was recorded in Prague.",
]


def main() -> None:
    """Rewrites the section of README.md."""
    write_section(FRONT_PAGE, "limits", limits(SHIPPED_CHECKPOINT))


def limits(checkpoint: Path) -> str:
    """Says how often a model is right, and of neutral sentences how often it is sure of a class."""
    predictor = Predictor.load(checkpoint, "cpu")
    right = {}
    for kind in GOOD:
        found = [answer.label for answer in predictor.predict([*GOOD[kind], *BAD[kind]])]
        right[kind] = sum(
            label == ("positive" if row < len(GOOD[kind]) else "negative") for row, label in enumerate(found)
        )
    sure = sum((answer.score or 0.0) > SURE for answer in predictor.predict(NEUTRAL))
    negations, foreign = right["double negation"], right["another language"]
    return (
        "Known limits of the shipped model, counted on ten sentences each: it is right about "
        f"{negations} with a double\nnegation and {foreign} in other languages than English, "
        f"and more than {100 * SURE:.0f} % sure of a class for {sure} that are neutral.\n"
    )


if __name__ == "__main__":
    main()
