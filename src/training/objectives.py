"""What a training minimises: the loss of a batch, for classification and for masked language modelling."""

from collections.abc import Sequence
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from src.data.batching import Batch
from src.data.masking import NOT_MASKED
from src.data.word_dropout import drop_words
from src.training.distillation import distillation_loss
from src.utils.config import DistillationConfig

NO_LABEL = -1  # of a text that only the teacher has labelled


class TrainingData(Protocol):
    """Examples that can be divided into batches."""

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        """Divides all examples into batches, in an order drawn from seed and epoch; their number depends on neither."""

    def collate(self, indices: Sequence[int]) -> Batch:
        """Makes one batch."""


class Objective(Protocol):
    """A loss that is a sum over the predictions of a batch."""

    def summed_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Computes the loss of a batch on the model's device, in nats, shape ()."""

    def predictions(self, batch: Batch) -> int:
        """Counts what the loss sums over."""


class Classification:
    """Cross-entropy of the class of every sentence.

    Args:
        drop_probabilities: of each id to be replaced in training, float, shape (V,); None: no word dropout.
        unk_token_id: what word dropout puts in a token's place.
        label_smoothing: probability mass taken from the true label and spread over all labels.
        distillation: how to learn from a teacher, where the batches hold its logits.
    """

    def __init__(
        self,
        drop_probabilities: Tensor | None,
        unk_token_id: int,
        label_smoothing: float,
        distillation: DistillationConfig | None = None,
    ):
        self.drop_probabilities, self.unk_token_id = drop_probabilities, unk_token_id
        self.label_smoothing = label_smoothing
        self.distillation = distillation or DistillationConfig()

    def summed_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Computes the loss summed over the batch's sentences."""
        input_ids = batch["input_ids"]
        if self.drop_probabilities is not None:
            input_ids = drop_words(input_ids, self.drop_probabilities, self.unk_token_id)
        logits = model(input_ids, batch["attention_mask"], batch["token_type_ids"])  # (B, C)
        logits, labels = logits.float(), batch["labels"]
        hard = F.cross_entropy(
            logits, labels, label_smoothing=self.label_smoothing, ignore_index=NO_LABEL, reduction="sum"
        )
        if "teacher_logits" not in batch:
            return hard
        weight = self.distillation.hard_label_weight
        soft = distillation_loss(logits, batch["teacher_logits"], self.distillation.temperature)
        return weight * hard + (1 - weight) * soft

    def predictions(self, batch: Batch) -> int:
        """Counts the batch's sentences."""
        return len(batch["labels"])


class MaskedLanguageModelling:
    """Cross-entropy of every masked token (Devlin et al. 2019, section 3.1, task 1)."""

    def summed_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Computes the loss summed over the batch's masked tokens."""
        masked = batch["labels"] != NOT_MASKED  # (B, T)
        logits = model(batch["input_ids"], batch["attention_mask"], positions=masked)  # (N, V)
        return F.cross_entropy(logits.float(), batch["labels"][masked], reduction="sum")

    def predictions(self, batch: Batch) -> int:
        """Counts the batch's masked tokens."""
        return int((batch["labels"] != NOT_MASKED).sum())
