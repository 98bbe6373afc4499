"""Texts in, labels out: a trained classifier as a three-line Python API.

from src.evaluation.predictor import Predictor
predictor = Predictor.load("weights/bert-sst2")
print(predictor.predict(["a gripping film"]))
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.data.dataset import DSCreator, group_by_length, to_device
from src.data.sources import list_of_texts
from src.interop.huggingface import Classifier, load_classifier
from src.utils.config import ProblemType
from src.utils.device import resolve_device, survive_fork
from src.utils.distributed import all_gather_object, split_between_processes
from src.utils.errors import CheckpointError, DataError, printable

# A CPU is fastest on batches that fit its cache, a GPU on batches that keep all of it busy.
TOKENS_PER_BATCH = {"cpu": 512, "cuda": 16384, "mps": 16384}


@dataclass(frozen=True)
class Prediction:
    """The model's prediction for one text, with scores from `scores_of`; a blank text has neither label nor score."""

    text: str
    label: str | None = None  # the class with the highest score
    score: float | None = None  # its probability; in regression the predicted number
    truncated: bool = False  # not all of the text was read
    unknown: bool = False  # the model knows none of its words
    pair: str | None = None  # the second text, where two were compared
    scores: dict[str, float] = field(default_factory=dict)  # of all classes
    labels: tuple[str, ...] | None = None  # in multi-label classification, all with a probability above 0.5

    @property
    def remark(self) -> str | None:
        """Warns of a text that is blank, unknown or too long; None for any other."""
        if self.label is None:
            return "blank, no label"
        if self.unknown:
            return "the model knows none of its words, the label is a guess"
        return "too long, not all of it was read" if self.truncated else None

    def as_json(self) -> str:
        """Formats the prediction as one line of JSON: text, its pair if there is one, label, score, scores, labels."""
        pair = {} if self.pair is None else {"text_pair": self.pair}
        answer = {"label": self.label, "score": self.score, "scores": self.scores}
        labels = {} if self.labels is None else {"labels": self.labels}
        return json.dumps({"text": self.text} | pair | answer | labels)

    def as_line(self) -> str:
        """Formats the prediction for people: label, score and text(s) separated by tabs, control characters escaped.

        In multi-label classification it lists all labels with their scores, the most probable first.
        """
        label, score = self.label or "-", "" if self.score is None else f"{self.score:.4f}"
        if self.labels is not None:
            ranked = sorted(self.scores.items(), key=lambda item: item[1], reverse=True)
            label, score = ", ".join(name for name, _ in ranked), ", ".join(f"{number:.4f}" for _, number in ranked)
        pair = [] if self.pair is None else [printable(self.pair)]
        return "\t".join([printable(label), score, printable(self.text), *pair])


class Predictor:
    """A classifier on a device."""

    def __init__(self, classifier: Classifier, device: torch.device):
        survive_fork()
        self.classifier, self.device = classifier, device
        self.model = classifier.model.to(device).eval()

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> "Predictor":
        """Loads a folder that this project or `transformers` wrote; the device is as in `resolve_device`."""
        return cls(load_classifier(Path(folder)), resolve_device(device))

    def predict(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> list[Prediction]:
        """Classifies texts, or pairs of texts, in order; a blank text keeps its place and gets no label."""
        texts, pairs = list_of_texts(texts), None if pairs is None else list_of_texts(pairs, "second text")
        if pairs is not None and len(pairs) != len(texts):
            raise DataError(f"{len(texts)} texts and {len(pairs)} second texts; give one for each")
        if not texts:
            return []
        dataset = self.classifier.dataset(texts, pairs=pairs)
        problem_type, names = self.model.config.problem_type, self.classifier.label_names
        every = scores_of(self.logits(dataset), problem_type).tolist()  # N rows of C
        seconds: list[Any] = [None] * len(texts) if pairs is None else [*pairs]
        predictions = []
        columns = (texts, seconds, every, dataset.truncated, dataset.unknown)
        for text, pair, row, truncated, unknown in zip(*columns, strict=True):
            scores = dict(zip(names, row, strict=True))
            label, labels = max(scores, key=scores.__getitem__), None
            if problem_type == "multi_label_classification":
                labels = tuple(name for name, score in scores.items() if score > 0.5)
            found = Prediction(text, label, scores[label], truncated, unknown, pair, scores, labels)
            predictions.append(found if text.strip() else Prediction(text, pair=pair))
        return predictions

    def logits(self, dataset: DSCreator) -> Tensor:
        """Computes the logits of a dataset's texts, float32 on the CPU, shape (N, C), in order."""
        return classify(self.model, dataset, self.device)


def scores_of(logits: Tensor, problem_type: ProblemType | None) -> Tensor:
    """Turns logits (N, C) into scores, as the text-classification pipeline of `transformers` does.

    In regression the scores are the logits. In multi-label classification, or with a single class, they are the
    sigmoid of each logit; else the softmax over the classes.
    """
    if problem_type == "regression":
        return logits
    if problem_type == "multi_label_classification" or logits.shape[-1] == 1:
        return logits.sigmoid()
    return logits.softmax(-1)


@torch.inference_mode()
def classify(model: torch.nn.Module, dataset: DSCreator, device: torch.device, together: bool = False) -> Tensor:
    """Computes the logits of N texts, float32 on the CPU, shape (N, C); those of a text's windows are averaged.

    `model` maps ids, mask and segments to logits (B, C), and is in evaluation mode meanwhile. With `together` all
    processes have the same dataset; each computes its share, and all get all logits.
    """
    was_training = model.training
    model.eval()
    rows: list[Tensor] = []
    texts: list[int] = []  # of each row, the index of its text
    batches = group_by_length(dataset.lengths, TOKENS_PER_BATCH[device.type])
    for indices in split_between_processes(batches) if together else batches:
        batch = to_device(dataset.collate(indices), device)
        rows.append(model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]).float())
        texts += [dataset.overflow_to_sample_mapping[index] for index in indices]
    model.train(was_training)
    share = (torch.cat(rows).cpu(), torch.tensor(texts)) if rows else None
    shares = [found for found in (all_gather_object(share) if together else [share]) if found is not None]
    if not shares:
        return torch.empty(0, 0)
    windows, text = (torch.cat(parts) for parts in zip(*shares, strict=True))  # (windows, C), (windows,)
    count = torch.bincount(text, minlength=len(dataset.text_labels)).unsqueeze(1)  # (N, 1)
    logits = torch.zeros(len(count), windows.shape[1]).index_add_(0, text, windows) / count  # (N, C)
    if not logits.isfinite().all():
        raise CheckpointError("the model's logits are not all finite; its weights are damaged or training diverged")
    return logits
