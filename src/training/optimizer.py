"""AdamW as BERT uses it: decay on matrices only, clipped gradients, warm-up, then a straight line down to zero."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from src.model.bert import BertForMaskedLM, BertForSequenceClassification
from src.utils.config import OptimizerConfig


def build_optimizer(
    model: BertForSequenceClassification | BertForMaskedLM, config: OptimizerConfig
) -> torch.optim.AdamW:
    """Builds AdamW (Loshchilov & Hutter 2019) with decoupled decay on matrices and embeddings only.

    Args:
        model: its trainable parameters are optimised; biases and LayerNorm (one-dimensional) are not decayed.
        config: rates and coefficients.

    Returns:
        The optimizer; its learning rates are set anew before every step.
    """
    depth = model.config.num_hidden_layers
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.ndim >= 2 else 0.0
            scale = config.layer_decay ** (depth + 1 - _height(name, depth))
            groups.setdefault((decay, scale), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": members, "weight_decay": decay, "scale": scale} for (decay, scale), members in groups.items()],
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        fused=True,
    )


def _height(name: str, depth: int) -> int:
    """Embeddings are at height 0, layer i at i + 1, the head above all layers."""
    if name.startswith("bert.embedding."):
        return 0
    layer = re.match(r"bert\.encoder\.layers\.(\d+)\.", name)
    return depth + 1 if layer is None else int(layer[1]) + 1


def learning_rate_at(step: int, total_steps: int, peak: float, warmup_ratio: float) -> float:
    """Computes the learning rate of one step: a rise from 0 to the peak, then a linear fall to 0.

    Args:
        step: number of the step, from 1.
        total_steps: number of the last step, where the rate would next be 0.
        peak: the highest rate.
        warmup_ratio: fraction of the steps in which it rises.

    Returns:
        The rate; above 0 in every step.
    """
    warmup_steps = max(1, round(warmup_ratio * total_steps))
    if step <= warmup_steps:
        return peak * step / warmup_steps
    return peak * (total_steps - step + 1) / (total_steps - warmup_steps + 1)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Sets the learning rate of every parameter group; lower layers' groups have a share of it."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["scale"]


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Computes the Euclidean norm of all gradients together.

    On a CPU as the norm of the norms of rows: a norm of a whole tensor, as `get_total_norm` takes it, runs there on one
    thread and adds up all squares in float32, which for a table of 30,000 tokens leaves three right digits.

    Args:
        parameters: those without a gradient are left out.

    Returns:
        The norm, shape (); 0 of none.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if any(gradient.device.type != "cpu" for gradient in gradients):
        return torch.nn.utils.get_total_norm(gradients)
    rows = [torch.linalg.vector_norm(gradient, dim=-1).flatten() for gradient in gradients]
    return torch.linalg.vector_norm(torch.cat([torch.zeros(1), *rows]))


def clipped_step(optimizer: torch.optim.AdamW, norm: Tensor, max_norm: float, divisor: float = 1.0) -> None:
    """Steps as if all gradients were first divided, and multiplied with min(1, max_norm / norm) (Pascanu et al. 2013).

    Args:
        optimizer: a fused one, which divides gradients by its `grad_scale` while it reads them; to change them all
            before its step would take a third of the time of that step.
        norm: that of the divided gradients, finite, shape ().
        max_norm: the longest a step's gradients may be.
        divisor: what to divide by; for gradients of a sum of losses, the number of losses.
    """
    optimizer.grad_scale = divisor * (norm / max_norm).clamp(min=1.0)  # type: ignore[attr-defined]
    optimizer.step()
    optimizer.grad_scale = None  # type: ignore[attr-defined]


class ExponentialMovingAverage:
    """A moving average of a model's parameters, which generalises better than the last step's (Polyak & Juditsky 1992).

    The decay starts low, min(decay, (1 + t) / (10 + t)), so that the average forgets the random start.

    Args:
        parameters: those of the model.
        decay: weight of the old average in each update.
    """

    def __init__(self, parameters: Iterable[Tensor], decay: float):
        self.averages = {parameter: parameter.detach().clone() for parameter in parameters}
        self.decay = decay

    @torch.no_grad()
    def update(self, parameters: Sequence[Tensor], step: int) -> None:
        """Moves the averages of some parameters towards their values; `step` counts from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        if parameters:  # with many processes one may have none to update
            averages = [self.averages[parameter] for parameter in parameters]
            torch._foreach_lerp_(averages, [parameter.detach() for parameter in parameters], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Lends the averages to the model: inside the context it computes with them, afterwards it is as before."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        # Memory changes hands, no number moves: other processes may be computing with the same weights.
        for parameter, average in self.averages.items():
            self.averages[parameter], parameter.data = parameter.data, average
