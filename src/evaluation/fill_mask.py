"""What a pre-trained model puts in the gaps of a text."""

from dataclasses import dataclass

import torch

from src.data.tokenizer import CHARACTERS_PER_TOKEN, SPELLINGS, special_token_ids
from src.interop.huggingface import MaskedLanguageModel
from src.utils.errors import CheckpointError, UsageError, printable

CPU = torch.device("cpu")


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
    """Names the most probable tokens of every gap.

    Args:
        masked_lm: the model; it is moved to `device`.
        text: with one or more [MASK].
        count: how many tokens to name for each gap.
        device: where to compute.

    Returns:
        The candidates, gap by gap, the most probable first.

    Raises:
        UsageError: the text holds no gap that the model can read.
        CheckpointError: the tokenizer has no [MASK].
    """
    tokenizer, model = masked_lm.tokenizer, masked_lm.model
    mask_id = special_token_ids(tokenizer).get("mask_token")
    if mask_id is None:
        raise CheckpointError("the tokenizer has no [MASK]; name a checkpoint that was pre-trained by masking")
    for spelling in SPELLINGS["mask_token"]:
        text = text.replace(spelling, str(tokenizer.id_to_token(mask_id)))
    if len(text) > (most := masked_lm.seq_len * CHARACTERS_PER_TOKEN):
        raise UsageError(f"--fill-mask: {len(text):,} characters, the model reads {most:,} at most; shorten the text")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair would stop `tokenizers`
    input_ids = torch.tensor([tokenizer.encode(text).ids], device=device)  # (1, T)
    gaps = input_ids.eq(mask_id)  # (1, T)
    if not gaps.any():
        raise UsageError(f"--fill-mask {text!r:.60} holds no [MASK] to fill; write [MASK] where a word is missing")
    if (length := input_ids.shape[1]) > masked_lm.seq_len:
        raise UsageError(f"--fill-mask: {length} tokens, but the model reads {masked_lm.seq_len}; shorten the text")
    logits = model.to(device)(input_ids, positions=gaps)[:, : tokenizer.get_vocab_size()]  # (gaps, V)
    probabilities, ids = logits.softmax(-1).topk(min(count, logits.shape[-1]))  # (gaps, count) each
    return [
        Candidate(gap, str(tokenizer.id_to_token(index)), probability)
        for gap, row in enumerate(zip(ids.tolist(), probabilities.tolist(), strict=True), start=1)
        for index, probability in zip(*row, strict=True)
    ]
