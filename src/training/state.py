"""What a run needs to go on exactly where it stopped: model, optimizer, average, random numbers, position."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from src.training.optimizer import ExponentialMovingAverage
from src.utils.distributed import gather, rank, world_size
from src.utils.errors import CheckpointError, notice
from src.utils.folder import read_json, write_json

TENSORS, PROGRESS = "training_state.safetensors", "training_state.json"


@dataclass
class Progress:
    """Where a training stands."""

    step: int = 0  # optimizer steps done
    epoch: int = 0  # epochs ended
    step_in_epoch: int = 0  # optimizer steps done in the epoch under way
    skipped_in_a_row: int = 0  # steps whose loss or gradient was not finite
    best_accuracy: float = -1.0
    best_epoch: int = 0
    training_seconds: float = 0.0  # of optimizer steps; before them of making a classifier, its tokenizer and datasets
    tracker_run_id: str | None = None
    # Sums over the steps since training was last logged, and where training_seconds stood then.
    window_loss: float = 0.0
    window_predictions: int = 0
    window_tokens: int = 0
    window_begin: float = 0.0


@dataclass
class TrainingState:
    """The objects whose content a checkpoint holds; loading fills them in place."""

    model: nn.Module
    optimizer: torch.optim.AdamW
    average: ExponentialMovingAverage | None
    progress: Progress

    def as_delivered(self) -> AbstractContextManager[None]:
        """Returns a context in which the model holds the averaged weights, if there is an average."""
        return nullcontext() if self.average is None else self.average.applied()

    @property
    def trained(self) -> list[nn.Parameter]:
        """The parameters that are not frozen."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def make_moments(self) -> None:
        """Makes the moments, all 0, that AdamW would make in its first step."""
        for parameter in self.trained:
            if not self.optimizer.state[parameter]:
                moments = {kind: torch.zeros_like(parameter) for kind in ("exp_avg", "exp_avg_sq")}
                self.optimizer.state[parameter] = {"step": torch.zeros((), device=parameter.device)} | moments

    def tensors(self) -> list[Tensor]:
        """Returns what a step changes: trained parameters, what AdamW keeps of each, averages where there are any.

        AdamW keeps nothing before its first step or `make_moments`.
        """
        moments = [tensor for parameter in self.trained for tensor in self.optimizer.state[parameter].values()]
        averages = [] if self.average is None else self.average.averages.values()
        return [*self.trained, *moments, *averages]

    def save(self, folder: Path, random_states: dict[str, Tensor]) -> None:
        """Writes the state into an existing folder, as safetensors and JSON: nothing in it can execute.

        How many processes and threads compute decides over the last bits of a sum, so they are noted as well.

        Args:
            folder: where to.
            random_states: of all processes, from `gather_random_states`.
        """
        save_file(self._tensors(random_states), folder / TENSORS)
        write_json(folder / PROGRESS, asdict(self.progress) | _computed_by())

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
                for name, parameter in parameters.items():
                    if parameter in self.average.averages:
                        # A checkpoint without an average of this parameter: one begins with its weights.
                        average = tensors.get(f"average.{name}", tensors[f"model.{name}"])
                        self.average.averages[parameter].copy_(average)
        progress = read_json(folder / PROGRESS)
        for kind, now in _computed_by().items():
            if (before := progress.pop(kind, now)) != now:
                notice(f"{kind:<12}{before} began this, {now} go on: just as well, but no longer bit for bit")
        self.progress.__dict__.update(progress)
        _set_random_state(tensors, self.progress.step)

    def _tensors(self, random_states: dict[str, Tensor]) -> dict[str, Tensor]:
        parameters = dict(self.model.named_parameters())
        tensors = {f"model.{name}": parameter.detach() for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            moments = self.optimizer.state.get(parameter, {})
            tensors |= {f"optimizer.{kind}.{name}": tensor for kind, tensor in moments.items()}
        if self.average is not None:
            averages = self.average.averages
            tensors |= {f"average.{name}": averages[one] for name, one in parameters.items() if one in averages}
        tensors |= random_states
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


def gather_random_states() -> dict[str, Tensor]:
    """Gives the states of PyTorch's random numbers in every process; every process must call it.

    Returns:
        "random.cpu", and "random.cuda" where there is CUDA, of the first process; those of the others with their number
        behind it.
    """
    own = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        own["random.cuda"] = torch.cuda.get_rng_state()
    return {
        _of_process(name, number): state for number, states in enumerate(gather(own)) for name, state in states.items()
    }


def _of_process(name: str, number: int) -> str:
    return name if number == 0 else f"{name}.{number}"


def _computed_by() -> dict[str, int]:
    return {"processes": world_size(), "threads": torch.get_num_threads()}


def _set_random_state(tensors: dict[str, Tensor], step: int) -> None:
    own = {name: tensors.get(_of_process(name, rank())) for name in ("random.cpu", "random.cuda")}
    if own["random.cpu"] is None:
        torch.manual_seed(torch.initial_seed() + step)  # a process that is new
        return
    torch.set_rng_state(own["random.cpu"])
    if own["random.cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(own["random.cuda"])
