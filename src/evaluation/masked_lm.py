"""What a pre-trained model knows: how well it names masked tokens, and which it puts in the gaps of a text."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from src.data.dataset import to_device
from src.data.masking import NOT_MASKED
from src.data.packing import PackedRows, log_frequencies
from src.data.tokenizer import SPELLINGS, special_token_ids
from src.evaluation.metrics import Numbers
from src.interop.huggingface import MaskedLanguageModel
from src.model.bert import BertForMaskedLM
from src.utils.distributed import all_reduce, split_between_processes
from src.utils.errors import CheckpointError, UsageError, printable

ROWS_PER_BATCH = 32
MOST_ROWS = 2048  # of 64 tokens each: a standard error of a third of a point
CPU = torch.device("cpu")


@dataclass(frozen=True)
class MaskedEvaluation(Numbers):
    """The numbers of one model on held-out rows; accuracies are fractions in [0, 1], losses nats.

    The baseline has read nothing but the tokens' frequencies.
    """

    n: int  # masked tokens
    accuracy: float
    loss: float  # mean cross-entropy
    unigram_accuracy: float  # of always naming the most frequent token
    unigram_loss: float  # of naming every token with its frequency in the training text

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

    Each process of a group predicts its share; all get the numbers of all. The model is put into evaluation mode
    meanwhile. `counts`, of shape (V,), says how often each id occurs in the training text.
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
        logits = model(batch["input_ids"], target_mask=masked)  # (N, V)
        hits, unigram_hits = (true == logits.argmax(-1)).sum(), (true == unigram.argmax()).sum()
        loss, unigram_loss = F.cross_entropy(logits, true, reduction="sum"), -unigram[true].sum()
        sums += torch.stack([torch.tensor(len(true)).to(device), hits, loss, unigram_hits, unigram_loss]).cpu()
    model.train(was_training)
    n, *totals = all_reduce(*sums.tolist())
    return MaskedEvaluation(int(n), *(total / max(1, n) for total in totals))


@dataclass(frozen=True)
class Candidate:
    """A token that could fill a gap."""

    gap: int  # from 1, in the order of the text
    token: str
    probability: float

    def as_line(self) -> str:
        """Formats it for people: gap, probability and token between tabs."""
        return f"{self.gap}\t{self.probability:.4f}\t{printable(self.token)}"


@torch.inference_mode()
def fill_mask(masked_lm: MaskedLanguageModel, text: str, count: int = 5, device: torch.device = CPU) -> list[Candidate]:
    """Names the `count` most probable tokens of every [MASK] of a text, gap by gap."""
    tokenizer, model = masked_lm.tokenizer, masked_lm.model
    mask_id = special_token_ids(tokenizer).get("mask_token")
    if mask_id is None:
        raise CheckpointError("the tokenizer has no [MASK]; name a checkpoint that was pre-trained by masking")
    for spelling in SPELLINGS["mask_token"]:
        text = text.replace(spelling, str(tokenizer.id_to_token(mask_id)))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair would stop `tokenizers`
    input_ids = torch.tensor([tokenizer.encode(text).ids], device=device)  # (1, T)
    gaps = input_ids.eq(mask_id)  # (1, T)
    if not gaps.any():
        raise UsageError(f"--fill-mask {text!r:.60} holds no [MASK] to fill; write [MASK] where a word is missing")
    if (length := input_ids.shape[1]) > masked_lm.seq_len:
        raise UsageError(f"--fill-mask: {length} tokens, but the model reads {masked_lm.seq_len}; shorten the text")
    logits = model.to(device)(input_ids, target_mask=gaps)[:, : tokenizer.get_vocab_size()]  # (gaps, V)
    probabilities, ids = logits.softmax(-1).topk(min(count, logits.shape[-1]))  # (gaps, count) each
    return [
        Candidate(gap, str(tokenizer.id_to_token(index)), probability)
        for gap, row in enumerate(zip(ids.tolist(), probabilities.tolist(), strict=True), start=1)
        for index, probability in zip(*row, strict=True)
    ]
