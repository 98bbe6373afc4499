"""The gradients of all processes, added up, and who then updates which parameters.

Between processes of one machine the state of the training lies in memory that all see. Each of them adds up the
gradients of its own part of the parameters and updates that, as in ZeRO (Rajbhandari et al. 2020, section 5), but with
nothing to send back. Between machines messages give everybody all sums, and everybody updates everything.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from src.training.optimizer import gradient_norm
from src.training.state import TrainingState
from src.utils.distributed import add_up, rank, wait_for_all, world_size
from src.utils.shared_memory import move_to_shared_memory, shared_memory


class Sums(NamedTuple):
    """What all processes together have found in a step."""

    loss: Tensor  # shape ()
    predictions: float
    tokens: float
    norm: Tensor  # of all gradients, shape ()


class GradientSum:
    """Adds up the gradients of all processes in place; alone, leaves them as they are.

    Of an embedding only the rows that some process has met are exchanged: few, of the table that is most of a small
    classifier; all in pre-training, where every token has a part in the loss.

    Args:
        state: of the training; where a parameter has no gradient here, another process may have one.

    Attributes:
        own: the parameters that this process has to update; after a sum no others have gradients.
    """

    def __init__(self, state: TrainingState):
        self.state = state
        self.trained = [parameter for parameter in state.model.parameters() if parameter.requires_grad]
        embeddings = {part.weight for part in state.model.modules() if isinstance(part, nn.Embedding)}
        self.tables = [parameter for parameter in self.trained if parameter in embeddings]  # each (V, D)
        self.own: Sequence[nn.Parameter] = self.trained

    def __call__(self, loss: Tensor, predictions: float, tokens: float) -> Sums:
        """Adds up what the processes hold; all of them must call it.

        Args:
            loss: summed over this process's predictions, shape ().
            predictions: how many these are.
            tokens: how many it has read for them.

        Returns:
            The sums, and the norm of those of the gradients.
        """
        if world_size() == 1:
            return Sums(loss, predictions, tokens, gradient_norm(self.own))
        gradients = {parameter: _gradient_or_zeros(parameter) for parameter in self.trained}
        met = dict(zip(self.tables, _rows_met([gradients[table] for table in self.tables]), strict=True))
        parts = {one: gradient[met[one]] if one in met else gradient for one, gradient in gradients.items()}
        if self._messages is None:
            _add_up_by_messages(list(parts.values()))
        else:
            self._add_up_in_memory(self._messages, parts)
        for table, ids in met.items():
            gradients[table][ids] = parts[table]
        norm = gradient_norm(self.own)
        total, predictions, tokens, square = add_up(loss.item(), predictions, tokens, norm.item() ** 2)
        if self._messages is not None:  # the norm so far is that of the own part
            norm = norm.new_tensor(square).sqrt()
        return Sums(loss.new_tensor(total), predictions, tokens, norm)

    def clear(self) -> None:
        """Forgets the gradients, and returns once all processes have updated what is theirs."""
        self.state.optimizer.zero_grad()
        if world_size() > 1 and self._messages is not None:
            wait_for_all()

    def _add_up_in_memory(self, messages: Tensor, parts: Mapping[nn.Parameter, Tensor]) -> None:
        """Adds to the gradients of its own parameters what others have found of them, and forgets all other gradients.

        One wait is enough: to learn the norm all wait again, so that nobody writes the next message before everybody
        has read this one.
        """
        own = set(self.own)
        sizes = [part.numel() for part in parts.values()]
        places = [torch.split(message[: sum(sizes)], sizes) for message in messages]  # of each process
        for (parameter, part), place in zip(parts.items(), places[rank()], strict=True):
            if parameter not in own:
                place.copy_(part.flatten())
                parameter.grad = None
        wait_for_all()
        for places_of_another in places[: rank()] + places[rank() + 1 :]:
            for (parameter, part), place in zip(parts.items(), places_of_another, strict=True):
                if parameter in own:
                    part.add_(place.view_as(part))

    @cached_property
    def _messages(self) -> Tensor | None:
        """A row of memory for the message of each process, seen by all; None: they cannot share memory.

        All processes must ask for it at once. If they can, the training state moves there as well.
        """
        if any(parameter.device.type != "cpu" for parameter in self.trained):
            return None
        numbers = sum(parameter.numel() for parameter in self.trained)
        messages = shared_memory(world_size() * numbers)
        if messages is None or not move_to_shared_memory(self.state.changing()):
            return None
        self.own = _shares(self.trained)[rank()]
        return messages.view(world_size(), numbers)


def _add_up_by_messages(parts: Sequence[Tensor]) -> None:
    message = torch.cat([part.flatten() for part in parts])
    dist.all_reduce(message)
    for part, numbers in zip(parts, torch.split(message, [part.numel() for part in parts]), strict=True):
        part.copy_(numbers.view_as(part))


def _gradient_or_zeros(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _rows_met(tables: Sequence[Tensor]) -> list[Tensor]:
    """Finds which rows of each table some process has met: int64, each of shape (tokens met,)."""
    if not tables:
        return []
    # The largest byte of a row is the quickest to find; of all numbers but 0 some byte is above it, of NaN too.
    met = torch.cat([table.view(torch.uint8).amax(dim=1) for table in tables])  # (V of all tables,)
    dist.all_reduce(met, dist.ReduceOp.MAX)
    return [rows.nonzero().squeeze(1) for rows in torch.split(met, [len(table) for table in tables])]


def _shares(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Divides parameters among the processes, about as many numbers to each: the largest first, to who has least."""
    shares: list[list[nn.Parameter]] = [[] for _ in range(world_size())]
    for parameter in sorted(parameters, key=Tensor.numel, reverse=True):
        min(shares, key=lambda share: sum(map(Tensor.numel, share))).append(parameter)
    return shares
