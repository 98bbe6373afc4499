from pathlib import Path
from typing import Any

import matplotlib
import pytest

from src.evaluation.charts import DARK, LIGHT, Chart, Theme, chart_png, sheet
from tests.evaluation.some_answers import pixels_of


def draw(axes: Any, theme: Theme) -> None:
    axes.plot([1, 2], [3, 4], color=theme.right, linewidth=5)
    axes.set_xlabel("$x_1$ \\frac{")


CHART = Chart("line", "A line of $ and $", "A line goes up.", draw)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_equal_charts_are_equal_files_whatever_the_users_settings(theme: Theme, tmp_path: Path) -> None:
    expected = chart_png(CHART, theme)
    with matplotlib.rc_context({"figure.dpi": 50, "savefig.bbox": "tight", "font.family": "serif", "axes.grid": True}):
        assert chart_png(CHART, theme) == expected
        assert matplotlib.rcParams["figure.dpi"] == 50
    (tmp_path / "chart.png").write_bytes(expected)
    assert pixels_of(tmp_path / "chart.png").shape == (630, 960, 4)


def test_a_sheet_holds_all_charts(tmp_path: Path) -> None:
    for count, size in ((1, (440, 540)), (5, (820, 1620))):
        sheet(tmp_path / "sheet.png", [CHART] * count, "title " * 9)
        assert pixels_of(tmp_path / "sheet.png").shape[:2] == size
