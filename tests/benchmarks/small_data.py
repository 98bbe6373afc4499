"""Measures what the defaults make of few rows: python -m src.train beside transformers.Trainer and words counted.

    python -m tests.benchmarks.small_data --dataset FOLDER_WITH_SST2 --checkpoint FOLDER_OF_A_PRETRAINED_MODEL ...

Rows are made up of words that tell the class and words that do not, or drawn from SST-2. Every program gets the same
files and no settings. A line for each run goes into media/small_data.jsonl, and a table into the README here.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline

from src.data.sources import open_corpus
from src.utils.config import REPOSITORY, SST2, DataConfig
from tests.benchmarks.readme import BENCHMARKS, MEDIA, write_section

RESULTS = MEDIA / "small_data.jsonl"
SIZES, SEEDS, TEST_ROWS = (50, 200, 1000), (0, 1, 2), 400
SCRATCH, TRAINER, COUNTED = "from scratch", "Trainer", "tf-idf"
Rows = list[tuple[str, str]]  # text and label

TOPICS = {
    "billing": "invoice charged refund payment card twice price subscription receipt bank discount overpaid",
    "delivery": "parcel courier late shipped tracking doorstep address arrived package lost warehouse box",
    "account": "password login locked email username reset profile verify sign access two-factor register",
    "defect": "broken screen battery crash freezes overheats scratched noise button cracked fails dead",
}
# Names of the classes, and how many rows of the second come with one of the first.
SETS: dict[str, tuple[Sequence[str], float]] = {
    "2 topics": (("billing", "delivery"), 1.0),
    "4 topics": (tuple(TOPICS), 1.0),
    "2 topics, one in six": (("billing", "delivery"), 0.2),
}
OTHER_WORDS = (
    "the a i my we you it is was has been please help today again since yesterday about with for from this that when "
    "after before still cannot could would like need want just only very really order number customer service team "
    "question problem hello thanks best regards anyone month week time phone call wrote waiting answer nothing works"
)


def main() -> None:
    """Runs what is not yet in the results, and rewrites the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default=SST2, help="SST-2: hub id or folder")
    parser.add_argument("--checkpoint", type=Path, nargs="*", default=[], help="pre-trained models to begin with")
    parser.add_argument("--only", default="", help="only sets whose name contains this")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="numbers of training rows")
    options = parser.parse_args()
    done = {identity(run) for run in records()}
    for name, size, seed in ((n, s, k) for n in (*SETS, "SST-2") for s in options.sizes for k in SEEDS):
        if options.only not in name:
            continue
        rows = drawn(open_rows(options.dataset, "train"), size, seed) if name == "SST-2" else made(name, size, seed)
        test = open_rows(options.dataset, "validation") if name == "SST-2" else made(name, TEST_ROWS, seed + 1000)
        programs = {SCRATCH: ours(None), COUNTED: counted}
        for folder in options.checkpoint:
            programs |= {folder.name: ours(folder), f"{folder.name}, {TRAINER}": trainer(folder)}
        for program, run in programs.items():
            record: dict[str, Any] = {"program": program, "data": name, "rows": size, "seed": seed}
            if identity(record) not in done:
                predicted = run(rows, test, seed)
                record |= {"accuracy": accuracy_score([label for _, label in test], predicted)}
                record |= {"classes": len(set(predicted))}
                print(json.dumps(record), flush=True)
                with RESULTS.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(record) + "\n")
    write_section(BENCHMARKS, "small data", table(records()))


def records() -> list[dict[str, Any]]:
    """Reads the runs so far."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def identity(run: dict[str, Any]) -> tuple[Any, ...]:
    """Tells runs apart."""
    return tuple(run[key] for key in ("program", "data", "rows", "seed"))


def made(name: str, size: int, seed: int) -> Rows:
    """Makes rows: of 8 to 16 words, two tell the topic."""
    classes, share = SETS[name]
    generator = random.Random(f"{name} {size} {seed}")
    rows = []
    for number in range(size):
        first = share < 1 and number % round(1 + 1 / share) > 0  # the first class has the larger part
        label = classes[0] if first else classes[1] if share < 1 else classes[number % len(classes)]
        words = generator.choices(OTHER_WORDS.split(), k=generator.randint(6, 14))
        for word in generator.sample(TOPICS[label].split(), 2):
            words.insert(generator.randint(0, len(words)), word)
        rows.append((" ".join(words), label))
    generator.shuffle(rows)
    return rows


def open_rows(dataset: str, split: str) -> Rows:
    """Reads a split of SST-2."""
    corpus = open_corpus(DataConfig(dataset=dataset))
    found = corpus.splits[split]
    return [(text, corpus.label_names[label]) for text, label in zip(found.texts, found.labels, strict=True)]


def drawn(rows: Rows, size: int, seed: int) -> Rows:
    """Draws rows at random."""
    return random.Random(seed).sample(rows, size)


def write_rows(path: Path, rows: Rows) -> Path:
    """Writes rows as JSON lines."""
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    return path


def ours(checkpoint: Path | None) -> Any:
    """Trains with `python -m src.train`, from random weights or a checkpoint, and predicts with `src.inference`."""

    def run(rows: Rows, test: Rows, seed: int) -> list[str]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            files = [write_rows(folder / f"{part}.jsonl", found) for part, found in (("train", rows), ("test", test))]
            begin = [] if checkpoint is None else ["--model-name-or-path", str(checkpoint)]
            where = ["--output-dir", str(folder / "run"), "--seed", str(seed), "--wandb", "disabled"]
            program("train", "--train-file", str(files[0]), "--validation-file", str(files[1]), *begin, *where)
            (folder / "texts.txt").write_text("".join(f"{text}\n" for text, _ in test))
            found = program(
                "inference", "--checkpoint", str(folder / "run"), "--file", str(folder / "texts.txt"), "--json"
            )
            return [json.loads(line)["label"] for line in found.splitlines()]

    return run


def program(name: str, *arguments: str) -> str:
    """Runs one of this project's programs and returns its standard output."""
    command = [sys.executable, "-m", f"src.{name}", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout


def counted(rows: Rows, test: Rows, seed: int) -> list[str]:
    """Fits logistic regression on tf-idf."""
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000, random_state=seed))
    model.fit([text for text, _ in rows], [label for _, label in rows])
    return list(model.predict([text for text, _ in test]))


def trainer(checkpoint: Path) -> Any:
    """Fine-tunes with `transformers.Trainer` as it comes: 3 epochs of batches of 8 at 5e-5."""

    def run(rows: Rows, test: Rows, seed: int) -> list[str]:
        from transformers import (
            AutoModelForSequenceClassification,
            AutoTokenizer,
            DataCollatorWithPadding,
            Trainer,
            TrainingArguments,
        )

        names = sorted({label for _, label in rows})
        tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=len(names))

        def examples(found: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
            return [tokenizer(text, truncation=True) | {"labels": names.index(label)} for text, label in found]

        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(folder, seed=seed, report_to=[], disable_tqdm=True, save_strategy="no")
            fitted = Trainer(
                model, arguments, train_dataset=examples(rows), data_collator=DataCollatorWithPadding(tokenizer)
            )
            fitted.train()
            logits = fitted.predict(examples(test)).predictions
        return [names[index] for index in logits.argmax(-1)]

    return run


def table(runs: list[dict[str, Any]]) -> str:
    """Makes the table: mean and standard deviation of accuracy, and how many runs answered a single class."""
    programs = list(dict.fromkeys(run["program"] for run in runs))
    lines = ["| data | rows | " + " | ".join(programs) + " |", "|---|---|" + "---|" * len(programs)]
    for name, size in dict.fromkeys((run["data"], run["rows"]) for run in runs):
        cells = []
        for program_name in programs:
            own = [run for run in runs if (run["program"], run["data"], run["rows"]) == (program_name, name, size)]
            found = [100 * run["accuracy"] for run in own]
            single = sum(run["classes"] == 1 for run in own)
            cell = f"{statistics.mean(found):.1f} ± {statistics.pstdev(found):.1f}" if found else ""
            cells.append(cell + (f" ({single} of {len(own)}: one class)" if single else ""))
        lines.append(f"| {name} | {size:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
