"""A white page for pictures that mix text and shapes, measured in pixels from its upper left corner."""

from bisect import bisect_right
from typing import Any

from src.utils.errors import printable

WIDTH, HEIGHT, DPI = 1600, 900, 100
INK, PAPER = "#1A1A1A", "#FFFFFF"
FONT = "DejaVu Sans"  # comes with matplotlib, so a picture is the same everywhere


def drawable(text: str) -> str:
    """Escapes control characters, and puts a square for every character the font lacks."""
    from matplotlib.font_manager import findfont, get_font

    fonts = [get_font(findfont(f"{FONT}:{weight}")) for weight in ("normal", "bold")]
    known = (c if all(font.get_char_index(ord(c)) for font in fonts) else "\N{WHITE SQUARE}" for c in printable(text))
    return "".join(known)


class Page:
    """Text and boxes placed by pixel; every text is measured first, and wrapped or cut to the room it has.

    Args:
        width: in pixels.
        height: in pixels.
    """

    def __init__(self, width: int = WIDTH, height: int = HEIGHT) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAPER)
        self.canvas = FigureCanvasAgg(figure)
        self.axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        self.axes.set_axis_off()

    def text(
        self,
        at: tuple[float, float],
        content: str,
        size: float,
        *,
        color: str = INK,
        align: str = "left",
        weight: str = "normal",
        room: float = WIDTH,
    ) -> float:
        """Writes one line.

        Args:
            at: left edge, middle or right edge of the line, as `align` says; and the middle of its small letters, so
                that lines of one height stand on one base line.
            content: what to write; it is data, never markup.
            size: of the font, in points of 1/72 inch.
            color: of the letters.
            align: "left", "center" or "right".
            weight: "normal" or "bold".
            room: width beyond which the line is cut.

        Returns:
            The width of the line.
        """
        line = self.wrap(content, room, size, 1, weight)[0]
        self.axes.text(*at, line, fontsize=size, color=color, ha=align, va="center_baseline", weight=weight)
        return self._width(line, size, weight)

    def upright(self, x: float, y: float, content: str, size: float, color: str, align: str = "center") -> None:
        """Writes one line from bottom to top with its middle at (x, y), or as `align` says its "top" or "bottom"."""
        self.axes.text(x, y, drawable(content), fontsize=size, color=color, ha="center", va=align, rotation=90)

    def box(self, x: float, y: float, width: float, height: float, color: str | tuple[float, ...]) -> None:
        """Fills a rectangle whose upper left corner is (x, y)."""
        from matplotlib.patches import Rectangle

        self.axes.add_patch(Rectangle((x, y), width, height, facecolor=color, linewidth=0))

    def shades(self, x: float, y: float, width: float, height: float, values: Any, largest: float) -> None:
        """Fills a rectangle with a matrix: white is 0, the darkest blue `largest`; row 0 is at the top."""
        place = (x, x + width, y + height, y)
        self.axes.imshow(
            values, cmap="Blues", vmin=0, vmax=largest, extent=place, aspect="auto", interpolation="nearest"
        )

    def wrap(self, content: str, room: float, size: float, most: int, weight: str = "normal") -> list[str]:
        """Breaks text into lines at spaces, and inside words longer than a line.

        Args:
            content: any string.
            room: width of a line.
            size: of the font, in points.
            most: number of lines after which the text is cut.
            weight: "normal" or "bold".

        Returns:
            1 to `most` lines; the last one ends in an ellipsis if there was more.
        """
        # No line holds 400 characters, and measuring takes as long as the text.
        rest = drawable(content[: 400 * most]).strip()
        lines: list[str] = []
        while len(lines) < most - 1 and self._width(rest, size, weight) > room:
            fitting = self._fitting(rest, room, size, weight)
            space = rest.rfind(" ", 0, fitting + 1)
            lines.append(rest[: space if space > 0 else fitting].rstrip())
            rest = rest[len(lines[-1]) :].lstrip()
        if self._width(rest, size, weight) > room:
            rest = rest[: self._fitting(rest, room - self._width("…", size, weight), size, weight)].rstrip() + "…"
        return [*lines, rest]

    def _fitting(self, text: str, room: float, size: float, weight: str) -> int:
        """Counts the leading characters that fit into the room, at least one."""
        count = bisect_right(range(len(text) + 1), room, key=lambda end: self._width(text[:end], size, weight)) - 1
        return max(1, count)

    def _width(self, text: str, size: float, weight: str) -> float:
        from matplotlib.font_manager import FontProperties

        properties = FontProperties(family=FONT, size=size, weight=weight)
        width, _, _ = self.canvas.get_renderer().get_text_width_height_descent(text, properties, False)
        return float(width)
