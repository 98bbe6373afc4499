"""Who runs in the speed benchmark: this project and its peers, each with the same weights on the same sentences.

Every contender is built in a process of its own and does one round of work when asked. Of training, a round is some of
the batches that its own way of batching makes of SST-2's training phrases; of inference, a list of sentences from text
to logits.
"""

import itertools
import os
import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from src.data.dataset import Batch, DSCreator, to_device
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


@dataclass(frozen=True)
class Work:
    """What a round is made of."""

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


class Contender:
    """One way to do the work; `result` on the common sentences must be the same for all.

    Args:
        work: what a round is made of.
    """

    def __init__(self, work: Work):
        self.work = work
        self.classifier = load_classifier(work.folder)
        self.train, self.validation = (
            open_corpus(with_options(TrainConfig(), {"dataset": work.dataset}).data).splits[split]
            for split in ("train", "validation")
        )
        self.random = random.Random(work.seed)

    def common(self) -> list[str]:
        """A few sentences of different length."""
        return self.validation.texts[:16]

    def result(self) -> list[float]:
        """The logits of the common sentences."""
        raise NotImplementedError

    def round(self) -> Round:
        """Does one round."""
        raise NotImplementedError

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
    """The trainer of `src.train`: batches of equal length under a budget of tokens.

    Args:
        work: what a round is made of.
        batch_size: sentences of mean length in a batch.
        recipe: its `--recipe`.
    """

    def __init__(self, work: Work, batch_size: int = 32, recipe: str | None = "finetune"):
        super().__init__(work)
        self.batch_size = batch_size
        options = resolve(recipe, None) | NO_EXTRAS | {"model_name_or_path": str(work.folder), "device": work.device}
        config = with_options(TrainConfig(), options | {"seed": work.seed, "seq_len": LONGEST, "plain_text": False})
        splits = {"train": self.train, "validation": self.validation}
        self.set_up()
        self.task = ClassificationTask(config, Corpus("sst2", self.classifier.label_names, splits, config.data))
        self.dataset = self.task.train
        self.task.model = self.model = self.build().to(work.device)
        self.trainer = Trainer(self.task)
        self.plan = self.batches()

    def set_up(self) -> None:
        """Leaves it to the task."""

    def build(self) -> Any:
        return self.task.model.train()

    def batches(self) -> list[list[int]]:
        return self.dataset.batches(self.batch_size, self.work.seed, epoch=0)

    def collate(self, indices: Sequence[int], dataset: DSCreator) -> Batch:
        return dataset.collate(indices)

    def step(self, batch: Batch) -> None:
        self.trainer.training_step([batch])

    def result(self) -> list[float]:
        self.model.eval()
        labels = self.validation.labels[:16]
        dataset = DSCreator({"sentence": self.common(), "label": labels}, self.classifier.tokenizer, LONGEST)
        batch = to_device(self.collate(range(16), dataset), torch.device(self.work.device))
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
            self.step(self.collate(indices, self.dataset))
        seconds = time.perf_counter() - started
        lengths = [self.dataset.lengths[index] for indices in chosen[WARM_UP:] for index in indices]
        return self.count(lengths, seconds, passes=3)


class CompiledInTraining(OursInTraining):
    """The same trainer on a model that `torch.compile` has translated, for batches of any size."""

    def build(self) -> Any:
        if shutil.which(os.environ.get("CXX", "g++")) is None:
            raise ImportError(name="a C++ compiler")
        model = super().build()
        model.compile(dynamic=True)
        return model


class PaddedInTraining(OursInTraining):
    """What this project set out from, a textbook BERT: batches of 16, every row padded to 80 tokens, with a mask.

    Attention is written out and drops weights as BERT does, every layer computes every token, and the loop is the
    shortest there is: no clipping, no average of weights, PyTorch's AdamW as it comes.
    """

    width = 80

    def __init__(self, work: Work):
        super().__init__(work, batch_size=16)

    def set_up(self) -> None:
        """Leaves memory and PyTorch as a textbook does."""

    def build(self) -> Any:
        model = TextbookBert(with_dropout(self.classifier.model, attention=0.1))
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
        return model

    def batches(self) -> list[list[int]]:
        order = self.random.sample(range(len(self.dataset)), len(self.dataset))
        return [order[first : first + self.batch_size] for first in range(0, len(order), self.batch_size)]

    def collate(self, indices: Sequence[int], dataset: DSCreator) -> Batch:
        rows = [dataset.input_ids[index] for index in indices]
        longest = torch.zeros(self.width, dtype=torch.int64)  # makes all as long
        input_ids = nn.utils.rnn.pad_sequence([*rows, longest], batch_first=True)[:-1]
        mask = torch.arange(self.width) < torch.tensor([len(row) for row in rows])[:, None]
        labels = torch.tensor([dataset.labels[index] for index in indices])
        return Batch(input_ids=input_ids, attention_mask=mask, token_type_ids=None, labels=labels)

    def step(self, batch: Batch) -> None:
        logits = self.model(batch["input_ids"], batch["attention_mask"], None)
        nn.functional.cross_entropy(logits, batch["labels"]).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()


class TorchInTraining(OursInTraining):
    """`torch.nn.TransformerEncoder` in our batches and our loop."""

    def build(self) -> Any:
        return TorchEncoder(self.task.model.train())


class TrainerInTraining(Contender):
    """`transformers.Trainer` at its best settings: SDPA, fused AdamW, nothing logged or saved.

    Args:
        work: what a round is made of.
        grouped: sort sentences by length, as it can; else mix all lengths in a batch and pad to the longest.
        batch_size: sentences in a batch.
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
        inputs = self.tokenizer(self.common(), truncation=True, max_length=LONGEST, padding=True, return_tensors="pt")
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

    def __init__(self, work: Work):
        super().__init__(work)
        self.set_up()
        self.predictor = Predictor(self.classifier, torch.device("cpu"))
        self.lengths = [len(ids) for ids in self.predictor.classifier.dataset(self.train.texts).input_ids]

    def set_up(self) -> None:
        set_up_device("cpu")

    def logits(self, texts: list[str]) -> Any:
        return self.predictor.logits(self.predictor.classifier.dataset(texts))

    def result(self) -> list[float]:
        found: list[float] = np.asarray(self.logits(self.common())).ravel().tolist()
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

    def __init__(self, work: Work):
        super().__init__(work)
        import transformers

        transformers.utils.logging.set_verbosity_error()
        self.pipeline = transformers.pipeline(
            "text-classification", model=str(work.folder), device="cpu", batch_size=32, top_k=None
        )

    def set_up(self) -> None:
        """Leaves PyTorch as its users find it."""

    def logits(self, texts: list[str]) -> Any:
        names = self.classifier.label_names
        answers = self.pipeline(texts, truncation=True, max_length=LONGEST, function_to_apply="none")
        return [[next(one["score"] for one in answer if one["label"] == name) for name in names] for answer in answers]


class Sorted(OursInInference):
    """Runtimes that take padded batches: the texts tokenized, sorted by length, 32 at a time."""

    def set_up(self) -> None:
        """Leaves memory and PyTorch as users of these runtimes find them."""

    def logits(self, texts: list[str]) -> Any:
        encodings = self.classifier.tokenizer.encode_batch_fast(texts)
        order = sorted(range(len(texts)), key=lambda row: len(encodings[row].ids))
        found = np.empty((len(texts), len(self.classifier.label_names)), dtype=np.float32)
        for first in range(0, len(order), 32):
            rows = order[first : first + 32]
            found[rows] = self.run([encodings[row].ids for row in rows])
        return found

    def run(self, ids: list[list[int]]) -> Any:
        """Maps token ids to logits."""
        raise NotImplementedError


class OnnxInInference(Sorted):
    """ONNX Runtime in float32 on the graph that `src.export` makes of our model."""

    def __init__(self, work: Work):
        super().__init__(work)
        folder = work.folder / "onnx"
        folder.mkdir()
        save_onnx(folder, self.classifier)
        self.graph = OnnxModel(folder / GRAPH)

    def run(self, ids: list[list[int]]) -> Any:
        lengths = torch.tensor([len(row) for row in ids])
        padded = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in ids], batch_first=True)
        return self.graph(padded, torch.arange(padded.shape[1]) < lengths[:, None])


class CTranslate2InInference(Sorted):
    """CTranslate2 in float32; our classifier stands on its pooled output."""

    def __init__(self, work: Work):
        super().__init__(work)
        import ctranslate2

        target = work.folder / "ctranslate2"
        encoder_only(work.folder, work.folder / "encoder")
        ctranslate2.converters.TransformersConverter(str(work.folder / "encoder")).convert(str(target))
        self.encoder = ctranslate2.Encoder(str(target), device="cpu", intra_threads=torch.get_num_threads())
        head = self.classifier.model.classifier
        self.weight, self.bias = head.weight.detach().numpy(), head.bias.detach().numpy()

    def run(self, ids: list[list[int]]) -> Any:
        return np.asarray(self.encoder.forward_batch(ids).pooler_output) @ self.weight.T + self.bias


class TorchEncoder(nn.Module):
    """Our embeddings, pooler and classifier around PyTorch's own encoder, with our weights in it.

    Args:
        ours: the model to copy.
    """

    def __init__(self, ours: BertForSequenceClassification):
        super().__init__()
        shape = ours.config
        layer = nn.TransformerEncoderLayer(
            shape.hidden_size,
            shape.num_attention_heads,
            shape.intermediate_size,
            shape.hidden_dropout_prob,
            "gelu",
            shape.layer_norm_eps,
            batch_first=True,
        )
        layer.self_attn.dropout = 0.0  # as in ours
        self.ours, self.config = ours, shape
        self.encoder = nn.TransformerEncoder(layer, shape.num_hidden_layers, enable_nested_tensor=False)
        own: Any = ours.bert.encoder.layers
        for theirs, layer_of_ours in zip(self.encoder.layers, own, strict=True):
            state = layer_of_ours.state_dict()
            for kind in ("weight", "bias"):  # PyTorch's layer has the three in one matrix
                parts = [state[f"attention.{part}.{kind}"] for part in ("query", "key", "value")]
                state[f"attention.in_proj_{kind}"] = torch.cat(parts)
            names = {
                "self_attn.in_proj_": "attention.in_proj_",
                "self_attn.out_proj.": "attention.output.",
                "linear1.": "feed_forward.expand.",
                "linear2.": "feed_forward.contract.",
                "norm1.": "attention_norm.",
                "norm2.": "feed_forward_norm.",
            }
            kinds = ("weight", "bias")
            theirs.load_state_dict(
                {there + kind: state[here + kind] for there, here in names.items() for kind in kinds}
            )
        del ours.bert.encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> Tensor:
        """Maps token ids (B, T) to logits (B, C)."""
        x = self.ours.bert.embedding(input_ids, token_type_ids)
        x = self.encoder(x, src_key_padding_mask=None if attention_mask is None else ~attention_mask)
        logits: Tensor = self.ours.classifier(self.ours.dropout(self.ours.pooler(x)))
        return logits


class TextbookBert(nn.Module):
    """Our modules put together as the paper draws them: the readable attention, and every token in every layer.

    Args:
        ours: the model whose parts these are.
    """

    def __init__(self, ours: BertForSequenceClassification):
        super().__init__()
        self.ours, self.config = ours, ours.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> Tensor:
        """Maps token ids (B, T) to logits (B, C)."""
        x = self.ours.bert(input_ids, attention_mask, token_type_ids, return_attentions=True).last_hidden_state
        logits: Tensor = self.ours.classifier(self.ours.dropout(self.ours.pooler(x)))
        return logits


def with_dropout(model: BertForSequenceClassification, attention: float = 0.0) -> BertForSequenceClassification:
    """Builds the same model with the dropout rates of `--recipe finetune`, and that of attention weights."""
    rates: dict[str, Any] = {
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": attention,
        "classifier_dropout": 0.1,
    }
    found = BertForSequenceClassification(replace(model.config, **rates), model.num_labels)
    found.load_state_dict(model.state_dict())
    return found.train()


def encoder_only(folder: Path, target: Path) -> None:
    """Writes the encoder and pooler of a classifier as a folder of its own, which CTranslate2 can convert."""
    import transformers

    transformers.AutoModel.from_pretrained(folder).save_pretrained(target)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(target)


def matrix_peak(rows: int, inner: int, columns: int, seconds: float = 0.4) -> float:
    """Measures how many floating-point operations a second a product of two float32 matrices reaches."""
    left, right = torch.randn(rows, inner), torch.randn(inner, columns)
    done, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds or done < 3:
        left @ right
        done += 1
    return 2 * rows * inner * columns * done / passed
