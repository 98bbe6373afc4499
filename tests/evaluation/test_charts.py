from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from src.evaluation.answer_charts import DEEPEST
from src.evaluation.charts import DARK, LIGHT, Chart, Theme, chart_png, sheet
from tests.evaluation.some_answers import pixels_of


def draw(axes: Any, theme: Theme) -> None:
    axes.plot([1, 2], [3, 4], color=theme.right, linewidth=5)
    axes.set_xlabel("$x_1$ \\frac{")


CHART = Chart("line", "A line of $ and $", "A line goes up.", draw)


def rgb(color: str) -> list[int]:
    return [int(color[start : start + 2], 16) for start in (1, 3, 5)]


def share(picture: "np.ndarray[Any, Any]", color: str) -> float:
    return float((picture == rgb(color)).all(axis=-1).mean())


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2.1."""
    channels = np.array([rgb(one), rgb(other)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    dark, bright = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return float((bright + 0.05) / (dark + 0.05))


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_chart_has_its_size_and_colours_that_stand_out_from_the_page(theme: Theme, tmp_path: Path) -> None:
    (tmp_path / "chart.png").write_bytes(chart_png(CHART, theme))
    picture = pixels_of(tmp_path / "chart.png")[..., :3]
    assert picture.shape == (630, 960, 3)
    assert share(picture, theme.paper) > 0.8
    assert share(picture, theme.right) > 0.005 and share(picture, theme.ink) > 0.001
    assert min(contrast(color, theme.paper) for color in (theme.ink, theme.grey)) > 4.5
    assert min(contrast(color, theme.paper) for color in (theme.right, theme.wrong)) > 3
    mixed = (1 - DEEPEST) * np.array(rgb(theme.paper)) + DEEPEST * np.array(rgb(theme.right))
    assert contrast(theme.ink, "#" + "".join(f"{round(part):02x}" for part in mixed)) > 4.5


def test_equal_charts_are_equal_files_whatever_the_users_settings() -> None:
    expected = chart_png(CHART, LIGHT)
    with matplotlib.rc_context({"figure.dpi": 50, "savefig.bbox": "tight", "font.family": "serif", "axes.grid": True}):
        assert chart_png(CHART, LIGHT) == expected
        assert matplotlib.rcParams["figure.dpi"] == 50


def test_a_sheet_holds_all_charts(tmp_path: Path) -> None:
    for count, size in ((1, (440, 540)), (5, (820, 1620))):
        sheet(tmp_path / "sheet.png", [CHART] * count, "title " * 9)
        assert pixels_of(tmp_path / "sheet.png").shape[:2] == size
