"""The charts of a report, each for a light and for a dark page, and all of them on one sheet.

What is right is blue and what is wrong vermillion or orange, which colour-blind readers tell apart (Okabe & Ito 2008);
lines differ in their marks and bars in their hatching, too.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Any

from src.evaluation.page import FONT, drawable

WIDTH, HEIGHT, DPI = 6.4, 4.2, 150  # inches, inches, dots an inch
SHEET_DPI = 100


@dataclass(frozen=True)
class Theme:
    """The colours of a page."""

    paper: str
    ink: str
    grey: str
    line: str
    right: str
    wrong: str


LIGHT = Theme(paper="#FFFFFF", ink="#1A1A1A", grey="#5A5A5A", line="#DDDDDD", right="#0072B2", wrong="#D55E00")
DARK = Theme(paper="#1B1D21", ink="#ECECEC", grey="#A8A8A8", line="#3A3D42", right="#56B4E9", wrong="#E69F00")


@dataclass(frozen=True)
class Chart:
    """A chart: the stem of its file, its title, a sentence that tells what is to be seen, and how it is drawn."""

    name: str
    title: str
    caption: str
    draw: Callable[[Any, Theme], None]  # given matplotlib's axes and the colours


def chart_png(chart: Chart, theme: Theme) -> bytes:
    """Draws a chart as a PNG of 960 x 630 pixels."""
    with _own_settings(theme):
        figure = _figure(WIDTH, HEIGHT, DPI)
        _draw(chart, figure.add_subplot(), theme)
        return _png(figure)


def sheet(path: Path, charts: Sequence[Chart], title: str) -> None:
    """Draws charts side by side, three in a row, on white paper.

    Args:
        path: the PNG to write; its folder exists.
        charts: at least one.
        title: of the sheet.

    Raises:
        OSError: the file cannot be written.
    """
    columns = min(3, len(charts))
    rows = ceil(len(charts) / columns)
    with _own_settings(LIGHT):
        figure = _figure(5.4 * columns, 0.6 + 3.8 * rows, SHEET_DPI)
        figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)
        figure.suptitle(drawable(title), x=0.01, ha="left", weight="bold", size=15)
        for place, chart in enumerate(charts, start=1):
            _draw(chart, figure.add_subplot(rows, columns, place), LIGHT)
        path.write_bytes(_png(figure))


@contextmanager
def _own_settings(theme: Theme) -> Iterator[None]:
    """Draws with this project's settings, whatever the user's matplotlibrc says."""
    from matplotlib import style

    # Labels are data: a "$" in them must not start a formula.
    settings = {"text.parse_math": False, "font.family": FONT, "font.size": 10, "text.color": theme.ink}
    settings |= {"figure.facecolor": theme.paper, "axes.facecolor": theme.paper, "savefig.facecolor": theme.paper}
    settings |= {"axes.labelcolor": theme.ink, "xtick.color": theme.ink, "ytick.color": theme.ink}
    settings |= {"axes.edgecolor": theme.grey, "grid.color": theme.line, "axes.axisbelow": True}
    settings |= {"axes.spines.top": False, "axes.spines.right": False}
    settings |= {"legend.facecolor": theme.paper, "legend.edgecolor": theme.paper, "legend.framealpha": 0.8}
    with style.context(["default", settings]):
        yield


def _figure(width: float, height: float, dpi: int) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw(chart: Chart, axes: Any, theme: Theme) -> None:
    axes.set_title(chart.title, loc="left", weight="bold", size=12, pad=10)
    chart.draw(axes, theme)


def _png(figure: Any) -> bytes:
    stream = BytesIO()
    # The version that matplotlib would add makes equal pictures differ.
    figure.savefig(stream, format="png", dpi="figure", metadata={"Software": None})
    return stream.getvalue()
