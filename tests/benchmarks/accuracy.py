"""Trains linear baselines and recipes of this project over several seeds and writes the results tables.

    python -m tests.benchmarks.accuracy --local stanfordnlp/sst2=FOLDER --local stanfordnlp/imdb=FOLDER

Every run is one line of media/accuracy.jsonl; the tables in the READMEs and media/accuracy.png are made from those
lines alone, so runs may be added one row at a time. Recipes are evaluated on the validation split with their last
model.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.data.sources import Corpus, open_corpus
from src.utils.config import IMDB, REPOSITORY, SAMPLE, SST2, DataConfig
from src.utils.files import read_json
from tests.benchmarks.pictures import accuracy_picture, pretraining_picture
from tests.benchmarks.readme import BENCHMARKS, FRONT_PAGE, MEDIA, write_section

RESULTS = MEDIA / "accuracy.jsonl"

Baseline = Callable[[Corpus], tuple[float, int]]  # accuracy, and number of weights


def tfidf_logistic_regression(corpus: Corpus) -> tuple[float, int]:
    """Trains logistic regression on tf-idf of words and word pairs."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", sublinear_tf=True)
    features = vectorizer.fit_transform(corpus.splits["train"].texts)
    return _logistic_regression(corpus, features, vectorizer.transform(corpus.splits["validation"].texts), C=10.0)


def nb_logistic_regression(corpus: Corpus) -> tuple[float, int]:
    """Trains logistic regression on words weighted by their naive-Bayes log-count ratio (Wang & Manning 2012)."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    train, vectorizer = corpus.splits["train"], CountVectorizer(token_pattern=r"\S+", binary=True)
    features, labels = vectorizer.fit_transform(train.texts), np.array(train.labels)
    positive, negative = (1 + features[labels == label].sum(axis=0) for label in (1, 0))
    weights = np.asarray(np.log((positive / positive.sum()) / (negative / negative.sum()))).ravel()
    held_out = vectorizer.transform(corpus.splits["validation"].texts)
    return _logistic_regression(corpus, features.multiply(weights).tocsr(), held_out.multiply(weights).tocsr(), C=1.0)


def _logistic_regression(corpus: Corpus, train: Any, validation: Any, C: float) -> tuple[float, int]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=C, max_iter=1000).fit(train, corpus.splits["train"].labels)
    return float(model.score(validation, corpus.splits["validation"].labels)), train.shape[1]


MINILM = "sentence-transformers/all-MiniLM-L6-v2"

# Fine-tuning used to keep an average of weights by itself, as training from random weights does; it has been found to
# make no difference there, and these rows were trained with it.
AVERAGE = "--ema-decay 0.999"

# Models and data that a row below begins with: made once, by this command, and kept in this folder.
MINILM_IMDB = "weights/minilm-imdb"
MINILM_JUDGE, SENTENCES, MINILM_SENTENCES = "weights/minilm-judge", "weights/sentences", "weights/minilm-sentences"
BERT_IMDB, MORE_IMDB, RANDOM_IMDB = "weights/bert-imdb", "weights/bert-imdb-more", "weights/bert-imdb-random-start"
REVIEWS = f"{IMDB}:train {IMDB}:unsupervised"
BASES = {
    MINILM_IMDB: f"src.train --model-name-or-path {MINILM} --dataset {IMDB} --seq-len 256 --long-text head-tail "
    f"--epochs 1 --learning-rate 1e-4 {AVERAGE}",
    MINILM_JUDGE: f"src.train --model-name-or-path {MINILM} --holdout 0.2 --epochs 1 --batch-size 64 {AVERAGE}",
    SENTENCES: f"tests.benchmarks.review_sentences --dataset {IMDB} --classifier {MINILM_JUDGE}",
    MINILM_SENTENCES: f"src.train --model-name-or-path {MINILM} --train-file {SENTENCES}/train.csv "
    f"--validation-file {SENTENCES}/validation.csv --epochs 1 --batch-size 64 --learning-rate 2e-4 {AVERAGE}",
    BERT_IMDB: f"src.pretrain --corpus {REVIEWS} --max-steps 10000 --evaluate-every 500 --num-threads 1",
    MORE_IMDB: f"src.pretrain --model-name-or-path {BERT_IMDB} --corpus {REVIEWS} --max-steps 9000 "
    "--learning-rate 7e-4 --seed 1 --evaluate-every 500 --num-threads 1",
    RANDOM_IMDB: f"src.pretrain --corpus {REVIEWS} --max-steps 1000 --evaluate-every 250 --num-threads 1 "
    "--begin-with random",
}
PRETRAINED = {
    "mini, 10,000 steps from counts": BERT_IMDB,
    "mini, 9,000 steps more": MORE_IMDB,
    "mini, 1,000 steps from a random start": RANDOM_IMDB,
}
FINE_TUNE_MINI = f"--epochs 1 --learning-rate 2e-4 --layer-decay 1 {AVERAGE}"
FROM_SCRATCH, SAMPLE_RUN = "BERT from scratch, default", "bundled sample"

# Title of a table to its rows: their name to the options of `python -m src.train`, a folder of BASES, or a function.
TABLES: dict[str, dict[str, str | Baseline]] = {
    "trained on SST-2 only | validation accuracy": {
        "tf-idf of words and pairs, logistic regression": tfidf_logistic_regression,
        "naive-Bayes-weighted words, logistic regression": nb_logistic_regression,
        FROM_SCRATCH: "",
    },
    "pre-trained, then fine-tuned on SST-2 | validation accuracy": {
        "BERT mini, pre-trained here on reviews": f"--model-name-or-path {BERT_IMDB} {FINE_TUNE_MINI}",
        "BERT mini, pre-trained here for longer": f"--model-name-or-path {MORE_IMDB} {FINE_TUNE_MINI}",
        "all-MiniLM-L6-v2": f"--model-name-or-path {MINILM} {AVERAGE}",
        "all-MiniLM-L6-v2, batches of 128": f"--model-name-or-path {MINILM} --batch-size 128 --learning-rate 2e-4",
        "all-MiniLM-L6-v2, on IMDB first": f"--model-name-or-path {MINILM_IMDB} {AVERAGE}",
        "all-MiniLM-L6-v2, on IMDB first, batches of 64": f"--model-name-or-path {MINILM_IMDB} --epochs 1 "
        f"--batch-size 64 {AVERAGE}",
        "all-MiniLM-L6-v2, on sentences of reviews first": f"--model-name-or-path {MINILM_SENTENCES} --epochs 1 "
        "--learning-rate 6e-5",
    },
    "pre-trained on 75,000 reviews of IMDB | accuracy on masked tokens of held-out reviews": {**PRETRAINED},
    "pre-trained, then fine-tuned on IMDB | accuracy on the 25,000 test reviews": {
        "all-MiniLM-L6-v2, one epoch of 256 tokens": MINILM_IMDB
    },
    # What `make train` does where SST-2 is out of reach.
    "trained on the bundled sample | accuracy on its validation part": {SAMPLE_RUN: "--dataset sample"},
}
ROWS = {name: how for rows in TABLES.values() for name, how in rows.items()}

# The rows of the front page, all of them validation accuracy on SST-2.
ON_FRONT_PAGE = (
    "naive-Bayes-weighted words, logistic regression",
    FROM_SCRATCH,
    "BERT mini, pre-trained here on reviews",
    "BERT mini, pre-trained here for longer",
    "all-MiniLM-L6-v2",
    "all-MiniLM-L6-v2, on sentences of reviews first",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--local", action="append", default=[], metavar="ID=FOLDER", help="a folder to use in place of a hub id"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--only", help="run only the row of this name, or those that contain it; with nothing, make the tables anew"
    )
    options = parser.parse_args()
    local = dict(pair.split("=", 1) for pair in options.local)
    containing = [name for name in ROWS if options.only is None or (options.only and options.only in name)]
    chosen = [options.only] if options.only in containing else containing
    for name in chosen:
        for row in _runs(name, local, options.seeds):
            record(row)
            print(f"{name}, seed {row['seed']}: {100 * row['accuracy']:.2f} % in {row['seconds']:.0f} s", flush=True)
    write_tables()


def write_tables() -> None:
    """Makes the tables in the READMEs, and the pictures, from the runs on record."""
    found = by_table(recorded())
    write_section(BENCHMARKS, "accuracy", tables(recorded()))
    write_section(FRONT_PAGE, "results", front_page(recorded()))
    # Naming masked tokens is another scale; it has a picture of its own.
    classified = {title: runs for title, runs in found.items() if runs[0]["name"] not in PRETRAINED}
    accuracy_picture(RESULTS.with_suffix(".png"), classified)
    curves = {name: _curve_rows(base) for name, base in PRETRAINED.items() if _curve(base).exists()}
    if curves:
        pretraining_picture(MEDIA / "pretraining.png", curves)
    print(tables(recorded()))


def by_table(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Sorts runs by the title of their table, and in it by the order of its rows."""
    found = {title: [row for name in names for row in rows if row["name"] == name] for title, names in TABLES.items()}
    return {title: runs for title, runs in found.items() if runs}


def tables(rows: Sequence[dict[str, Any]]) -> str:
    return "\n".join(table(runs, title) for title, runs in by_table(rows).items())


def front_page(rows: Sequence[dict[str, Any]]) -> str:
    """Formats the few rows of the front page, without seeds and commands."""
    lines = ["| model | validation accuracy on SST-2 | training | parameters |", "|---|---|---|---|"]
    for name in ON_FRONT_PAGE:
        accuracy, _, duration, parameters, _ = _cells([row for row in rows if row["name"] == name])
        lines.append(f"| {name} | {accuracy} | {duration} | {parameters} |")
    return "\n".join(lines) + "\n"


def _curve(base: str) -> Path:
    """Where metrics.jsonl of a pre-training is kept."""
    return MEDIA / f"{Path(base).name}.jsonl"


def _curve_rows(base: str) -> list[dict[str, Any]]:
    """Reads a curve; steps count on from those of the model that the pre-training went on with."""
    before = [_curve_rows(other)[-1]["step"] for other in _bases(BASES[base])]
    return [row | {"step": row["step"] + sum(before)} for row in _lines(_curve(base))]


def _bases(command: str) -> list[str]:
    """Finds the models and data that a command begins with."""
    words = command.split()
    return [base for base in BASES if any(word == base or word.startswith(f"{base}/") for word in words)]


def record(run: Mapping[str, Any]) -> None:
    """Keeps a run, in place of an older one of the same name and seed."""
    others = [row for row in recorded() if (row["name"], row["seed"]) != (run["name"], run["seed"])]
    RESULTS.write_text("".join(json.dumps(row) + "\n" for row in [*others, run]))


def table(rows: list[dict[str, Any]], title: str) -> str:
    """Formats runs as a Markdown table, one line a recipe; the title is that of the first two columns."""
    lines = [f"| {title} | seeds | training | parameters | command |", "|---|---|---|---|---|---|"]
    for name in dict.fromkeys(row["name"] for row in rows):
        lines.append(f"| {name} | {' | '.join(_cells([row for row in rows if row['name'] == name]))} |")
    return "\n".join(lines) + "\n"


def _cells(rows: list[dict[str, Any]]) -> tuple[str, str, str, str, str]:
    """Formats the runs of one recipe: accuracy, seeds, training time, parameters, command."""
    runs = sorted(rows, key=lambda row: row["seed"])
    accuracies = [100 * run["accuracy"] for run in runs]
    spread = f" ± {statistics.stdev(accuracies):.1f}" if len(runs) > 1 else ""
    seconds = statistics.median(run["seconds"] for run in runs)
    seeds = "deterministic" if callable(ROWS.get(runs[0]["name"])) else ", ".join(str(run["seed"]) for run in runs)
    accuracy = f"{statistics.mean(accuracies):.1f}{spread} %"
    return accuracy, seeds, _duration(seconds), f"{runs[0]['parameters']:,}", runs[0]["command"]


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def recorded() -> list[dict[str, Any]]:
    return _lines(RESULTS) if RESULTS.exists() else []


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _runs(name: str, local: Mapping[str, str], seeds: int) -> Iterator[dict[str, Any]]:
    how = ROWS[name]
    if callable(how):
        yield _baseline(name, how, open_corpus(DataConfig(dataset=local.get(SST2))))
    elif how in BASES:
        folder = _base(how, local)
        if name in PRETRAINED:
            shutil.copy(folder / "metrics.jsonl", _curve(how))
        yield _row(name, folder, f"{BASES[how]} --output-dir {how}", seed=0)
    else:
        command = f"src.train {how}"
        for base in _bases(command):
            _base(base, local)
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary) / "run"
                _run(f"{command} --seed {seed}", folder, local)
                yield _row(name, folder, command, seed)


def _base(folder: str, local: Mapping[str, str]) -> Path:
    path = REPOSITORY / folder
    for base in _bases(BASES[folder]):
        _base(base, local)
    if folder == SENTENCES:
        if not (path / "validation.csv").exists():
            _run(BASES[folder], path, local)
    elif not path.exists() or read_json(path / "run.json")["finished"] is None:
        _run(f"{BASES[folder]} --resume auto", path, local)
    return path


def _run(command: str, folder: Path, local: Mapping[str, str]) -> None:
    program, *words = [_located(word, local) for word in shlex.split(command)]
    if program == "src.train" and not {"--dataset", "--train-file"} & {*words} and SST2 in local:
        words += ["--dataset", local[SST2]]
    arguments = [sys.executable, "-m", program, *words, "--output-dir", str(folder)]
    environment = os.environ | {"WANDB_MODE": "disabled"}
    subprocess.run(arguments, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL, env=environment)


def _located(word: str, local: Mapping[str, str]) -> str:
    source, colon, split = word.partition(":")
    return local.get(source, source) + colon + split


def _row(name: str, folder: Path, command: str, seed: int) -> dict[str, Any]:
    run = read_json(folder / "run.json")
    if run["data"]["name"] == SAMPLE and name != SAMPLE_RUN:
        raise SystemExit(f"{name}: SST-2 was out of reach and the sample stood in; name a folder with --local")
    return {
        "name": name,
        "seed": seed,
        "accuracy": read_json(folder / "evaluation-validation.json")["accuracy"],
        "seconds": run["training_seconds"],
        "parameters": run["model"]["parameters"],
        "command": f"`python -m {shlex.join(shlex.split(command))}{'' if '--output-dir' in command else ' --seed N'}`",
        "versions": run["versions"],
        "machine": run["machine"],
    }


def _baseline(name: str, train: Baseline, corpus: Corpus) -> dict[str, Any]:
    if corpus.source.dataset == SAMPLE:
        raise SystemExit(f"{name}: SST-2 is out of reach; name a folder with --local")
    started = time.perf_counter()
    accuracy, parameters = train(corpus)
    seconds = time.perf_counter() - started
    row = {"name": name, "seed": 0, "accuracy": accuracy, "seconds": seconds, "parameters": parameters}
    return row | {"command": "`python -m tests.benchmarks.accuracy --only logistic`"}


if __name__ == "__main__":
    main()
