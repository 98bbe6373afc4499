"""The gradients of all processes, added up, and who then updates which parameters.

Between processes of one machine the state of the training lies in memory that all see. Each of them adds up the
gradients of its own part of the parameters and updates that, as in ZeRO (Rajbhandari et al. 2020, section 5), but with
nothing to send back. Between machines messages give everybody all sums, and everybody updates everything.
"""

import math
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
    """Adds up the gradients of all processes; alone, leaves them as they are.

    In common memory three waits keep the order of a step. Once all have written what they found for others, each adds
    up its own part. Once all have done that, and so are back from whatever they did since the last step, such as
    saving, parameters may change. Once all have changed theirs, in `clear`, they may be read.

    Of an embedding only the rows that some process has met are exchanged. In a small classifier these are few, and its
    token table is most of it; in pre-training they are all, for every token has a part in the loss.

    Args:
        state: of the training; where a parameter has no gradient here, another process may have one.

    Attributes:
        trained: the parameters whose gradients are added up.
        own: those that this process has to update; after a sum no others have gradients.
    """

    def __init__(self, state: TrainingState):
        self.state = state
        self.trained = self.own = state.trained
        embeddings = {part.weight for part in state.model.modules() if isinstance(part, nn.Embedding)}
        self.tables = [parameter for parameter in self.trained if parameter in embeddings]  # each (V, D)

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
        if self._room is None:
            _add_up_by_messages(list(parts.values()))
        else:
            self._add_up_in_memory(self._room, parts)
        for table, ids in met.items():
            if table.grad is not None:
                table.grad[ids] = parts[table]
        square = gradient_norm(self.own).item() ** 2
        total, predictions, tokens, square = add_up(loss.item(), predictions, tokens, square)
        if self._room is None:  # each has told the square of the whole
            square /= world_size()
        return Sums(loss.new_tensor(total), predictions, tokens, loss.new_tensor(math.sqrt(square)))

    def clear(self) -> None:
        """Forgets the gradients, and returns once all processes have updated what is theirs."""
        self.state.optimizer.zero_grad()
        if self._room is not None:
            wait_for_all()

    def _add_up_in_memory(self, room: Mapping[nn.Parameter, Tensor], parts: Mapping[nn.Parameter, Tensor]) -> None:
        """Adds to the gradients of its own parameters what others have found; forgets those of all others."""
        own = set(self.own)
        for parameter, part in parts.items():
            if parameter not in own:
                room[parameter][rank(), : part.numel()] = part.flatten()
                parameter.grad = None
        wait_for_all()
        for parameter in self.own:
            part = parts[parameter]
            for process in range(world_size()):
                if process != rank():
                    part.add_(room[parameter][process, : part.numel()].view_as(part))

    @cached_property
    def _room(self) -> dict[nn.Parameter, Tensor] | None:
        """For each parameter memory that all processes see, shape (processes, numbers); None: they cannot share any.

        All processes must ask for it at once. If they can, the training state moves there as well.
        """
        if world_size() == 1 or any(parameter.device.type != "cpu" for parameter in self.trained):
            return None
        sizes = [world_size() * parameter.numel() for parameter in self.trained]
        memory = shared_memory(sum(sizes))
        self.state.make_moments()
        if memory is None or not move_to_shared_memory(self.state.tensors()):
            return None
        self.own = _shares(self.trained)[rank()]
        rooms = (numbers.view(world_size(), -1) for numbers in torch.split(memory, sizes))
        return dict(zip(self.trained, rooms, strict=True))


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
    # The largest byte of a row is the quickest to find; it is 0 where all numbers are.
    met = torch.cat([table.view(torch.uint8).amax(dim=1) for table in tables])  # (V of all tables,)
    dist.all_reduce(met, dist.ReduceOp.MAX)
    return [rows.nonzero().squeeze(1) for rows in torch.split(met, [len(table) for table in tables])]


def _shares(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Divides parameters among the processes: the largest first, each to who has the fewest numbers by then."""
    shares: list[list[nn.Parameter]] = [[] for _ in range(world_size())]
    for parameter in sorted(parameters, key=Tensor.numel, reverse=True):
        min(shares, key=lambda share: sum(map(Tensor.numel, share))).append(parameter)
    return shares
