"""The results of an evaluation as one picture: accuracy, confusion matrix, and examples drawn at random.

Right answers are blue and wrong ones vermillion, which colour-blind readers tell apart (Okabe & Ito 2008); wrong ones
also carry a cross.
"""

from collections.abc import Sequence
from pathlib import Path

from src.evaluation.examples import Example
from src.evaluation.metrics import Evaluation
from src.evaluation.page import FONT, HEIGHT, INK, PAPER, WIDTH, Page

MARGIN, GUTTER = 60, 650  # left edges of the two halves
TEXT, TRUE, PREDICTED, CONFIDENCE = 692, 1158, 1272, 1390  # left edges of the columns of examples
MOST_EXAMPLES = 12
MOST_NAMED, MOST_SHARES, MOST_COUNTS = 4, 6, 12  # classes up to which a confusion matrix has room for these

RIGHT, WRONG = "#0072B2", "#D55E00"
GREY, LINE, TRACK = "#5A5A5A", "#D0D0D0", "#E6E6E6"


def results_picture(
    path: Path,
    evaluation: Evaluation,
    examples: Sequence[Example],
    title: str,
    heading: str = "Examples drawn at random",
) -> None:
    """Draws the results of an evaluation into a PNG of 1600 x 900 pixels with a white background.

    Args:
        path: the PNG to write; its folder exists.
        evaluation: the numbers.
        examples: answers drawn by `draw_examples`; the first twelve are shown.
        title: of the picture, for instance the model and the data.
        heading: of the examples.

    Raises:
        OSError: the file cannot be written.
    """
    import matplotlib

    # Labels and texts are data: a "$" in them must not start a formula, whatever the user's matplotlibrc says.
    with matplotlib.rc_context({"text.usetex": False, "text.parse_math": False, "font.family": FONT}):
        page = Page()
        page.text((MARGIN, 64), title, 20, weight="bold", room=WIDTH - 2 * MARGIN)
        _draw_headline(page, evaluation)
        _draw_confusion(page, evaluation)
        if examples:
            _draw_examples(page, examples[:MOST_EXAMPLES], heading)
        # The version that matplotlib would add makes equal pictures differ.
        page.canvas.print_png(path, metadata={"Software": None})


def _draw_headline(page: Page, evaluation: Evaluation) -> None:
    headline = page.text((MARGIN, 180), f"{100 * evaluation.accuracy:.1f} %", 58, color=RIGHT, weight="bold")
    page.text((MARGIN + headline + 20, 163), "accuracy", 18, weight="bold")
    page.text((MARGIN + headline + 20, 200), f"{evaluation.n:,} examples", 14, color=GREY)
    _draw_interval(page, evaluation, 252, GUTTER - 2 * MARGIN)
    low, high = (100 * end for end in evaluation.interval)
    page.text((MARGIN, 302), f"95 % interval {low:.1f} to {high:.1f} %", 14, color=GREY)
    rates = f"macro F1 {100 * evaluation.f1:.1f} %  ·  MCC {evaluation.mcc:.3f}  ·  loss {evaluation.loss:.3f} nats"
    page.text((MARGIN, 336), rates, 14, color=GREY, room=GUTTER - 2 * MARGIN)


def _draw_interval(page: Page, evaluation: Evaluation, y: float, width: float) -> None:
    page.box(MARGIN, y, width, 12, TRACK)
    page.box(MARGIN, y, width * evaluation.accuracy, 12, RIGHT)
    low, high = (MARGIN + width * end for end in evaluation.interval)
    page.box(low, y + 4, high - low, 4, INK)
    for end in (low, high):
        page.box(end - 1.5, y - 6, 3, 24, INK)


def _draw_confusion(page: Page, evaluation: Evaluation) -> None:
    left, top, right, bottom = MARGIN + 150, 482, GUTTER - MARGIN, HEIGHT - MARGIN
    classes = len(evaluation.label_names)
    width, height = (right - left) / classes, (bottom - top) / classes
    heading = page.text((MARGIN, 398), "Confusion matrix", 16, weight="bold")
    page.text((MARGIN + heading + 16, 398), "counts, and % of the true class", 13, color=GREY)
    page.text(((left + right) / 2, top - 46), "predicted", 13, color=GREY, align="center")
    page.upright(MARGIN + 8, (top + bottom) / 2, "true", 13, GREY)
    for row, counts in enumerate(evaluation.confusion):
        if classes <= MOST_COUNTS:
            _draw_names(page, evaluation.label_names, row, left, top, width, height)
        for column, count in enumerate(counts):
            place = (left + column * width, top + row * height, width - 3, height - 3)
            _draw_cell(page, place, count, count / max(1, sum(counts)), row == column, classes)


def _draw_names(
    page: Page, names: Sequence[str], row: int, left: float, top: float, width: float, height: float
) -> None:
    """Names row and column of one class; where names are too wide for the columns, numbers stand for them."""
    size = min(14.0, 0.3 * height)
    numbered = len(names) > MOST_NAMED
    name = f"{row}  {names[row]}" if numbered else names[row]
    page.text((left - 12, top + (row + 0.5) * height), name, size, align="right", room=112)
    column = str(row) if numbered else name
    page.text((left + (row + 0.5) * width, top - 18), column, size, align="center", room=width - 8)


def _draw_cell(
    page: Page, place: tuple[float, float, float, float], count: int, share: float, right: bool, classes: int
) -> None:
    x, y, width, height = place
    page.box(x, y, width, height, _shade(RIGHT if right else WRONG, 0.08 + 0.92 * share))
    color = PAPER if share > 0.55 else INK
    shares = classes <= MOST_SHARES
    if classes <= MOST_COUNTS:
        size = min(26.0, 0.28 * height, 0.18 * width)
        middle = y + (0.40 if shares else 0.5) * height
        page.text((x + width / 2, middle), f"{count:,}", size, color=color, align="center", weight="bold")
    if shares:
        size = min(15.0, 0.15 * height, 0.15 * width)
        page.text((x + width / 2, y + 0.70 * height), f"{100 * share:.1f} %", size, color=color, align="center")


def _shade(color: str, strength: float) -> tuple[float, ...]:
    """Mixes a colour with white: strength 0 is white, 1 the full colour."""
    from matplotlib.colors import to_rgb

    return tuple(1 - strength * (1 - channel) for channel in to_rgb(color))


def _draw_examples(page: Page, examples: Sequence[Example], heading: str) -> None:
    top = 192
    page.text((GUTTER, 126), heading, 16, weight="bold", room=WIDTH - MARGIN - GUTTER)
    for x, name in ((TEXT, "text"), (TRUE, "true"), (PREDICTED, "predicted"), (CONFIDENCE, "confidence")):
        page.text((x, top - 22), name, 13, color=GREY)
    height = min(65.0, (HEIGHT - MARGIN - top) / len(examples))
    for row, example in enumerate(examples):
        page.box(GUTTER, top + row * height, WIDTH - MARGIN - GUTTER, 1, LINE)
        _draw_example(page, example, top + (row + 0.5) * height)


def _draw_example(page: Page, example: Example, y: float) -> None:
    right = example.label == example.predicted
    color = RIGHT if right else WRONG
    page.text((GUTTER + 18, y), "✓" if right else "✗", 17, color=color, align="center", weight="bold")
    lines = page.wrap(example.text, TRUE - TEXT - 20, 13, 2)
    for number, line in enumerate(lines):
        page.text((TEXT, y + 23 * (number - (len(lines) - 1) / 2)), line, 13)
    page.text((TRUE, y), example.label, 13, room=PREDICTED - TRUE - 12)
    weight = "normal" if right else "bold"
    page.text((PREDICTED, y), example.predicted, 13, color=color, weight=weight, room=CONFIDENCE - PREDICTED - 12)
    page.box(CONFIDENCE, y - 8, 80, 16, TRACK)
    page.box(CONFIDENCE, y - 8, 80 * example.score, 16, color)
    page.text((WIDTH - MARGIN, y), f"{100 * example.score:.0f} %", 13, align="right")
