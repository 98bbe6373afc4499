"""Trains linear baselines, recipes of this project and ablations on SST-2 over several seeds and writes two tables.

    python -m tests.benchmarks.accuracy --dataset FOLDER_OR_HUB_ID

Every run is one line of media/accuracy.jsonl; the tables in media/accuracy.md are made from those lines alone, so runs
may be added one row at a time. Recipes are evaluated on the validation split with their last model, ablations on
held-out training phrases.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.data.sources import Corpus, open_corpus
from src.utils.config import REPOSITORY, DataConfig
from src.utils.folder import read_json

RESULTS = REPOSITORY / "media" / "accuracy.jsonl"
TABLE = REPOSITORY / "media" / "accuracy.md"
README = REPOSITORY / "README.md"

# What `make train` does where SST-2 is out of reach.
SAMPLES = {"bundled sample": "--dataset sample"}

# Name in the table to the options of `python -m src.train`; "default" is what `make train` does on SST-2.
RECIPES = {
    "BERT from scratch, default": "",
}

# The same, trained without and evaluated on a fifth of the maximal training phrases.
ABLATIONS = {
    "held out: default": "--holdout 0.2",
    "held out: rare words dropped no more often": "--holdout 0.2 --rare-word-dropout 0",
    "held out: AdamW with beta2 0.999, epsilon 1e-8": "--holdout 0.2 --adam-beta2 0.999 --adam-epsilon 1e-8",
    "held out: both of these": "--holdout 0.2 --rare-word-dropout 0 --adam-beta2 0.999 --adam-epsilon 1e-8",
    "held out: two layers": "--holdout 0.2 --preset tiny",
}


def main() -> None:
    """Runs what the command line asks for and rewrites the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="SST-2: hub id or folder; default as in python -m src.train")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", help="run only the rows whose name contains this")
    options = parser.parse_args()
    corpus = open_corpus(DataConfig(dataset=options.dataset))
    chosen = [name for name in (*BASELINES, *RECIPES, *ABLATIONS, *SAMPLES) if not options.only or options.only in name]
    kept = [row for row in _rows() if row["name"] not in chosen]
    RESULTS.write_text("".join(json.dumps(row) + "\n" for row in kept))
    for name in chosen:
        for row in _baseline(name, corpus) if name in BASELINES else _recipe(name, options.dataset, options.seeds):
            with RESULTS.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            print(f"{name}, seed {row['seed']}: {100 * row['accuracy']:.2f} % in {row['seconds']:.0f} s", flush=True)
    parts = {
        "trained on SST-2 only | validation accuracy": {*BASELINES, *RECIPES},
        "trained on SST-2 only | accuracy on held-out training phrases": {*ABLATIONS},
        "trained on the bundled sample | accuracy on its validation part": {*SAMPLES},
    }
    tables = [table([row for row in _rows() if row["name"] in names], title) for title, names in parts.items()]
    TABLE.write_text("\n".join(tables))
    README.write_text(with_table(README.read_text(), TABLE.read_text()))
    print(TABLE.read_text())


def table(rows: list[dict[str, Any]], title: str) -> str:
    """Formats runs as a Markdown table, one line a recipe.

    Args:
        rows: the runs.
        title: of the first two columns.

    Returns:
        The table: mean and standard deviation over seeds, seeds, training time, parameters, command.
    """
    lines = [
        f"| {title} | seeds | training | parameters | command |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["name"] for row in rows):
        runs = [row for row in rows if row["name"] == name]
        accuracies = [100 * run["accuracy"] for run in runs]
        spread = f" ± {statistics.stdev(accuracies):.1f}" if len(runs) > 1 else ""
        seconds = statistics.median(run["seconds"] for run in runs)
        seeds = ", ".join(str(run["seed"]) for run in runs) if len(runs) > 1 else "deterministic"
        lines.append(
            f"| {name} | {statistics.mean(accuracies):.1f}{spread} % | {seeds} | {_duration(seconds)} "
            f"| {runs[0]['parameters']:,} | {runs[0]['command']} |"
        )
    return "\n".join(lines) + "\n"


def with_table(readme: str, table: str) -> str:
    """Puts the table between README's two `accuracy` comments."""
    before, rest = readme.split("<!-- accuracy -->")
    _, after = rest.split("<!-- /accuracy -->")
    return f"{before}<!-- accuracy -->\n{table}<!-- /accuracy -->{after}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def _recipe(name: str, dataset: str | None, seeds: int) -> list[dict[str, Any]]:
    return [_train(name, dataset, seed) for seed in range(seeds)]


def _train(name: str, dataset: str | None, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        shown = ["src.train", *shlex.split((RECIPES | ABLATIONS | SAMPLES)[name]), "--seed", str(seed)]
        named = ["--dataset", dataset] if dataset and name not in SAMPLES else []
        hidden = ["--output-dir", str(folder), "--wandb", "disabled", *named]
        subprocess.run([sys.executable, "-m", *shown, *hidden], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
        run = read_json(folder / "run.json")
        return {
            "name": name,
            "seed": seed,
            "accuracy": read_json(folder / "evaluation-validation.json")["accuracy"],
            "seconds": run["training_seconds"],
            "parameters": run["model"]["parameters"],
            "command": f"`python -m {shlex.join(shown[:-2])} --seed N`",
            "versions": run["versions"],
            "machine": run["machine"],
        }


def tfidf_logistic_regression(corpus: Corpus) -> tuple[float, int]:
    """Trains logistic regression on tf-idf of words and word pairs; returns accuracy and number of weights."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", sublinear_tf=True)
    return _logistic_regression(corpus, vectorizer, lambda features, _: features, C=10.0)


def nb_logistic_regression(corpus: Corpus) -> tuple[float, int]:
    """Trains logistic regression on words weighted by their naive-Bayes log-count ratio (Wang & Manning 2012)."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    def ratio(features: Any, labels: Any) -> Any:
        positive, negative = (1 + features[labels == label].sum(axis=0) for label in (1, 0))
        return np.asarray(np.log((positive / positive.sum()) / (negative / negative.sum()))).ravel()

    weights: list[Any] = []

    def weigh(features: Any, labels: Any) -> Any:
        if labels is not None:
            weights.append(ratio(features, labels))
        return features.multiply(weights[0]).tocsr()

    vectorizer = CountVectorizer(token_pattern=r"\S+", binary=True)
    return _logistic_regression(corpus, vectorizer, weigh, C=1.0)


def _logistic_regression(
    corpus: Corpus, vectorizer: Any, weigh: Callable[[Any, Any], Any], C: float
) -> tuple[float, int]:
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    train, validation = corpus.splits["train"], corpus.splits["validation"]
    labels = np.array(train.labels)
    features = weigh(vectorizer.fit_transform(train.texts), labels)
    model = LogisticRegression(C=C, max_iter=1000).fit(features, labels)
    accuracy = model.score(weigh(vectorizer.transform(validation.texts), None), validation.labels)
    return float(accuracy), features.shape[1]


BASELINES = {
    "tf-idf of words and pairs, logistic regression": tfidf_logistic_regression,
    "naive-Bayes-weighted words, logistic regression": nb_logistic_regression,
}


def _baseline(name: str, corpus: Corpus) -> list[dict[str, Any]]:
    started = time.perf_counter()
    accuracy, parameters = BASELINES[name](corpus)
    seconds = time.perf_counter() - started
    command = "`python -m tests.benchmarks.accuracy --only logistic`"
    row = {"name": name, "seed": 0, "accuracy": accuracy, "seconds": seconds, "parameters": parameters}
    return [row | {"command": command}]


if __name__ == "__main__":
    main()
