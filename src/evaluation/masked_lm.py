"""How well a model names masked tokens, beside a baseline that has read nothing but the tokens' frequencies."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from src.data.dataset import to_device
from src.data.masking import NOT_MASKED
from src.data.packing import PackedRows, log_frequencies
from src.model.bert import BertForMaskedLM
from src.utils.distributed import all_reduce, split_between_processes

ROWS_PER_BATCH = 32
MOST_ROWS = 2048  # of 64 tokens each: a standard error of a third of a point


@dataclass(frozen=True)
class MaskedEvaluation:
    """The numbers of one model on held-out rows; accuracies are fractions in [0, 1], losses nats."""

    n: int  # masked tokens
    accuracy: float
    loss: float  # mean cross-entropy
    unigram_accuracy: float  # of always naming the most frequent token
    unigram_loss: float  # of naming every token with its frequency in the training text

    def curves(self) -> dict[str, float]:
        """Gives the numbers worth a curve."""
        return {"accuracy": self.accuracy, "loss": self.loss, "unigram_loss": self.unigram_loss}

    def tables(self) -> dict[str, Any]:
        """Gives the rest of the baseline."""
        return {"unigram_accuracy": self.unigram_accuracy}

    def as_dict(self) -> dict[str, Any]:
        """Gives the numbers in types that JSON knows."""
        return asdict(self)

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> "MaskedEvaluation":
        """Rebuilds an evaluation from what `as_dict` gave; other keys are ignored."""
        return cls(**{field.name: numbers[field.name] for field in fields(cls)})

    def as_text(self) -> str:
        """Formats the numbers for a console."""
        return (
            f"masked tokens named {100 * self.accuracy:.1f} %, loss {self.loss:.3f} nats (n = {self.n})\n"
            f"unigram baseline    {100 * self.unigram_accuracy:.1f} %, loss {self.unigram_loss:.3f} nats"
        )


@torch.inference_mode()
def evaluate_masked_lm(
    model: BertForMaskedLM, rows: PackedRows, counts: Tensor, device: torch.device
) -> MaskedEvaluation:
    """Predicts masked tokens of held-out rows, the same 2,048 at most, masked alike in every evaluation.

    Each process of a group predicts its share; all get the numbers of all.

    Args:
        model: put into evaluation mode meanwhile.
        rows: held-out text.
        counts: how often each id occurs in the training text, shape (V,).
        device: the model's.

    Returns:
        The numbers.
    """
    was_training = model.training
    model.eval()
    generator = torch.Generator().manual_seed(0)
    # Special tokens are never masked; counted, the ends of short documents would be the most frequent token.
    counts = counts.index_fill(0, torch.tensor(rows.masking.special_ids), 0)
    unigram = log_frequencies(counts).to(device)  # (V,)
    sums = torch.zeros(5, dtype=torch.float64)
    batches = rows.batches(ROWS_PER_BATCH, seed=0, epoch=0)[: MOST_ROWS // ROWS_PER_BATCH]
    # All batches are drawn everywhere, so that the masks do not depend on the number of processes.
    for batch in split_between_processes([rows.collate(starts, generator) for starts in batches]):
        batch = to_device(batch, device)
        masked = batch["labels"] != NOT_MASKED  # (B, T)
        true = batch["labels"][masked]  # (N,)
        logits = model(batch["input_ids"], positions=masked)  # (N, V)
        hits, unigram_hits = (true == logits.argmax(-1)).sum(), (true == unigram.argmax()).sum()
        loss, unigram_loss = F.cross_entropy(logits, true, reduction="sum"), -unigram[true].sum()
        sums += torch.stack([torch.tensor(len(true)).to(device), hits, loss, unigram_hits, unigram_loss]).cpu()
    model.train(was_training)
    n, *totals = all_reduce(*sums.tolist())
    return MaskedEvaluation(int(n), *(total / max(1, n) for total in totals))
