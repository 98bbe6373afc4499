"""Measures what a long file to classify costs, and what a second process gains.

    python -m tests.benchmarks.scale --dataset FOLDER_WITH_SST2

Whole commands run, as a user would run them. Results go into media/scale.json, and a table into the README here.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.data.sources import open_corpus
from src.utils.config import REPOSITORY, SST2, DataConfig
from src.utils.files import read_json
from tests.benchmarks.readme import BENCHMARKS, MEDIA, write_section
from tests.benchmarks.speed import ratio_of_medians, this_machine

RESULTS = MEDIA / "scale.json"
ROUNDS, SENTENCES = 5, 1_000_000
# Of one vocabulary: more phrases have more words, and every step updates the table of all.
WORDS = ["--vocab-size", "4096"]
BATCHES, STEPS = (32, 128, 256), 100  # sentences in a batch, and about how many batches
ONE_PROCESS = "one process of two threads"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default=SST2, help="SST-2: hub id or folder")
    parser.add_argument("--only", default="", help="only what contains this: file, processes")
    options = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if found.get("machine") != this_machine():
        found = {"machine": this_machine()}  # figures of several machines would not be comparable
    measures = {"file": long_file, "processes": more_processes}
    for name, measure in measures.items():
        if options.only in name:
            with tempfile.TemporaryDirectory() as folder:
                found[name] = measure(options.dataset, Path(folder))
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    write_section(BENCHMARKS, "scale", table(found))
    print(table(found))


def more_processes(dataset: str, folder: Path) -> dict[str, list[float]]:
    """Trains mini with one process of two threads and two of one thread, in turn; returns real tokens a second."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ways: dict[str, tuple[list[str], int]] = {ONE_PROCESS: ([], 2), "two of one": (torchrun, 1)}
    rates: dict[str, list[float]] = {f"{way}, batches of {size}": [] for size in BATCHES for way in ways}
    for _ in range(ROUNDS):
        for size in BATCHES:
            options = ["--preset", "mini", "--dataset", dataset, *WORDS, "--max-train-samples", str(STEPS * size)]
            options += ["--batch-size", str(size)]
            for way, (start, threads) in ways.items():
                _, found = _train(start, folder, options, threads)
                rates[f"{way}, batches of {size}"].append(statistics.median(found))
    return rates


def _train(start: Sequence[str], folder: Path, options: Sequence[str], threads: int = 0) -> tuple[float, list[float]]:
    """Trains for an epoch; returns its seconds, and real tokens a second as logged on the way."""
    output = folder / "run"
    command = [sys.executable, *start, "-m", "src.train", *options, "--output-dir", str(output), "--overwrite"]
    command += ["--epochs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=_quiet(threads))
    if done.returncode:
        raise SystemExit(done.stderr)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    rates = [line["train/tokens_per_second"] for line in lines if "train/tokens_per_second" in line]
    return read_json(output / "run.json")["training_seconds"], rates


def long_file(dataset: str, folder: Path) -> dict[str, float]:
    """Classifies a million sentences, drawn from training phrases, with tiny; returns seconds and peak megabytes."""
    _train([], folder, ["--preset", "tiny", "--max-train-samples", "8000", "--dataset", dataset])
    texts = open_corpus(DataConfig(dataset=dataset)).splits["train"].texts
    file, output = folder / "texts", folder / "answers"
    with file.open("w", encoding="utf-8") as stream:
        for row in np.random.default_rng(0).integers(len(texts), size=SENTENCES):
            stream.write(texts[row].strip() + "\n")
    options = ["--checkpoint", str(folder / "run"), "--file", str(file), "--output", str(output)]
    command = [sys.executable, "-m", "src.inference", *options]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=REPOSITORY, env=_quiet(), stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    with output.open(encoding="utf-8") as stream:
        answers = sum(1 for _ in stream)
    if status or answers != SENTENCES:
        raise SystemExit(f"{answers} answers to {SENTENCES} sentences, status {status}")
    return {"sentences": SENTENCES, "seconds": seconds, "megabytes": usage.ru_maxrss / 1024}


def _quiet(threads: int = 0) -> dict[str, str]:
    return os.environ | {"WANDB_MODE": "disabled"} | ({"OMP_NUM_THREADS": str(threads)} if threads else {})


def table(found: Mapping[str, Any]) -> str:
    lines = ["| what | measured |", "|---|---|"]
    if (file := found.get("file")) is not None:
        rate = file["sentences"] / file["seconds"]
        lines.append(
            f"| tiny, a file of {file['sentences']:,} sentences | {file['seconds']:.0f} s ({rate:,.0f} a second), "
            f"peak memory {file['megabytes']:,.0f} MB |"
        )
    processes = found.get("processes", {})
    for name, rates in processes.items():
        rate, size = statistics.median(rates), name.partition(", ")[2]
        ratio = _against(rates, processes[f"{ONE_PROCESS}, {size}"])
        lines.append(f"| mini, {name} | {rate:,.0f} real tokens/s, {ratio} of one process's |")
    return "\n".join(
        [*lines, "", f"({found['machine']}; of trainings medians of {ROUNDS} runs, ranges over them.)", ""]
    )


def _against(values: Sequence[float], base: Sequence[float]) -> str:
    """Formats the ratio of two medians; behind it, if it varies, the smallest and largest ratio of a round."""
    ratio, smallest, largest = ratio_of_medians(values, base)
    return f"{ratio:.2f}" + (f" ({smallest:.2f}-{largest:.2f})" if smallest < largest else "")


if __name__ == "__main__":
    main()
