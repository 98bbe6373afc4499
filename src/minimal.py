"""BERT on SST-2 on one page: tokenizer, batches, training loop, evaluation.

    python -m src.minimal            # classify sentences of SST-2; with --mlm, name masked tokens of them
    python -m src.minimal --data FOLDER      # SST-2 in a folder, or one with train.jsonl and validation.jsonl

Read it after src/model: src/train.py and src/pretrain.py do the same, faster, safer and a little better.
"""

import argparse
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from datasets import DatasetDict, load_dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from src.model.bert import BertForMaskedLM, BertForSequenceClassification
from src.utils.config import BertConfig

SPLITS = ("train", "validation")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNK, CLS, SEP, MASK = range(len(SPECIAL))
TINY = BertConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512)
Model = BertForSequenceClassification | BertForMaskedLM


def load_data(source: str) -> DatasetDict:
    """Loads the splits "train" and "validation" with the columns "sentence" and "label" (0: negative, 1: positive)."""
    files = {split: f"{source}/{split}.jsonl" for split in SPLITS}
    return load_dataset("json", data_files=files) if Path(files["train"]).exists() else load_dataset(source)


def build_tokenizer(sentences: list[str]) -> Tokenizer:
    """Builds a word-level tokenizer: lower case, split at punctuation, a word seen once becomes [UNK]."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(sentences, trainers.WordLevelTrainer(min_frequency=2, special_tokens=SPECIAL))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    tokenizer.enable_truncation(64)
    return tokenizer


def batches(examples: list[tuple[list[int], int]], batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields token ids (B, T), padded to the longest of the batch, and labels (B,)."""
    for start in range(0, len(examples), batch_size):
        ids, labels = zip(*examples[start : start + batch_size], strict=True)
        rows = [torch.tensor(row) for row in ids]
        yield pad_sequence(rows, batch_first=True, padding_value=PAD), torch.tensor(labels)


def mask_tokens(input_ids: Tensor, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Masks 15 % of tokens, 80 % by [MASK], 10 % by a random one (Devlin et al., 3.1): ids and which, both (B, T)."""
    draw = torch.rand(input_ids.shape).masked_fill(input_ids < len(SPECIAL), 1.0)  # (B, T)
    random_ids = torch.randint(len(SPECIAL), vocab_size, input_ids.shape)
    masked = random_ids.where(draw < 0.135, input_ids).masked_fill(draw < 0.12, MASK)
    return masked, draw < 0.15


def forward(model: Model, input_ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Runs the model: logits (B, C) and labels (B,); for N chosen tokens, logits (N, V) and their ids (N,)."""
    attention_mask = input_ids != PAD  # (B, T)
    if isinstance(model, BertForSequenceClassification):
        return model(input_ids, attention_mask), labels
    masked, chosen = mask_tokens(input_ids, model.config.vocab_size)
    return model(masked, attention_mask, target_mask=chosen), input_ids[chosen]


def main() -> None:
    """Trains, and prints loss and accuracy on the validation split after each epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="stanfordnlp/sst2")
    parser.add_argument("--mlm", action="store_true", help="masked language modelling in place of classification")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    options = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    data = load_data(options.data)
    tokenizer = build_tokenizer(list(data["train"]["sentence"]))
    train, validation = (
        [(tokenizer.encode(row["sentence"]).ids, row["label"]) for row in data[split]] for split in SPLITS
    )
    config = replace(TINY, vocab_size=tokenizer.get_vocab_size())
    model = BertForMaskedLM(config) if options.mlm else BertForSequenceClassification(config, num_labels=2)

    steps = options.epochs * -(-len(train) // options.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for epoch in range(1, options.epochs + 1):
        model.train()
        for batch in batches(random.sample(train, len(train)), options.batch_size):
            loss = F.cross_entropy(*forward(model, *batch))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.inference_mode():
            outputs = [forward(model, *batch) for batch in batches(validation, options.batch_size)]
            logits, targets = (torch.cat(tensors) for tensors in zip(*outputs, strict=True))
            loss, accuracy = F.cross_entropy(logits, targets), (logits.argmax(-1) == targets).float().mean()
        print(f"epoch {epoch}: validation loss {loss:.3f}, accuracy {100 * accuracy:.1f} % of {len(targets)}")


if __name__ == "__main__":
    main()
