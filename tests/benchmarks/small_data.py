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
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import product
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
KEYS = ("program", "data", "rows", "seed")  # of a run
Rows = list[tuple[str, str]]  # text and label
Program = Callable[[Rows, Rows, int], list[str]]  # rows to learn, rows to predict and seed to labels

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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default=SST2, help="SST-2: hub id or folder")
    parser.add_argument("--checkpoint", type=Path, nargs="*", default=[], help="pre-trained models to begin with")
    parser.add_argument("--only", default="", help="only sets whose name contains this")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="numbers of training rows")
    options = parser.parse_args()
    programs: dict[str, Program] = {SCRATCH: partial(ours, None), COUNTED: counted}
    for folder in options.checkpoint:
        programs |= {folder.name: partial(ours, folder), f"{folder.name}, {TRAINER}": partial(trainer, folder)}
    done = {tuple(run[key] for key in KEYS) for run in records()}
    names = [name for name in (*SETS, "SST-2") if options.only in name]
    for name, size, seed, program in product(names, options.sizes, SEEDS, programs):
        if (program, name, size, seed) in done:
            continue
        if name == "SST-2":
            train, test = (open_rows(options.dataset, split) for split in ("train", "validation"))
            train = random.Random(seed).sample(train, size)
        else:
            train, test = made(name, size, seed), made(name, TEST_ROWS, seed + 1000)
        predicted = programs[program](train, test, seed)
        record = dict(zip(KEYS, (program, name, size, seed), strict=True))
        record |= {"accuracy": accuracy_score([label for _, label in test], predicted), "classes": len(set(predicted))}
        print(json.dumps(record), flush=True)
        with RESULTS.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
    write_section(BENCHMARKS, "small data", table(records()))


def records() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


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


@cache
def open_rows(dataset: str, split: str) -> Rows:
    corpus = open_corpus(DataConfig(dataset=dataset))
    found = corpus.splits[split]
    return [(text, corpus.label_names[label]) for text, label in zip(found.texts, found.labels, strict=True)]


def ours(checkpoint: Path | None, train: Rows, test: Rows, seed: int) -> list[str]:
    """Trains with `python -m src.train`, from random weights or a checkpoint, and predicts with `src.inference`."""
    with tempfile.TemporaryDirectory() as name:
        files = {split: str(Path(name) / f"{split}.jsonl") for split in ("train", "test")}
        for path, rows in zip(files.values(), (train, test), strict=True):
            Path(path).write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
        begin = [] if checkpoint is None else ["--model-name-or-path", str(checkpoint)]
        run = ["--output-dir", f"{name}/run", "--seed", str(seed), "--wandb", "disabled", *begin]
        commands = (
            ["src.train", "--train-file", files["train"], "--validation-file", files["test"], *run],
            ["src.inference", "--checkpoint", f"{name}/run", "--file", files["test"]],
        )
        for command in commands:
            arguments = [sys.executable, "-m", *command]
            ended = subprocess.run(arguments, cwd=REPOSITORY, check=True, capture_output=True, text=True)
        return [json.loads(line)["predicted_label"] for line in ended.stdout.splitlines()]


def counted(train: Rows, test: Rows, seed: int) -> list[str]:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000, random_state=seed))
    model.fit([text for text, _ in train], [label for _, label in train])
    return list(model.predict([text for text, _ in test]))


def trainer(checkpoint: Path, train: Rows, test: Rows, seed: int) -> list[str]:
    """Fine-tunes with `transformers.Trainer` as it comes: 3 epochs of batches of 8 at 5e-5."""
    import transformers

    names = sorted({label for _, label in train})
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=len(names))
    examples = [
        [tokenizer(text, truncation=True) | {"labels": names.index(label)} for text, label in rows]
        for rows in (train, test)
    ]
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"report_to": [], "disable_tqdm": True, "save_strategy": "no"}
        arguments = transformers.TrainingArguments(folder, seed=seed, **options)
        collator = transformers.DataCollatorWithPadding(tokenizer)
        fitted = transformers.Trainer(model, arguments, train_dataset=examples[0], data_collator=collator)
        fitted.train()
        logits = fitted.predict(examples[1]).predictions
    return [names[index] for index in logits.argmax(-1)]


def table(runs: list[dict[str, Any]]) -> str:
    """Makes the table: mean and standard deviation of accuracy, and how many runs answered a single class."""
    programs = list(dict.fromkeys(run["program"] for run in runs))
    lines = ["| data | rows | " + " | ".join(programs) + " |", "|---|---|" + "---|" * len(programs)]
    for name, size in dict.fromkeys((run["data"], run["rows"]) for run in runs):
        cells = []
        for program in programs:
            own = [run for run in runs if (run["program"], run["data"], run["rows"]) == (program, name, size)]
            found = [100 * run["accuracy"] for run in own]
            single = sum(run["classes"] == 1 for run in own)
            cell = f"{statistics.mean(found):.1f} ± {statistics.pstdev(found):.1f}" if found else ""
            cells.append(cell + (f" ({single} of {len(own)}: one class)" if single else ""))
        lines.append(f"| {name} | {size:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
