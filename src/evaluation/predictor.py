"""Texts in, labels out: a trained classifier as a three-line Python API.

from src.evaluation.predictor import Predictor
predictor = Predictor.load("weights/bert-sst2")
print(predictor.predict(["a gripping film"]))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from src.data.batching import to_device
from src.data.dataset import DSCreator
from src.interop.huggingface import Classifier, load_classifier
from src.utils.device import autocast, resolve_device

# Large enough that matrix products dominate, small enough for a base model's activations to stay in the cache's reach.
TOKENS_PER_BATCH = 4096


@dataclass(frozen=True)
class Prediction:
    """What the model says about one text; a blank text has neither label nor score."""

    text: str
    label: str | None
    score: float | None  # probability of `label`
    truncated: bool = False
    unknown: bool = False  # the model knows none of its words


class Predictor:
    """A classifier on a device, loaded once.

    Args:
        classifier: model, tokenizer and label names.
        device: where it computes.
    """

    def __init__(self, classifier: Classifier, device: torch.device):
        self.classifier = classifier
        self.device = device
        self.model = classifier.model.to(device).eval()

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> "Predictor":
        """Loads a folder that this project or `transformers` wrote.

        Args:
            folder: the model folder.
            device: auto, cpu, cuda or cuda:N.

        Returns:
            The predictor.

        Raises:
            CheckpointError: the folder cannot be used.
        """
        return cls(load_classifier(Path(folder)), resolve_device(device))

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Classifies texts.

        Args:
            texts: any strings; blank ones keep their place and get no label.

        Returns:
            One prediction a text, in the same order.
        """
        known = [index for index, text in enumerate(texts) if text.strip()]
        predictions = [Prediction(text, None, None) for text in texts]
        dataset = self.dataset([texts[index] for index in known])
        for row, (index, probabilities) in enumerate(zip(known, self.logits(dataset).softmax(-1), strict=True)):
            score, label = probabilities.max(-1)
            predictions[index] = Prediction(
                texts[index],
                self.classifier.label_names[int(label)],
                float(score),
                dataset.truncated[row],
                dataset.unknown[row],
            )
        return predictions

    def dataset(self, texts: Sequence[str], labels: Sequence[int] | None = None) -> DSCreator:
        """Tokenizes texts as the model expects them; without labels all are set to 0."""
        split = {"sentence": texts, "label": labels if labels is not None else [0] * len(texts)}
        return DSCreator(split, self.classifier.tokenizer, self.classifier.seq_len)

    def logits(self, dataset: DSCreator) -> Tensor:
        """Computes the logits of a dataset, float32 on the CPU, shape (N, C), in the dataset's order."""
        return classify(self.model, dataset, self.device)


@torch.inference_mode()
def classify(model: torch.nn.Module, dataset: DSCreator, device: torch.device, bf16: bool = False) -> Tensor:
    """Computes the logits of every example, in batches without padding.

    Args:
        model: maps ids and mask to logits (B, C); put into evaluation mode meanwhile.
        dataset: the examples.
        device: the model's.
        bf16: compute matrix products in bfloat16.

    Returns:
        Logits, float32 on the CPU, shape (N, C), in the dataset's order.
    """
    was_training = model.training
    model.eval()
    rows: list[Tensor] = []
    order: list[int] = []
    for indices in dataset.grouped(TOKENS_PER_BATCH):
        batch = to_device(dataset.collate(indices), device)
        with autocast(device, bf16):
            rows.append(model(batch["input_ids"], batch["attention_mask"]).float())
        order += indices
    model.train(was_training)
    num_labels = rows[0].shape[1] if rows else 0
    logits = torch.empty(len(order), num_labels)
    if rows:
        logits[torch.tensor(order)] = torch.cat(rows).cpu()
    return logits
