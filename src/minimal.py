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

from src.model.bert import BertForMaskedLM, BertForSequenceClassification
from src.utils.config import BertConfig

PAD, UNK, CLS, SEP, MASK = range(5)
Model = BertForSequenceClassification | BertForMaskedLM
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
IGNORE = -100  # the label of a token that is not to be predicted
TINY = BertConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512)


def load_data(source: str) -> DatasetDict:
    """Loads the splits "train" and "validation" with the columns "sentence" and "label" (0: negative, 1: positive)."""
    files = {split: f"{source}/{split}.jsonl" for split in ("train", "validation")}
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


def batches(ids: list[list[int]], labels: list[int], batch_size: int, shuffle: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields token ids (B, T), padded to the longest of the batch, and labels (B,)."""
    order = random.sample(range(len(ids)), len(ids)) if shuffle else list(range(len(ids)))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        tensors = [torch.tensor(ids[row]) for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=PAD)
        yield padded, torch.tensor([labels[row] for row in rows])


def mask_tokens(input_ids: Tensor, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Chooses 15 % of the tokens to predict; of these 80 % become [MASK], 10 % a random token (Devlin et al., 3.1)."""
    draw = torch.rand(input_ids.shape)  # (B, T): chosen where below 0.15
    chosen = (draw < 0.15) & (input_ids >= len(SPECIAL))
    labels = input_ids.where(chosen, IGNORE)
    masked = input_ids.masked_fill(chosen & (draw < 0.12), MASK)
    random_ids = torch.randint(len(SPECIAL), vocab_size, input_ids.shape)
    return random_ids.where(chosen & (draw >= 0.12) & (draw < 0.135), masked), labels


def forward(model: Model, input_ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Runs the model: logits (B, C) and labels (B,); for masked tokens (B * T, V) and (B * T,)."""
    attention_mask = input_ids != PAD  # (B, T)
    if isinstance(model, BertForSequenceClassification):
        return model(input_ids, attention_mask), labels
    masked, targets = mask_tokens(input_ids, model.config.vocab_size)
    return model(masked, attention_mask).flatten(0, 1), targets.flatten()


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
    ids = {split: [e.ids for e in tokenizer.encode_batch(list(data[split]["sentence"]))] for split in data}
    labels = {split: list(data[split]["label"]) for split in data}
    config = replace(TINY, vocab_size=tokenizer.get_vocab_size())
    model = BertForMaskedLM(config) if options.mlm else BertForSequenceClassification(config, num_labels=2)

    steps = options.epochs * -(-len(ids["train"]) // options.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for epoch in range(1, options.epochs + 1):
        model.train()
        for batch in batches(ids["train"], labels["train"], options.batch_size, shuffle=True):
            logits, targets = forward(model, *batch)
            loss = F.cross_entropy(logits, targets, ignore_index=IGNORE)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        model.eval()
        loss_sum, hits, count = 0.0, 0, 0
        with torch.inference_mode():
            for batch in batches(ids["validation"], labels["validation"], options.batch_size, shuffle=False):
                logits, targets = forward(model, *batch)
                loss_sum += F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum").item()
                hits += int((logits.argmax(-1) == targets).sum())
                count += int((targets != IGNORE).sum())
        print(f"epoch {epoch}: validation loss {loss_sum / count:.3f}, accuracy {100 * hits / count:.1f} % of {count}")


if __name__ == "__main__":
    main()
