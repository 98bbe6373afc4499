"""A report as one HTML page that needs no other file: pictures lie in it twice, for light and for dark readers."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape

from src.evaluation.answer_charts import confusion
from src.evaluation.answers import Answers
from src.evaluation.charts import Chart
from src.utils.errors import printable

MOST_MISTAKES, LONGEST_TEXT, LONGEST_NAME = 20, 400, 30

STYLE = """
:root { color-scheme: light dark;
  --paper: #ffffff; --ink: #1a1a1a; --grey: #5a5a5a; --line: #dddddd; --wrong: #a84300; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #1b1d21; --ink: #ececec; --grey: #a8a8a8; --line: #3a3d42; --wrong: #e69f00; }
}
body { margin: 0 auto; padding: 1.5rem; max-width: 80rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 1rem; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin: 2rem 0 0.5rem; }
.missing { margin-top: 1rem; border-left: 0.3rem solid var(--wrong); padding: 0.1rem 1rem; }
.charts { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); }
figure { margin: 0; } img { width: 100%; height: auto; display: block; }
figcaption { color: var(--grey); font-size: 0.9rem; }
table { border-collapse: collapse; font-size: 0.95rem; }
th, td { text-align: left; vertical-align: top; padding: 0.35rem 1rem 0.35rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; }
td:last-child { overflow-wrap: anywhere; }
th { color: var(--grey); font-weight: normal; white-space: nowrap; }
.number { white-space: nowrap; font-variant-numeric: tabular-nums; } .wrong { color: var(--wrong); }
"""


def report_page(
    title: str,
    facts: Mapping[str, str],
    missing: Sequence[str],
    pictures: Sequence[tuple[Chart, bytes, bytes]],
    answers: Answers | None,
) -> str:
    """Writes the page; whatever comes from data is escaped.

    Args:
        title: of the page.
        facts: what is known of the run, by name.
        missing: what the page does not show, a sentence each.
        pictures: charts with their PNGs for light and for dark pages.
        answers: of the model, whose mistakes are listed; unset without predictions.

    Returns:
        HTML, without a script or an address of another file.
    """
    rows = "".join(f"<tr><th>{_safe(name)}</th><td>{_safe(value)}</td></tr>\n" for name, value in facts.items())
    parts = [f"<h1>{_safe(title)}</h1>", f"<table>\n{rows}</table>" if facts else "", _missing(missing)]
    if pictures:
        figures = "\n".join(_figure(chart, light, dark) for chart, light, dark in pictures)
        parts.append(f'<h2>Charts</h2>\n<div class="charts">\n{figures}\n</div>')
    if answers is not None and answers.true is not None:
        parts += [_classes(answers), _mistakes(answers)]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # Should something of the data pass as markup after all, a browser loads and runs nothing.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_safe(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def most_confident_mistakes(answers: Answers, most: int = MOST_MISTAKES) -> list[int]:
    """Finds the wrong answers that the model was surest of.

    Args:
        answers: with the true labels.
        most: how many to find.

    Returns:
        Their places among the answers, the surest first.
    """
    wrong = [row for row, right in enumerate(answers.right) if not right]
    return sorted(wrong, key=lambda row: -answers.scores[row])[:most]


def _safe(text: str, longest: int = LONGEST_TEXT) -> str:
    """Makes data of a page's text: no markup, no control characters, nothing that turns the direction of writing."""
    return escape(printable(text if len(text) <= longest else text[:longest] + "…"))


def _missing(missing: Sequence[str]) -> str:
    lines = "\n".join(f"<p>{escape(printable(line))}</p>" for line in missing)
    return f'<div class="missing">\n{lines}\n</div>' if missing else ""


def _figure(chart: Chart, light: bytes, dark: bytes) -> str:
    sources = ["data:image/png;base64," + b64encode(png).decode() for png in (light, dark)]
    return (
        f'<figure><picture><source srcset="{sources[1]}" media="(prefers-color-scheme: dark)">'
        f'<img src="{sources[0]}" alt="{_safe(f"{chart.title}. {chart.caption}")}"></picture>\n'
        f"<figcaption>{_safe(chart.caption)}</figcaption></figure>"
    )


def _classes(answers: Answers) -> str:
    counts = confusion(answers)
    head = "<tr><th>class</th><th>texts</th><th>predicted</th><th>recall</th><th>precision</th><th>name</th></tr>"
    rows = []
    for number, name in enumerate(answers.label_names):
        right, texts, predicted = counts[number, number], counts[number].sum(), counts[:, number].sum()
        rates = [f"{100 * right / total:.1f} %" if total else "-" for total in (texts, predicted)]
        cells = [str(number), f"{texts:,}", f"{predicted:,}", *rates]
        numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        rows.append(f"<tr>{numbers}<td>{_safe(name)}</td></tr>")
    return "<h2>Classes</h2>\n<table>\n" + "\n".join([head, *rows]) + "\n</table>"


def _mistakes(answers: Answers) -> str:
    shown, count = most_confident_mistakes(answers), answers.right.count(False)
    if not shown:
        return "<h2>Mistakes</h2>\n<p>None: every answer is right.</p>"
    rows = "\n".join(_mistake(answers, row) for row in shown)
    head = "<tr><th>confidence</th><th>true</th><th>predicted</th><th>text</th></tr>"
    heading = (
        f"The {len(shown)} most confident of {count:,} mistakes" if len(shown) < count else f"All {count:,} mistakes"
    )
    return f"<h2>{heading}</h2>\n<table>\n{head}\n{rows}\n</table>"


def _mistake(answers: Answers, row: int) -> str:
    true = [] if answers.true is None else [answers.true[row]]
    names = [_safe(answers.label_names[label], LONGEST_NAME) for label in (*true, answers.predicted[row])]
    pair = "" if answers.pairs is None else f"<br>{_safe(answers.pairs[row])}"
    return (
        f'<tr><td class="number">{100 * answers.scores[row]:.1f} %</td><td>{names[0]}</td>'
        f'<td class="wrong">{names[-1]}</td><td>{_safe(answers.texts[row])}{pair}</td></tr>'
    )
