"""Ten megabytes in one line, of whatever kind, cost a prediction little time and memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from src.utils.config import REPOSITORY, SHIPPED_CHECKPOINT

MEGABYTES = 10
MOST_SECONDS, MOST_BYTES = 1.0, 200e6

PIECES = {
    "dots": ".",
    "one word": "a",
    "words": "good ",
    "words of one letter": "a ",
    "emoji": "\U0001f600",
    "joined emoji": "\U0001f468\u200d\U0001f469",
    "accents": "e\u0301",
    "control characters": "\x01",
    "right to left": "\u202e\u0641",
    "Chinese": "\u597d",
    "quotes": '"',
    "Treebank": "-lrb- n't ",
    "line breaks of HTML": "<br /> ",
    "special tokens": "[SEP]",
}

# In a process of its own, which predicts once before: what is left is what the text costs.
PROGRAM = """
import json, sys, time
from pathlib import Path
from src.evaluation.prediction_lines import as_json, as_line, predict_all, read_lines
from src.evaluation.predictor import Predictor

predictor = Predictor.load(sys.argv[1], "cpu")
status = Path("/proc/self/status")
read = lambda name: next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if line[:5] == name)
list(predict_all(predictor, ["a fine film"]))
Path("/proc/self/clear_refs").write_text("5")
before, start = read("VmRSS"), time.perf_counter()
for prediction in predict_all(predictor, read_lines(Path(sys.argv[2]))):
    written = as_line(prediction), as_json(prediction)
print(json.dumps({"seconds": time.perf_counter() - start, "bytes": read("VmHWM") - before, "label": prediction.label}))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux, which tells the peak of memory")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.deep) if name not in ("dots", "emoji") else name for name in PIECES]
)
def test_ten_megabytes_cost_a_prediction_little(name: str, tmp_path: Path) -> None:
    piece = PIECES[name].encode()
    path = tmp_path / "text.txt"
    path.write_bytes(piece * (MEGABYTES * 10**6 // len(piece)) + b"\n")
    command = [sys.executable, "-c", PROGRAM, str(SHIPPED_CHECKPOINT), str(path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    cost = json.loads(done.stdout)
    print(name, cost)
    assert cost["label"] in ("negative", "positive")
    assert cost["seconds"] < MOST_SECONDS
    assert cost["bytes"] < MOST_BYTES
