"""A model of odd, pairwise distinct sizes, so that a swapped axis cannot go unseen, and batches for it."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from src.utils.config import BertConfig

B, T, V, D, H, F_, LAYERS, POSITIONS, C = 13, 7, 99, 32, 4, 37, 3, 11, 5
EPS = 1e-12

CONFIG = BertConfig(
    vocab_size=V,
    hidden_size=D,
    num_hidden_layers=LAYERS,
    num_attention_heads=H,
    intermediate_size=F_,
    max_position_embeddings=POSITIONS,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    classifier_dropout=0.0,
)


def tiny_config(**changes: Any) -> BertConfig:
    return replace(CONFIG, **changes)


def randomized(module: nn.Module, seed: int = 0, std: float = 0.2) -> Any:
    """Draws every parameter, biases and LayerNorms too: zeros and ones would hide one that is left out."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            scale = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(scale + std * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def random_states(seed: int = 0) -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(seed))


def padded_lengths() -> Tensor:
    return torch.arange(B) % T + 1  # every length from 1 to T


def padding_mask() -> Tensor:
    """True at real tokens, (B, T)."""
    return torch.arange(T) < padded_lengths()[:, None]


def token_ids(seed: int = 0) -> Tensor:
    """Ids of real tokens only, (B, T)."""
    return torch.randint(5, V, (B, T), generator=torch.Generator().manual_seed(seed))


def segments(seed: int = 1) -> Tensor:
    return torch.randint(0, 2, (B, T), generator=torch.Generator().manual_seed(seed))
