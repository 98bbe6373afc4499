"""Makes training data for SST-2 of IMDB's reviews: sentences whose review and a classifier agree on their label.

    python -m tests.benchmarks.review_sentences --dataset FOLDER_WITH_IMDB --classifier FOLDER --output-dir FOLDER

A review has a label, its sentences have none: a good film's review names what is bad, too. The classifier, fine-tuned
on SST-2, judges each sentence by itself, and is wrong about others. Where both say the same, it is mostly so.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from src.data.documents import sentences
from src.data.sources import open_corpus
from src.utils.config import IMDB, REPOSITORY, SENTIMENT_LABELS, DataConfig

# Half of the sentences that the classifier is as sure of as this are left out: it has little to learn from them.
SURE, KEPT = 0.98, 0.5
VALIDATION = 2_000  # sentences set aside to see the training by


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default=IMDB, help="IMDB: hub id or folder")
    parser.add_argument("--classifier", type=Path, required=True, help="folder of a model fine-tuned on SST-2")
    parser.add_argument("--output-dir", type=Path, required=True)
    options = parser.parse_args()
    folder: Path = options.output_dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    reviews = open_corpus(DataConfig(dataset=options.dataset), splits=("train",)).splits["train"]
    labels = [SENTIMENT_LABELS[label] for label in reviews.labels]  # as SST-2 calls them
    found = [(sentence, labels[number]) for number, sentence in sentences(reviews.texts)]
    answers = judged([text for text, _ in found], options.classifier.resolve(), folder)
    chosen = agreed(found, answers)
    for name, rows in (("train", chosen[:-VALIDATION]), ("validation", chosen[-VALIDATION:])):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    print(f"{len(found):,} sentences, {len(chosen):,} of them chosen")


def judged(texts: Iterable[str], classifier: Path, folder: Path) -> list[tuple[str, float]]:
    """Lets `src.inference` classify texts; returns the label and the score of each."""
    file, output = folder / "sentences.txt", folder / "answers.jsonl"
    file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    output.unlink(missing_ok=True)
    arguments = ["--checkpoint", classifier, "--file", file, "--output", output, "--json"]
    subprocess.run([sys.executable, "-m", "src.inference", *map(str, arguments)], cwd=REPOSITORY, check=True)
    answers = map(json.loads, output.read_text(encoding="utf-8").splitlines())
    return [(answer["label"], answer["score"]) for answer in answers]


def agreed(found: Iterable[tuple[str, str]], answers: Iterable[tuple[str, float]]) -> list[tuple[str, str]]:
    """Chooses sentences whose review's label is the classifier's, in lower case as in SST-2 and in random order."""
    generator = random.Random(0)
    chosen = [
        (text.lower(), label)
        for (text, label), (answer, score) in zip(found, answers, strict=True)
        if answer == label and (score < SURE or generator.random() < KEPT)
    ]
    generator.shuffle(chosen)
    return chosen


if __name__ == "__main__":
    main()
