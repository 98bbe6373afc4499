"""AdamW with decay on matrices only, a learning rate that warms up and falls linearly, and an average of weights."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from src.model.bert import BertForMaskedLM, BertForSequenceClassification
from src.utils.config import OptimizerConfig


def build_optimizer(
    model: BertForSequenceClassification | BertForMaskedLM, config: OptimizerConfig
) -> torch.optim.AdamW:
    """Builds AdamW (Loshchilov & Hutter 2019); a group's "layer_scale" multiplies the learning rate of its layer."""
    num_layers = model.config.num_hidden_layers
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.ndim >= 2 else 0.0  # else a bias, or of a LayerNorm
            scale = config.layer_decay ** (num_layers + 1 - _depth(name, num_layers))
            groups.setdefault((decay, scale), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": group, "weight_decay": decay, "layer_scale": scale} for (decay, scale), group in groups.items()],
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        fused=True,
    )


def _depth(name: str, num_layers: int) -> int:
    """Embeddings have depth 0, layer i has i + 1, the head comes after all layers."""
    if name.startswith("bert.embedding."):
        return 0
    layer = re.match(r"bert\.encoder\.layers\.(\d+)\.", name)
    return num_layers + 1 if layer is None else int(layer[1]) + 1


def learning_rate_at(step: int, total_steps: int, peak: float, warmup_ratio: float) -> float:
    """Computes the rate of a step, counted from 1: up to the peak in the first `warmup_ratio`, then linearly to 0."""
    warmup_steps = max(1, round(warmup_ratio * total_steps))
    if step <= warmup_steps:
        return peak * step / warmup_steps
    return peak * (total_steps - step + 1) / (total_steps - warmup_steps + 1)


def build_ema(model: nn.Module, decay: float) -> AveragedModel | None:
    """Builds a moving average of a model, which generalises better than its last step (Polyak & Juditsky 1992)."""
    if decay == 0:
        return None

    def average(averages: Sequence[Tensor], parameters: Sequence[Tensor], num_averaged: Tensor | int) -> None:
        n = int(num_averaged)  # at first the decay is lower, so that the average forgets the random start
        update = get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))  # type: ignore[no-untyped-call]
        update(averages, parameters, num_averaged)

    return AveragedModel(model, multi_avg_fn=average)
