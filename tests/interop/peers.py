"""Tiny random models of `transformers`, in odd, pairwise distinct sizes, and batches for them."""

import random
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from torch import Tensor, nn

from src.data.tokenizer import build_tokenizer
from src.interop import config as config_json
from src.utils.config import BertConfig, TokenizerConfig

transformers.utils.logging.disable_progress_bar()

B, T, V, D, H, F_, LAYERS, POSITIONS = 13, 7, 99, 32, 4, 37, 3, 11
LABELS = ("awful", "poor", "fair", "good", "great")
C = len(LABELS)
CLASSES = config_json.FAMILIES
FAMILIES = tuple(CLASSES)
SEQ_LEN = 9
HEADS = {**config_json.HEADS, "bare": "Model", "pretraining": "ForPreTraining"}

SENTENCES = [
    "The film is a slow, sweet and very funny one.",
    "A slow film; the plot isn't funny, it's sad.",
    "Sweet? No: sad, and the plot is very, very thin!",
    "This one can't be funny - a thin plot (and no film).",
    "It's no film, it is a sweet (if sad) plot!",
]


def their_config(family: str, **changes: Any) -> Any:
    shape: dict[str, Any] = {"vocab_size": V, "max_position_embeddings": POSITIONS, "attn_implementation": "eager"}
    shape |= {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    if family == "distilbert":
        shape |= {"dim": D, "n_layers": LAYERS, "n_heads": H, "hidden_dim": F_}
        shape |= {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
        return transformers.DistilBertConfig(**shape | changes)
    shape |= {"hidden_size": D, "num_hidden_layers": LAYERS, "num_attention_heads": H, "intermediate_size": F_}
    shape |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    if family == "roberta":
        # An epsilon large enough that a model which ignored it would fail.
        return transformers.RobertaConfig(**shape | {"type_vocab_size": 1, "layer_norm_eps": 1e-3} | changes)
    return transformers.BertConfig(**shape | changes)


def our_config(family: str) -> BertConfig:
    return config_json.from_hugging_face_config(their_config(family).to_dict(), Path("config.json"))[0]


def their_model(family: str, head: str, **changes: Any) -> Any:
    class_ = getattr(transformers, CLASSES[family] + HEADS[head])
    return randomized(class_(their_config(family, **changes)))


def save_theirs(folder: Path, family: str, head: str, **changes: Any) -> Path:
    """Writes a checkpoint as `transformers` does, with a tokenizer of words."""
    their_model(family, head, **changes).save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def randomized(module: nn.Module, seed: int = 0, std: float = 0.2) -> Any:
    """Draws every parameter, biases and LayerNorms too: zeros and ones would hide one that is swapped."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            scale = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            parameter.copy_(scale + std * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def padding_mask() -> Tensor:
    """1 at real tokens, of every number from 1 to T, (B, T)."""
    return (torch.arange(T) < (torch.arange(B) % T + 1)[:, None]).long()


def batch(family: str) -> dict[str, Tensor]:
    """Padded on the right with the family's id; segments where it has them."""
    generator = torch.Generator().manual_seed(1)
    mask = padding_mask()
    ids = torch.randint(5, V, (B, T), generator=generator).masked_fill(mask == 0, our_config(family).pad_token_id)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if family == "bert":
        inputs["token_type_ids"] = torch.randint(0, 2, (B, T), generator=generator)
    return inputs


@cache
def _tokenizer_json() -> str:
    text: str = build_tokenizer(SENTENCES, TokenizerConfig(min_frequency=1, seq_len=SEQ_LEN), V).to_str()
    return text


def tokenizer() -> Tokenizer:
    return Tokenizer.from_str(_tokenizer_json())


def random_strings(words: list[str], count: int, seed: int = 0) -> list[str]:
    """Words in several spellings, letters, scripts, marks, signs and control characters, in every mixture."""
    draw = random.Random(seed)
    blocks = [(0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x600), (0x900, 0xE00), (0x2000, 0x2070)]
    blocks += [(0x3040, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A4), (0xF900, 0xFB50), (0x1F300, 0x1F700), (0, 0x20)]
    blocks += [(0xE000, 0x110000)]
    strings = []
    for _ in range(count):
        pieces = []
        for _ in range(draw.randint(0, 25)):
            word, block = draw.choice(words), range(*draw.choice(blocks))
            characters = map(chr, draw.choices(block, k=5))
            pieces.append(draw.choice([word, word.upper(), f"{word} ", f" {word}", *characters]))
        strings.append("".join(pieces))
    return strings
