import re
import sys

import pytest

from src import minimal
from src.utils.config import SAMPLE_DIR


def losses(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *options: str) -> list[float]:
    monkeypatch.setattr(sys, "argv", ["minimal", "--data", str(SAMPLE_DIR), *options])
    minimal.main()
    return [float(loss) for loss in re.findall(r"validation loss ([\d.]+)", capsys.readouterr().out)]


@pytest.mark.parametrize("task", [[], ["--mlm"]])
def test_it_learns_on_the_bundled_sample(
    task: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = losses(capsys, monkeypatch, *task, "--epochs", "3", "--batch-size", "16", "--learning-rate", "1e-3")
    assert len(found) == 3 and found[-1] < found[0]
