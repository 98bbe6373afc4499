"""Who runs in the speed benchmark: this project and its peers, each with the same weights on the same sentences.

Every contender is built in a process of its own and does one round of work when asked. Of training, a round is some of
the batches that its own way of batching makes of SST-2's training phrases; of inference, a list of sentences from text
to logits.
"""

import itertools
import random
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from src.data.dataset import DSCreator, to_device
from src.data.sources import Corpus, open_corpus
from src.evaluation.predictor import Predictor
from src.interop.huggingface import load_classifier
from src.interop.onnx import GRAPH, OnnxModel, save_onnx
from src.model.bert import BertForSequenceClassification
from src.training.tasks import ClassificationTask
from src.training.trainer import Trainer
from src.utils.config import TrainConfig, resolve, with_options
from src.utils.device import set_up_device

# What is left out, since peers have no such things.
NO_EXTRAS = {"word_dropout": 0.0, "label_smoothing": 0.0, "classifier_dropout": 0.1}
NO_EXTRAS |= {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.0}
# Of the very first batches PyTorch and its kernels have to warm up.
WARM_UP = 3
LONGEST = 64  # SST-2's phrases are shorter
# Of a layer: PyTorch's names and ours.
THEIR_NAMES = (
    *(("self_attn.in_proj_", "attention.in_proj_"), ("self_attn.out_proj.", "attention.output.")),
    *(("linear1.", "feed_forward.expand."), ("linear2.", "feed_forward.contract.")),
    *(("norm1.", "attention_norm."), ("norm2.", "feed_forward_norm.")),
)
KINDS = ("weight", "bias")


@dataclass(frozen=True)
class Work:
    folder: Path  # of the checkpoint that all begin with
    dataset: str  # SST-2
    batches: int  # of a training round
    sentences: int  # of an inference round
    seed: int
    device: str = "cpu"


@dataclass(frozen=True)
class Round:
    """What a contender did and how long it took."""

    tokens: int  # real ones, [CLS] and [SEP] included, padding not
    sentences: int
    seconds: float
    flops: float  # of the matrix products that a classification needs: of the last layer, [CLS] alone


class Contender(ABC):
    """One way to do the work; `result` on the common sentences must be the same for all."""

    def __init__(self, work: Work):
        self.work = work
        self.classifier = load_classifier(work.folder)
        self.train, self.validation = (
            open_corpus(with_options(TrainConfig(), {"dataset": work.dataset}).data).splits[split]
            for split in ("train", "validation")
        )
        self.common = self.validation.texts[:16]
        self.random = random.Random(work.seed)

    @abstractmethod
    def result(self) -> list[float]:
        """The logits of the common sentences."""

    @abstractmethod
    def round(self) -> Round:
        """Does one round."""

    def count(self, lengths: Sequence[int], seconds: float, passes: int) -> Round:
        """Describes a round by the lengths of its sentences and the passes over the model (a backward pass is two)."""
        shape = self.classifier.model.config
        D, layers = shape.hidden_size, shape.num_hidden_layers
        per_token = 8 * D * D + 4 * D * shape.intermediate_size  # of one layer; and 4 D T for attention
        flops = sum(
            length * ((layers - 1) * (per_token + 4 * D * length) + 4 * D * D) + per_token for length in lengths
        )
        return Round(sum(lengths), len(lengths), seconds, passes * flops)


class OursInTraining(Contender):
    """The trainer of `src.train`: batches of equal length under a budget of tokens."""

    def __init__(self, work: Work, batch_size: int = 32, recipe: str | None = "finetune"):
        super().__init__(work)
        options = resolve(recipe, None) | NO_EXTRAS | {"model_name_or_path": str(work.folder), "device": work.device}
        config = with_options(TrainConfig(), options | {"seed": work.seed, "seq_len": LONGEST, "plain_text": False})
        splits = {"train": self.train, "validation": self.validation}
        self.task = ClassificationTask(config, Corpus("sst2", self.classifier.label_names, splits, config.data))
        self.dataset = self.task.train
        self.task.model = self.model = self.build().to(work.device)
        self.trainer = Trainer(self.task)
        self.plan = self.dataset.batches(batch_size, work.seed, epoch=0)

    def build(self) -> Any:
        return self.task.model.train()

    def result(self) -> list[float]:
        self.model.eval()
        labels = self.validation.labels[:16]
        dataset = DSCreator({"sentence": self.common, "label": labels}, self.classifier.tokenizer, LONGEST)
        batch = to_device(dataset.collate(range(16)), torch.device(self.work.device))
        with torch.no_grad():
            logits = self.model(batch["input_ids"], batch["attention_mask"], None)
        self.model.train()
        found: list[float] = logits.ravel().tolist()
        return found

    def round(self) -> Round:
        self.model.train()
        chosen = self.random.sample(self.plan, WARM_UP + self.work.batches)
        for number, indices in enumerate(chosen):
            if number == WARM_UP:
                started = time.perf_counter()
            self.trainer.training_step([self.dataset.collate(indices)])
        seconds = time.perf_counter() - started
        lengths = [self.dataset.lengths[index] for indices in chosen[WARM_UP:] for index in indices]
        return self.count(lengths, seconds, passes=3)


class TorchInTraining(OursInTraining):
    """`torch.nn.TransformerEncoder` in our batches and our loop."""

    def build(self) -> Any:
        return TorchEncoder(self.task.model.train())


class TrainerInTraining(Contender):
    """`transformers.Trainer` at its best settings: SDPA, fused AdamW, nothing logged or saved.

    `grouped` sorts sentences by length, as it can; else all lengths are mixed in a batch and padded to the longest.
    """

    def __init__(self, work: Work, grouped: bool, batch_size: int = 32):
        super().__init__(work)
        self.batch_size = batch_size
        import transformers

        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        self.grouped, self.tokenizer = grouped, transformers.AutoTokenizer.from_pretrained(work.folder)
        self.model = transformers.AutoModelForSequenceClassification.from_pretrained(
            work.folder, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.0, attn_implementation="sdpa"
        )
        encoded = self.tokenizer(self.train.texts, truncation=True, max_length=LONGEST)
        ids, masks = encoded["input_ids"], encoded["attention_mask"]
        self.rows = [
            {"input_ids": row, "attention_mask": mask, "labels": label}
            for row, mask, label in zip(ids, masks, self.train.labels, strict=True)
        ]

    def result(self) -> list[float]:
        self.model.eval()
        inputs = self.tokenizer(self.common, truncation=True, max_length=LONGEST, padding=True, return_tensors="pt")
        with torch.no_grad():
            found: list[float] = self.model.to(self.work.device)(**inputs.to(self.work.device)).logits.ravel().tolist()
        return found

    def round(self) -> Round:
        from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

        lengths: list[list[int]] = []
        times: list[float] = []

        class Clock(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, *_: Any, **__: Any) -> None:
                times.append(time.perf_counter())

        def padded(rows: list[dict[str, Any]]) -> Any:
            lengths.append([len(row["input_ids"]) for row in rows])
            return padder(rows)

        padder = DataCollatorWithPadding(self.tokenizer)
        # Grouped, it goes from long to short in every 50 batches; only whole rounds of them are typical.
        steps = -(-self.work.batches // 50) * 50 if self.grouped else self.work.batches
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                per_device_train_batch_size=self.batch_size,
                train_sampling_strategy="group_by_length" if self.grouped else "random",
                max_steps=steps + 1,
                optim="adamw_torch_fused",
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                use_cpu=self.work.device == "cpu",
                bf16=self.work.device == "cuda",
                disable_tqdm=True,
                seed=self.random.randrange(2**31),
            )
            trainer = Trainer(self.model, arguments, train_dataset=self.rows, data_collator=padded, callbacks=[Clock()])
            trainer.train()
        # From the end of the first step, whose kernels warm up, to the end of the last.
        real = list(itertools.chain(*lengths[1 : steps + 1]))
        return self.count(real, times[steps] - times[0], passes=3)


class OursInInference(Contender):
    """`Predictor`: from texts to logits in batches of equal length."""

    sets_up = True  # memory and PyTorch as this project does; peers find them as their users do

    def __init__(self, work: Work):
        super().__init__(work)
        if self.sets_up:
            set_up_device("cpu")
        self.predictor = Predictor(self.classifier, torch.device("cpu"))
        self.lengths = [len(ids) for ids in self.predictor.classifier.dataset(self.train.texts).input_ids]

    def logits(self, texts: list[str]) -> Any:
        return self.predictor.logits(self.predictor.classifier.dataset(texts))

    def result(self) -> list[float]:
        found: list[float] = np.asarray(self.logits(self.common)).ravel().tolist()
        return found

    def round(self) -> Round:
        rows = self.random.sample(range(len(self.train.texts)), self.work.sentences)
        texts = [self.train.texts[row] for row in rows]
        self.logits(texts[:256])
        started = time.perf_counter()
        self.logits(texts)
        return self.count([self.lengths[row] for row in rows], time.perf_counter() - started, passes=1)


class TorchInInference(OursInInference):
    """`torch.nn.TransformerEncoder` on its fast path, in our batches."""

    def __init__(self, work: Work):
        super().__init__(work)
        self.predictor.model = TorchEncoder(self.classifier.model).eval()  # type: ignore[assignment]


class PipelineInInference(OursInInference):
    """`transformers.pipeline` with batches of 32, in the order of the texts."""

    sets_up = False

    def __init__(self, work: Work):
        super().__init__(work)
        import transformers

        transformers.utils.logging.set_verbosity_error()
        self.pipeline = transformers.pipeline(
            "text-classification", model=str(work.folder), device="cpu", batch_size=32, top_k=None
        )

    def logits(self, texts: list[str]) -> Any:
        names = self.classifier.label_names
        answers = self.pipeline(texts, truncation=True, max_length=LONGEST, function_to_apply="none")
        return [[next(one["score"] for one in answer if one["label"] == name) for name in names] for answer in answers]


class OnnxInInference(OursInInference):
    """ONNX Runtime in float32 on the graph that `src.export` makes: texts sorted by length, 32 at a time."""

    sets_up = False

    def __init__(self, work: Work):
        super().__init__(work)
        folder = work.folder / "onnx"
        folder.mkdir()
        save_onnx(folder, self.classifier)
        self.graph = OnnxModel(folder / GRAPH)

    def logits(self, texts: list[str]) -> Any:
        ids = [torch.tensor(one.ids) for one in self.classifier.tokenizer.encode_batch_fast(texts)]
        order = sorted(range(len(texts)), key=lambda row: len(ids[row]))
        found = np.empty((len(texts), len(self.classifier.label_names)), dtype=np.float32)
        for first in range(0, len(order), 32):
            rows = order[first : first + 32]
            padded = nn.utils.rnn.pad_sequence([ids[row] for row in rows], batch_first=True)
            lengths = torch.tensor([len(ids[row]) for row in rows])
            found[rows] = self.graph(padded, torch.arange(padded.shape[1]) < lengths[:, None])
        return found


class TorchEncoder(nn.Module):
    """Our embeddings, pooler and classifier around PyTorch's own encoder, with our weights in it."""

    def __init__(self, ours: BertForSequenceClassification):
        super().__init__()
        shape = ours.config
        sizes = (shape.hidden_size, shape.num_attention_heads, shape.intermediate_size, shape.hidden_dropout_prob)
        layer = nn.TransformerEncoderLayer(*sizes, "gelu", shape.layer_norm_eps, batch_first=True)
        layer.self_attn.dropout = 0.0  # as in ours
        self.ours, self.config = ours, shape
        self.encoder = nn.TransformerEncoder(layer, shape.num_hidden_layers, enable_nested_tensor=False)
        own: Any = ours.bert.encoder.layers
        for theirs, layer_of_ours in zip(self.encoder.layers, own, strict=True):
            state = layer_of_ours.state_dict()
            for kind in KINDS:  # PyTorch's layer has the three in one matrix
                parts = [state[f"attention.{part}.{kind}"] for part in ("query", "key", "value")]
                state[f"attention.in_proj_{kind}"] = torch.cat(parts)
            theirs.load_state_dict({there + kind: state[here + kind] for there, here in THEIR_NAMES for kind in KINDS})
        del ours.bert.encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> Tensor:
        """Maps token ids (B, T) to logits (B, C)."""
        x = self.ours.bert.embedding(input_ids, token_type_ids)
        x = self.encoder(x, src_key_padding_mask=None if attention_mask is None else ~attention_mask)
        logits: Tensor = self.ours.classifier(self.ours.dropout(self.ours.pooler(x)))
        return logits


def matrix_peak(rows: int, inner: int, columns: int, seconds: float = 0.4) -> float:
    """Measures how many floating-point operations a second a product of two float32 matrices reaches."""
    left, right = torch.randn(rows, inner), torch.randn(inner, columns)
    done, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds or done < 3:
        left @ right
        done += 1
    return 2 * rows * inner * columns * done / passed
