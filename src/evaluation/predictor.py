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

from src.data.dataset import DSCreator, group_by_length, to_device
from src.interop.huggingface import Classifier, load_classifier
from src.utils.device import resolve_device
from src.utils.distributed import all_gather_object, split_between_processes
from src.utils.errors import CheckpointError

# A CPU computes fastest what its cache can hold; a GPU what keeps all of it busy.
TOKENS_PER_BATCH = {"cpu": 512, "cuda": 16384}


@dataclass(frozen=True)
class Prediction:
    """What the model says about one text; a blank text has neither label nor score."""

    text: str
    label: str | None
    score: float | None  # probability of `label`
    truncated: bool = False
    unknown: bool = False  # the model knows none of its words
    pair: str | None = None  # the second text, where two were compared


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

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Prediction]:
        """Classifies texts, or pairs of texts.

        Args:
            texts: any strings; blank ones keep their place and get no label.
            pairs: second texts, one for each of `texts`.

        Returns:
            One prediction a text, in the same order.

        Raises:
            CheckpointError: the model computes what is no number.
        """
        if isinstance(texts, str):
            raise TypeError("predict takes a list of texts; wrap a single one: predict([text])")
        known = [index for index, text in enumerate(texts) if text.strip()]
        seconds = [None] * len(texts) if pairs is None else pairs
        predictions = [Prediction(text, None, None, pair=pair) for text, pair in zip(texts, seconds, strict=True)]
        dataset = self.dataset(
            [texts[index] for index in known], pairs=None if pairs is None else [pairs[index] for index in known]
        )
        logits = self.logits(dataset)
        if not logits.isfinite().all():
            raise CheckpointError("the model's logits are not all finite; its weights are damaged or training diverged")
        for row, (index, probabilities) in enumerate(zip(known, logits.softmax(-1), strict=True)):
            score, label = probabilities.max(-1)
            predictions[index] = Prediction(
                texts[index],
                self.classifier.label_names[int(label)],
                float(score),
                dataset.truncated[row],
                dataset.unknown[row],
                None if pairs is None else pairs[index],
            )
        return predictions

    def dataset(
        self, texts: Sequence[str], labels: Sequence[int] | None = None, pairs: Sequence[str] | None = None
    ) -> DSCreator:
        """Tokenizes texts as the model expects them; without labels all are set to 0."""
        return labelled_dataset(self.classifier, texts, labels if labels is not None else [0] * len(texts), pairs)

    def logits(self, dataset: DSCreator) -> Tensor:
        """Computes the logits of a dataset's texts, float32 on the CPU, shape (N, C), in order."""
        return classify(self.model, dataset, self.device)


def labelled_dataset(
    classifier: Classifier, texts: Sequence[str], labels: Sequence[int], pairs: Sequence[str] | None = None
) -> DSCreator:
    """Tokenizes labelled texts as a classifier expects them.

    Args:
        classifier: its tokenizer, length and way with long texts are used.
        texts: the texts.
        labels: their class indices.
        pairs: second texts, if the classifier compares two.

    Returns:
        The dataset.
    """
    split = {"sentence": texts, "label": labels} | ({} if pairs is None else {"pair": pairs})
    return DSCreator(
        split,
        classifier.tokenizer,
        classifier.seq_len,
        pair_column=None if pairs is None else "pair",
        long_text=classifier.long_text,
    )


@torch.inference_mode()
def classify(model: torch.nn.Module, dataset: DSCreator, device: torch.device, together: bool = False) -> Tensor:
    """Computes the logits of every text, in batches without padding; those of a text's windows are averaged.

    Args:
        model: maps ids, mask and segments to logits (B, C); put into evaluation mode meanwhile.
        dataset: the examples.
        device: the model's.
        together: all processes of a group have this dataset, and each computes its share; all get all logits.

    Returns:
        Logits, float32 on the CPU, shape (N, C), in the order of the texts.
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
    mine = (torch.cat(rows).cpu(), texts) if rows else None
    parts = [part for part in (all_gather_object(mine) if together else [mine]) if part is not None]
    if not parts:
        return torch.empty(0, 0)
    windows = torch.cat([logits for logits, _ in parts])  # (windows, C)
    text = torch.tensor([text for _, texts in parts for text in texts])  # (windows,)
    count = torch.bincount(text, minlength=len(dataset.text_labels)).unsqueeze(1)  # (N, 1)
    return torch.zeros(len(count), windows.shape[1]).index_add_(0, text, windows) / count  # (N, C)
