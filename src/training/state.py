"""What a run needs to go on exactly where it stopped: model, optimizer, average, random numbers, position."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from src.training.optimizer import ExponentialMovingAverage
from src.utils.errors import CheckpointError
from src.utils.folder import read_json, write_json

TENSORS, PROGRESS = "training_state.safetensors", "training_state.json"


@dataclass
class Progress:
    """Where a training stands."""

    step: int = 0  # optimizer steps done
    epoch: int = 0  # epochs completed
    step_in_epoch: int = 0  # optimizer steps done in the epoch under way
    skipped_in_a_row: int = 0  # steps whose loss or gradient was not finite
    best_accuracy: float = -1.0
    best_epoch: int = 0
    training_seconds: float = 0.0  # of optimizer steps, and of a classifier's tokenizing before them
    tracker_run_id: str | None = None


@dataclass
class TrainingState:
    """The objects whose content a checkpoint holds; loading fills them in place."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: ExponentialMovingAverage | None
    progress: Progress

    def as_delivered(self) -> AbstractContextManager[None]:
        """Returns a context in which the model holds the averaged weights, if there is an average."""
        return nullcontext() if self.average is None else self.average.applied()

    def save(self, folder: Path) -> None:
        """Writes the state into an existing folder, as safetensors and JSON: nothing in it can execute."""
        save_file(self._tensors(), folder / TENSORS)
        write_json(folder / PROGRESS, asdict(self.progress))

    def load(self, folder: Path) -> None:
        """Restores the state in place.

        Raises:
            CheckpointError: the files are missing, damaged or of another model.
        """
        try:
            tensors = load_file(folder / TENSORS)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{folder / TENSORS} cannot be read ({error}); resume from an older one") from None
        parameters = dict(self.model.named_parameters())
        if not _fit(parameters, tensors):
            raise CheckpointError(
                f"{folder / TENSORS} belongs to another model; resume with that run's settings and data"
            )
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"model.{name}"])
                self._load_moments(name, parameter, tensors)
            if self.average is not None:
                for name, average in zip(parameters, self.average.averages, strict=True):
                    average.copy_(tensors[f"average.{name}"])
        _set_random_state(tensors)
        self.progress.__dict__.update(read_json(folder / PROGRESS))

    def _tensors(self) -> dict[str, Tensor]:
        parameters = dict(self.model.named_parameters())
        tensors = {f"model.{name}": parameter.detach() for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            moments = self.optimizer.state.get(parameter, {})
            tensors |= {f"optimizer.{kind}.{name}": tensor for kind, tensor in moments.items()}
        if self.average is not None:
            averages = zip(parameters, self.average.averages, strict=True)
            tensors |= {f"average.{name}": average for name, average in averages}
        tensors |= {f"random.{name}": state for name, state in _random_state().items()}
        return {name: tensor.cpu().clone() for name, tensor in tensors.items()}

    def _load_moments(self, name: str, parameter: nn.Parameter, tensors: dict[str, Tensor]) -> None:
        kinds = ("step", "exp_avg", "exp_avg_sq")
        if f"optimizer.step.{name}" in tensors:
            self.optimizer.state[parameter] = {
                kind: tensors[f"optimizer.{kind}.{name}"].to(parameter.device) for kind in kinds
            }


def _fit(parameters: dict[str, nn.Parameter], tensors: dict[str, Tensor]) -> bool:
    saved = {name: tensors.get(f"model.{name}") for name in parameters}
    return all(tensor is not None and tensor.shape == parameters[name].shape for name, tensor in saved.items())


def _random_state() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_state(tensors: dict[str, Tensor]) -> None:
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
