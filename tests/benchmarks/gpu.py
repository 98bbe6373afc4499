"""What one GPU does in minutes: CUDA tests, speed beside Trainer, pre-training, a teacher and its students.

    python -m tests.benchmarks.gpu prepare --imdb FOLDER --sst2 FOLDER --minilm FOLDER --output .gpu
    python -m tests.benchmarks.gpu run --work .gpu --output OUT tests shapes pretrain
    python -m tests.benchmarks.gpu run --work .gpu --output OUT teacher students trainer
    python -m tests.benchmarks.gpu join OUT/reviews weights/reviews

`prepare` packs the data into one file, so that nothing is downloaded later. Each part of `run` can be started again:
trainings resume, and finished ones are left as they are. `--rehearse` makes everything tiny, for a CPU. Models come
back as float16, in files of at most 15 MB, which `join` puts together.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from src.data.packing import TokenizedCorpus
from src.data.sources import TextSplit, open_corpus
from src.interop.huggingface import Classifier, load_classifier, save_classifier
from src.interop.tokenizer import load_tokenizer
from src.model.bert import BertForSequenceClassification
from src.training.tasks import MaskedLMTask
from src.training.trainer import Trainer
from src.utils.config import (
    PRESETS,
    REPOSITORY,
    SENTIMENT_LABELS,
    SHIPPED_CHECKPOINT,
    DataConfig,
    PretrainConfig,
    with_options,
)
from src.utils.device import set_up_device
from src.utils.files import new_folder, read_json
from tests.benchmarks.contenders import OursInTraining, TrainerInTraining, Work

DATA = "data.tar.xz"
LARGEST_PART = 15_000_000  # bytes
SIX_384 = {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
SHAPES = {"4/256": PRESETS["mini"], "6/384": SIX_384, "8/512": PRESETS["medium"], "12/768": PRESETS["base"]}
TINY = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
WARM_UP, STEPS, ROUNDS = 4, 12, 3


class Run:
    """The parts, and where they read (`work`, with all that is trained) and write (`output`, which comes back)."""

    def __init__(self, work: Path, output: Path, rehearse: bool):
        self.work, self.output, self.rehearse = work.resolve(), output.resolve(), rehearse
        self.device = "cpu" if rehearse else "cuda"
        self.results = self.work / "results.json"
        self.output.mkdir(parents=True, exist_ok=True)
        self.reviews, self.unlabelled = self.work / "reviews-labelled.jsonl", self.work / "reviews-unlabelled.jsonl"
        if not self.unlabelled.exists():
            with tarfile.open(self.work / DATA) as archive:
                archive.extractall(self.work, filter="data")
            for path in self.work.glob("*.jsonl") if rehearse else ():
                path.write_text("\n".join(path.read_text(encoding="utf-8").split("\n")[::40]))

    def note(self, **found: Any) -> None:
        """Keeps results in results.json, and prints them."""
        before = json.loads(self.results.read_text()) if self.results.exists() else {}
        self.results.write_text(json.dumps(before | found, indent=1) + "\n")
        shutil.copy(self.results, self.output / "results.json")
        print(json.dumps(found), flush=True)

    def start(self, program: str, *options: object) -> "subprocess.Popen[bytes]":
        """Starts one of the programs; its output goes to a log named after its --output-dir."""
        words = [str(option) for option in options]
        log = self.work / f"{Path(words[words.index('--output-dir') + 1]).name}.log"
        words += [] if program.startswith("tests.") else ["--wandb", "disabled", "--device", self.device]
        environment = os.environ | {"OMP_NUM_THREADS": "4", "WANDB_MODE": "disabled"}
        with log.open("ab") as file:
            command = [sys.executable, "-m", program, *words]
            return subprocess.Popen(command, cwd=REPOSITORY, stdout=file, stderr=file, env=environment)

    def wait(self, *processes: "subprocess.Popen[bytes]") -> None:
        """Waits for programs; one that failed ends everything."""
        codes = [process.wait() for process in processes]
        if any(codes):
            for log in sorted(self.work.glob("*.log"), key=lambda path: path.stat().st_mtime)[-len(processes) :]:
                print(log.name, *log.read_text().splitlines()[-5:], sep="\n", flush=True)
            raise SystemExit("a program failed")

    def train(self, name: str, *options: object) -> "subprocess.Popen[bytes]":
        """Starts a training on SST-2, or on what the options name."""
        words = [str(option) for option in options]
        if "--train-file" not in words:
            words += ["--train-file", str(self.work / "sst2-train.csv")]
        if "--validation-file" not in words and "--holdout" not in words:
            words += ["--validation-file", str(self.work / "sst2-validation.csv")]
        if self.rehearse:
            words += ["--max-train-samples", "200", "--epochs", "1"]
        words += [] if "--dry-run" in words else ["--resume", "auto"]
        return self.start("src.train", *words, "--output-dir", self.work / name)

    def train_once(self, name: str, *options: object) -> None:
        if not self.is_done(name):
            self.wait(self.train(name, *options))

    def is_done(self, name: str) -> bool:
        run = self.work / name / "run.json"
        return run.exists() and read_json(run)["finished"] is not None

    def tests(self) -> None:
        """(a) The tests that need CUDA; meanwhile the corpus is tokenized, which later parts find in the cache."""
        options = ("--dry-run", "--device", "cpu", "--preset", "nano", "--batch-size", 1)
        tokenizing = self.pretraining("tokenized", *options)
        files = ["tests/test_cuda.py", "tests/model/test_bert.py", "tests/data/test_batching.py"]
        command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-m", "cuda", *files]
        ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        self.note(tests=ended.stdout.splitlines()[-1:])
        print("\n".join(ended.stdout.splitlines()[-30:]), flush=True)
        self.wait(tokenizing)

    def shapes(self) -> None:
        """(b) Pre-training of four sizes with and without torch.compile: tokens a second, share of the bf16 peak."""
        set_up_device(self.device)
        peak = self.peak()
        found: dict[str, Any] = {}
        for name, sizes in SHAPES.items():
            for compiled in (False, True):
                rate, flops = self.pretraining_rate(sizes, compiled)
                found[f"{name}{', compiled' if compiled else ''}"] = {
                    "tokens_per_second": round(rate),
                    "share_of_peak": round(rate * flops / peak, 4),
                }
                print(name, compiled, found[f"{name}{', compiled' if compiled else ''}"], flush=True)
        self.note(pretraining=found, peak_tflops=round(peak / 1e12, 1))

    def peak(self) -> float:
        """Measures how many floating-point operations a second a large bf16 product reaches."""
        size = 64 if self.rehearse else 8192
        left, right = (torch.randn(size, size, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        for _ in range(3):
            left @ right
        seconds = self.timed(lambda: [left @ right for _ in range(10)])
        return 10 * 2 * size**3 / seconds

    def timed(self, work: Callable[[], object]) -> float:
        """Measures the seconds of some work, to its end on the device."""
        self.synchronize()
        started = time.perf_counter()
        work()
        self.synchronize()
        return time.perf_counter() - started

    def synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def pretraining_rate(self, sizes: dict[str, Any], compiled: bool) -> tuple[float, float]:
        """Trains some steps on random tokens; returns tokens a second and FLOPs of the products of a token."""
        rows, T, V = (4, 16, 8192) if self.rehearse else (256, 128, 8192)
        options = {"seq_len": T, "batch_size": rows, "max_steps": 1000, "begin_with": "random", "device": self.device}
        options |= {"compile": compiled and not self.rehearse}
        config = with_options(PretrainConfig(), (TINY if self.rehearse else sizes) | options)
        torch.compiler.reset()  # else sizes that differ from the model before become variables
        stream = torch.randint(5, V, ((rows * (WARM_UP + STEPS) + 2) * T,)).numpy()
        tokenizer = load_classifier(SHIPPED_CHECKPOINT).tokenizer
        trainer = Trainer(MaskedLMTask(config, TokenizedCorpus("random tokens", tokenizer, stream, stream, 2, "")))
        steps = trainer.remaining_steps()
        for step in steps[:WARM_UP]:
            trainer.step_with_retry(step)
        seconds = self.timed(lambda: [trainer.step_with_retry(step) for step in steps[WARM_UP : WARM_UP + STEPS]])
        D, shape = config.model.hidden_size, config.model
        layer = 8 * D * D + 4 * D * shape.intermediate_size + 4 * D * T
        head = 2 * D * (D + V) * config.optimization.mask_rate
        return STEPS * rows * T / seconds, 3.0 * (shape.num_hidden_layers * layer + head)

    def pretraining(self, name: str, *options: object) -> "subprocess.Popen[bytes]":
        """Starts a pre-training on the reviews."""
        words: list[object] = ["--corpus", self.reviews, self.unlabelled, "--seq-len", 128, *options]
        if self.rehearse:
            words = ["--corpus", self.reviews, "--seq-len", 32, *options, "--batch-size", 8, "--vocab-size", 300]
        return self.start("src.pretrain", *words, "--output-dir", self.work / name)

    def pretrain(self) -> None:
        """(c) Pre-training of 6/384 on 75,000 reviews, five minutes of steps."""
        if not self.is_done("reviews"):
            options = ["--batch-size", 256, "--learning-rate", 1.5e-3, "--minutes", 5, "--compile"]
            options = ["--max-steps", 6] if self.rehearse else options
            for name, size in (TINY if self.rehearse else SIX_384).items():
                options += [f"--{name.replace('_', '-')}", size]
            self.wait(self.pretraining("reviews", *options, "--resume", "auto", "--save-every", 5000))
        self.note(pretrained=read_json(self.work / "reviews" / "evaluation-validation.json"))
        self.pack("reviews")

    def teacher(self) -> None:
        """A teacher: MiniLM on sentences of reviews whose label it and the review agree on, then on SST-2."""
        minilm, rates = self.work / "minilm", ["--epochs", 1, "--batch-size", 64]
        self.train_once("judge", "--model-name-or-path", minilm, "--holdout", 0.2, *rates)
        sentences = self.work / "sentences"
        if not (sentences / "validation.csv").exists():
            options = ["--dataset", self.reviews, "--classifier", self.work / "judge", "--output-dir", sentences]
            self.wait(self.start("tests.benchmarks.review_sentences", *options))
        files = ["--train-file", sentences / "train.csv", "--validation-file", sentences / "validation.csv"]
        self.train_once("on-sentences", "--model-name-or-path", minilm, *files, *rates, "--learning-rate", 2e-4)
        options = ["--model-name-or-path", self.work / "on-sentences", "--epochs", 1, "--learning-rate", 6e-5]
        self.train_once("teacher", *options)
        self.note(teacher=self.accuracy("teacher"))

    def students(self) -> None:
        """(d) The pre-trained 6/384 fine-tuned, and it and the shipped 4/256 taught by the teacher; three seeds."""
        taught = ["--teacher", self.work / "teacher", "--unlabelled", self.reviews]
        taught += ["--batch-size", 256, "--learning-rate", 3e-4, "--layer-decay", 1, "--epochs", 5]
        alone = ["--batch-size", 64, "--learning-rate", 2e-4, "--epochs", 2]
        kinds = {
            "taught": (self.work / "reviews", taught),
            "alone": (self.work / "reviews", alone),
            "taught-mini": (SHIPPED_CHECKPOINT, taught),
        }
        # One process labels the texts, and all others find the labels in the cache.
        self.wait(self.train("labels", "--model-name-or-path", SHIPPED_CHECKPOINT, *taught, "--dry-run"))
        started = []
        for seed in range(1 if self.rehearse else 3):
            for kind, (base, options) in kinds.items():
                name = f"{kind}-{seed}"
                if not self.is_done(name):
                    started.append(self.train(name, "--model-name-or-path", base, "--seed", seed, *options))
        self.wait(*started)
        found = {kind: [self.accuracy(run.name) for run in sorted(self.work.glob(f"{kind}-?"))] for kind in kinds}
        self.note(students=found)
        self.pack("taught-0")
        self.pack("taught-mini-0")

    def trainer(self) -> None:
        """(b) Fine-tuning beside transformers.Trainer: bf16, grouped by length, batches of 32 and 128."""
        table = self.work / "phrases.csv"
        rows = open_corpus(DataConfig(dataset=str(self.work / "sst2-train.csv")), splits=("train",)).splits["train"]
        _write_csv(table, rows, 1000 if self.rehearse else 20_000)
        found: dict[str, Any] = {}
        tokenizer = load_tokenizer(self.work / "minilm", 30_522)
        tokenizer.no_padding()
        minilm = SIX_384 | {"num_attention_heads": 12}
        for name, sizes in {"MiniLM 6/384": minilm, "base 12/768": PRESETS["base"]}.items():
            folder = self.work / name.split("/")[1]
            folder.mkdir(exist_ok=True)
            shape = with_options(PretrainConfig(), (TINY if self.rehearse else sizes) | {"vocab_size": 30_522}).model
            torch.manual_seed(0)
            model = BertForSequenceClassification(shape, 2)
            save_classifier(folder, Classifier(model, tokenizer, SENTIMENT_LABELS, 128))
            for size in (32, 128):
                work = Work(folder, str(table), 2 if self.rehearse else 50, 0, seed=0, device=self.device)
                both = {"this project": OursInTraining(work, size), "Trainer": TrainerInTraining(work, True, size)}
                rates: dict[str, list[float]] = {name: [] for name in both}
                for number in range(1 if self.rehearse else ROUNDS + 1):
                    for who, contender in both.items():
                        self.synchronize()
                        done = contender.round()
                        rates[who] += [done.tokens / done.seconds] * (number > 0 or self.rehearse)
                key = f"{name}, batches of {size}"
                found[key] = {who: [round(rate) for rate in some] for who, some in rates.items()}
                ours, theirs = (statistics.median(some) for some in rates.values())
                found[key]["ratio"] = round(ours / theirs, 3)
                print(key, found[key], flush=True)
        self.note(finetuning=found)

    def accuracy(self, name: str) -> float:
        found: float = read_json(self.work / name / "evaluation-validation.json")["accuracy"]
        return found

    def pack(self, name: str) -> None:
        """Puts a run where it comes back: weights as float16 in parts, the small files in an archive."""
        folder = self.work / name
        target = self.output / name
        target.mkdir(parents=True, exist_ok=True)
        parts: list[dict[str, torch.Tensor]] = [{}]
        for key, tensor in load_file(folder / "model.safetensors").items():
            if sum(other.numel() for other in parts[-1].values()) + tensor.numel() > LARGEST_PART // 2:
                parts.append({})
            parts[-1][key] = tensor.half()
        for number, part in enumerate(parts):
            save_file(part, target / f"part-{number}.safetensors")
        with tarfile.open(self.output / f"{name}.tar.gz", "w:gz") as archive:
            for file in sorted(folder.iterdir()):
                if file.is_file() and file.name != "model.safetensors":
                    archive.add(file, file.name)


def prepare(imdb: Path, sst2: Path, minilm: Path, output: Path) -> None:
    """Packs SST-2 and IMDB's reviews, never its test split, into one file; puts MiniLM beside it, in float16."""
    output.mkdir(parents=True, exist_ok=True)
    from src.data.documents import open_documents

    labelled = open_corpus(DataConfig(dataset=str(imdb)), splits=("train",)).splits["train"]
    pairs = zip(labelled.texts, labelled.labels, strict=True)
    _write_lines(output / "reviews-labelled.jsonl", ({"text": t, "label": SENTIMENT_LABELS[k]} for t, k in pairs))
    more = open_documents([f"{imdb}:unsupervised"]).read()
    _write_lines(output / "reviews-unlabelled.jsonl", ({"text": text} for text in more))
    for name, split in open_corpus(DataConfig(dataset=str(sst2))).splits.items():
        _write_csv(output / f"sst2-{name}.csv", split)
    files = sorted(output.glob("reviews-*.jsonl")) + sorted(output.glob("sst2-*.csv"))
    with tarfile.open(output / DATA, "w:xz", preset=9) as archive:
        for path in files:
            archive.add(path, path.name)
    for path in files:
        path.unlink()
    (output / "minilm").mkdir(exist_ok=True)
    weights = load_file(minilm / "model.safetensors")
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in weights.items()}
    save_file(half, output / "minilm" / "model.safetensors", metadata={"format": "pt"})
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(minilm / name, output / "minilm" / name)


def _write_csv(path: Path, split: TextSplit, count: int | None = None) -> None:
    rows = [(text, SENTIMENT_LABELS[label]) for text, label in zip(split.texts, split.labels, strict=True)]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows[:count]])


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def join(packed: Path, target: Path) -> None:
    """Makes a run's folder of what `pack` wrote, in float32."""
    with new_folder(target) as folder:
        with tarfile.open(packed.with_name(f"{packed.name}.tar.gz")) as archive:
            archive.extractall(folder, filter="data")
        (folder / "manifest.json").unlink()
        parts = sorted(packed.glob("part-*.safetensors"))
        tensors = {key: tensor.float() for part in parts for key, tensor in load_file(part).items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    preparing = commands.add_parser("prepare")
    for name in ("imdb", "sst2", "minilm", "output"):
        preparing.add_argument(f"--{name}", type=Path, required=True)
    running = commands.add_parser("run")
    running.add_argument("--work", type=Path, required=True)
    running.add_argument("--output", type=Path, required=True)
    running.add_argument("--rehearse", action="store_true")
    running.add_argument("parts", nargs="+", choices=["tests", "shapes", "pretrain", "teacher", "students", "trainer"])
    joining = commands.add_parser("join")
    joining.add_argument("packed", type=Path)
    joining.add_argument("target", type=Path)
    options = parser.parse_args()
    if options.command == "prepare":
        prepare(options.imdb, options.sst2, options.minilm, options.output)
    elif options.command == "join":
        join(options.packed, options.target)
    else:
        run = Run(options.work, options.output, options.rehearse)
        for part in options.parts:
            started = time.perf_counter()
            try:
                getattr(run, part)()
            except (Exception, SystemExit) as error:  # the next part may do without this one
                run.note(**{f"{part} failed": repr(error)})
            run.note(**{f"seconds of {part}": round(time.perf_counter() - started, 1)})


if __name__ == "__main__":
    main()
