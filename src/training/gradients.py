"""The gradients of all processes, added up, and who then updates which parameters.

Between processes of one machine the state of the training lies in memory that all see. Each of them adds up the
gradients of its own part of the parameters and updates that, as in ZeRO (Rajbhandari et al. 2020, section 5), but with
nothing to send back. Between machines messages give everybody all sums, and everybody updates everything.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    asked_to_stop: float  # how many processes were
    norm: Tensor  # of all gradients, shape ()


@dataclass(frozen=True)
class CommonMemory:
    """Memory in which every process of one machine lays down what it has found for others."""

    gradients: Mapping[nn.Parameter, Tensor]  # (processes, ...); of a table only the rows met, one after the other
    met: Mapping[nn.Parameter, Tensor]  # of each table, (processes, V): not 0 where a row was met
    numbers: Tensor  # (processes, 5): loss, predictions, tokens, asked to stop, square of its own gradients' norm

    def write(self, parameter: nn.Parameter) -> None:
        """Lays down this process's gradient of a parameter."""
        gradient, place = _gradient(parameter), self.gradients[parameter][rank()]
        if parameter in self.met:
            rows = _rows_met(gradient)
            self.met[parameter][rank()] = rows
            ids = rows.nonzero().squeeze(1)
            torch.index_select(gradient, 0, ids, out=place[: len(ids)])
        else:
            place.copy_(gradient)

    def add_others(self, parameter: nn.Parameter) -> None:
        """Adds to the gradient of a parameter those of all other processes."""
        for process, found in enumerate(self.gradients[parameter]):
            if process == rank():
                continue
            if parameter in self.met:
                ids = self.met[parameter][process].nonzero().squeeze(1)
                _gradient(parameter).index_add_(0, ids, found[: len(ids)])
            else:
                _gradient(parameter).add_(found)


class GradientSum:
    """Adds up the gradients of all processes; alone, leaves them as they are.

    In common memory three waits keep the order of a step. Once all have laid down what they found, and so have done
    reading the parameters, each adds up its own part. Once all have told the norm of their part, parameters may change.
    Once all have changed theirs, in `clear`, they may be read.

    Of an embedding only the rows that some process has met are exchanged. In a small classifier these are few, and its
    token table is most of it; in pre-training they are all, for every token has a part in the loss.

    Args:
        state: of the training; where a parameter has no gradient here, another process may have one.

    Attributes:
        trained: the parameters whose gradients are added up.
        own: those that this process updates: all, until the first sum in common memory; from then on its part of them,
            and after a sum only these have gradients.
    """

    def __init__(self, state: TrainingState):
        self.state = state
        self.trained = self.own = state.trained
        embeddings = {part.weight for part in state.model.modules() if isinstance(part, nn.Embedding)}
        self.tables = [parameter for parameter in self.trained if parameter in embeddings]  # each (V, D)

    def __call__(self, loss: Tensor, predictions: float, tokens: float, asked_to_stop: bool) -> Sums:
        """Adds up what the processes hold; all of them must call it.

        Args:
            loss: summed over this process's predictions, shape ().
            predictions: how many these are.
            tokens: how many it has read for them.
            asked_to_stop: whether a signal has come to this process; by these sums all learn of it.

        Returns:
            The sums, and the norm of those of the gradients.
        """
        if world_size() == 1:
            return Sums(loss, predictions, tokens, asked_to_stop, gradient_norm(self.own))
        numbers = [loss.item(), predictions, tokens, asked_to_stop]
        if self._common is None:
            _add_up_by_messages(self.trained, self.tables)
            sums = add_up(*numbers)
            norm = gradient_norm(self.own)
        else:
            *sums, square = self._add_up_in_memory(self._common, numbers)
            norm = loss.new_tensor(square).sqrt()
        total, predictions, tokens, asked = sums
        return Sums(loss.new_tensor(total), predictions, tokens, asked, norm)

    def clear(self) -> None:
        """Forgets the gradients, and returns once all processes have updated what is theirs."""
        self.state.optimizer.zero_grad()
        if self._common is not None:
            wait_for_all()

    def _add_up_in_memory(self, common: CommonMemory, numbers: Sequence[float]) -> list[float]:
        """Adds to the gradients of its own parameters what others have found; forgets those of all others.

        Args:
            common: where the processes meet.
            numbers: what else to add up, four.

        Returns:
            The sums of the numbers, and the square of the norm of all gradients.
        """
        common.numbers[rank(), :-1] = torch.tensor(numbers)
        own = set(self.own)
        for parameter in self.trained:
            if parameter not in own:
                common.write(parameter)
                parameter.grad = None
        wait_for_all()
        for parameter in self.own:
            common.add_others(parameter)
        common.numbers[rank(), -1] = gradient_norm(self.own) ** 2
        wait_for_all()
        sums: list[float] = common.numbers.sum(dim=0).tolist()
        return sums

    @cached_property
    def _common(self) -> CommonMemory | None:
        """Memory that all processes see, made when first asked for; None: they cannot share any.

        All of them must ask for it at once. If they can, the training state moves there as well, and `own` becomes a
        part of the parameters.
        """
        if world_size() == 1 or any(parameter.device.type != "cpu" for parameter in self.trained):
            return None
        # The numbers come last, so that the large gradients begin where a cache line does.
        shapes = [*(parameter.shape for parameter in self.trained), *((len(table),) for table in self.tables), (5,)]
        sizes = [world_size() * math.prod(shape) for shape in shapes]
        memory = shared_memory(sum(sizes))
        self.state.make_moments()
        if memory is None or not move_to_shared_memory(self.state.tensors()):
            return None
        self.own = _shares(self.trained)[rank()]
        divided = zip(torch.split(memory, sizes), shapes, strict=True)
        parts = iter([part.view(world_size(), *shape) for part, shape in divided])
        return CommonMemory(
            {one: next(parts) for one in self.trained}, {table: next(parts) for table in self.tables}, next(parts)
        )


def _add_up_by_messages(parameters: Sequence[nn.Parameter], tables: Sequence[nn.Parameter]) -> None:
    """Adds up gradients by a message: whole ones, and of tables the rows that some process has met."""
    ids = dict(zip(tables, _ids_met_by_any(tables), strict=True))
    whole = [_gradient(parameter) for parameter in parameters]
    parts = [one[ids[parameter]] if parameter in ids else one for parameter, one in zip(parameters, whole, strict=True)]
    message = torch.cat([part.flatten() for part in parts])
    dist.all_reduce(message)
    sums = torch.split(message, [part.numel() for part in parts])
    for parameter, gradient, part, numbers in zip(parameters, whole, parts, sums, strict=True):
        gradient[ids.get(parameter, ...)] = numbers.view_as(part)


def _ids_met_by_any(tables: Sequence[nn.Parameter]) -> list[Tensor]:
    """Finds which rows of each table some process has met: int64, each of shape (rows met,)."""
    if not tables:
        return []
    met = torch.cat([_rows_met(_gradient(table)) for table in tables])  # (V of all tables,)
    dist.all_reduce(met, dist.ReduceOp.MAX)
    return [rows.nonzero().squeeze(1) for rows in torch.split(met, [len(table) for table in tables])]


def _rows_met(gradient: Tensor) -> Tensor:
    """Tells which rows of a table's gradient, (V, D), are more than zeros: uint8, not 0 there, shape (V,)."""
    return gradient.view(torch.uint8).amax(dim=1)  # the largest byte of a row is the quickest to find


def _gradient(parameter: nn.Parameter) -> Tensor:
    """Gives a parameter's gradient, zeros if it has none yet."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _shares(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Divides parameters among the processes: the largest first, each to who has the fewest numbers by then."""
    shares: list[list[nn.Parameter]] = [[] for _ in range(world_size())]
    for parameter in sorted(parameters, key=Tensor.numel, reverse=True):
        min(shares, key=lambda share: sum(map(Tensor.numel, share))).append(parameter)
    return shares
