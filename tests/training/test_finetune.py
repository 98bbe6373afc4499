"""What fine-tuning asks of training: memory that runs out, frozen layers, layer-wise rates, early stopping."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.data.batching import Batch
from src.evaluation.metrics import Evaluation
from src.interop.huggingface import load_classifier
from src.training.optimizer import build_optimizer
from src.training.session import Session
from src.training.setup import ClassifierSetup, freeze
from src.utils.errors import UsageError
from src.utils.folder import read_json
from tests.training.tiny_training import (
    ALL_RANDOMNESS,
    NO_DROPOUT,
    ClassifierTrainer,
    begin,
    go_on,
    settings,
    setup,
    weights,
)

EXACT: dict[str, Any] = {**NO_DROPOUT, "max_grad_norm": 1e9}


def step_gradients(trainer: ClassifierTrainer, batches: list[Batch]) -> dict[str, Tensor]:
    """Takes a step; AdamW's first mean is (1 - beta1) times the gradients."""
    trainer.training_step(batches)
    state = trainer.state.optimizer.state
    named = {name: parameter for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    return {name: state[parameter]["exp_avg"] / (1 - 0.9) for name, parameter in named.items()}


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=1e-6)
    assert max(float(tensor.abs().max()) for tensor in wanted.values()) > 1e-2


# Out of memory


class Memory:
    """A model's memory: forward or backward fails in the calls that are named, or for more sentences than fit."""

    def __init__(self, model: nn.Module, calls: tuple[int, ...] = (), most: int = 10**9):
        self.calls, self.most, self.sizes = calls, most, list[int]()
        model.register_forward_pre_hook(self.fill)

    def fill(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.sizes.append(len(inputs[0]))
        if len(self.sizes) in self.calls or self.sizes[-1] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")


def batches_of(trainer: ClassifierTrainer, *parts: range) -> list[Batch]:
    return [trainer.dataset.collate(part) for part in parts]


PARTS = (range(7), range(7, 8), range(8, 13))


@pytest.mark.parametrize("calls", [(1,), (3,), (1, 2), (2, 5), (1, 2, 3)])
def test_a_step_that_ran_out_of_memory_has_the_gradients_of_one_that_did_not(calls: tuple[int, ...]) -> None:
    small, large = (setup(**EXACT).trainer for _ in range(2))
    wanted = step_gradients(large, batches_of(large, *PARTS))
    Memory(small.model, calls)
    assert_close(step_gradients(small, batches_of(small, *PARTS)), wanted)
    assert small.halvings == len(calls)
    # And the next one, which begins in parts.
    reports = [trainer.training_step(batches_of(trainer, *PARTS)) for trainer in (small, large)]
    assert reports[0].loss == pytest.approx(reports[1].loss, abs=1e-5)
    assert (reports[0].tokens, reports[0].predictions) == (reports[1].tokens, reports[1].predictions)


def test_memory_that_runs_out_on_the_way_back_is_met_as_well() -> None:
    small, large = (setup(**EXACT).trainer for _ in range(2))
    wanted = step_gradients(large, batches_of(large, *PARTS))
    failures = [False, True, False]

    def fail(gradient: Tensor) -> None:
        if failures and failures.pop(0):
            raise torch.OutOfMemoryError("CUDA out of memory")

    # Gradients of the layers above are there already when this one fails.
    small.model.bert.embedding.norm.weight.register_hook(fail)  # type: ignore[no-untyped-call]
    assert_close(step_gradients(small, batches_of(small, *PARTS)), wanted)
    assert small.halvings == 1


def test_batches_are_halved_as_often_as_memory_ran_out_and_stay_so(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = setup(**EXACT).trainer
    memory = Memory(trainer.model, most=2)
    trainer.training_step(batches_of(trainer, range(8)))
    assert memory.sizes == [8, 4, 2, 2, 2, 2]
    memory.sizes.clear()
    trainer.training_step(batches_of(trainer, range(8), range(8, 11)))
    assert memory.sizes == [2, 2, 2, 2, 1, 1, 1]
    notices = [line for line in capsys.readouterr().err.splitlines() if line.startswith("out of memory")]
    assert [re.findall(r"into (\d+) parts", line) for line in notices] == [["2"], ["4"]]


def test_a_single_sentence_that_does_not_fit_is_an_error() -> None:
    trainer = setup(**EXACT).trainer
    memory = Memory(trainer.model, most=0)
    with pytest.raises(torch.OutOfMemoryError):
        trainer.training_step(batches_of(trainer, range(5)))
    assert memory.sizes == [5, 3, 2, 1]


def test_an_epoch_survives_memory_running_out_with_dropout_and_accumulation() -> None:
    trainer = setup(**ALL_RANDOMNESS).trainer
    Memory(trainer.model, most=3)
    sentences = list[int]()
    trainer.train_epoch(lambda report: sentences.append(report.predictions))
    assert sum(sentences) == 36 and trainer.halvings in (1, 2, 3)


# Gradient checkpointing


@pytest.mark.parametrize("options", [{}, {"freeze_layers": 2}], ids=["all", "frozen"])
def test_gradient_checkpointing_changes_neither_loss_nor_gradients(options: dict[str, Any]) -> None:
    plain, checkpointed = (
        setup(**EXACT, **options, num_hidden_layers=3, gradient_checkpointing=on).trainer for on in (False, True)
    )
    losses = [trainer.training_step(batches_of(trainer, *PARTS)).loss for trainer in (plain, checkpointed)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    fresh = (setup(**EXACT, **options, num_hidden_layers=3, gradient_checkpointing=on).trainer for on in (True, False))
    assert_close(*(step_gradients(trainer, batches_of(trainer, *PARTS)) for trainer in fresh))


def test_gradient_checkpointing_draws_the_same_dropout_on_the_way_back() -> None:
    gradients = []
    for on in (False, True):
        trainer = setup(max_grad_norm=1e9, num_hidden_layers=3, gradient_checkpointing=on).trainer
        torch.manual_seed(3)
        gradients.append(step_gradients(trainer, batches_of(trainer, *PARTS)))
    assert_close(*gradients)


@pytest.mark.parametrize(("on", "calls"), [(False, 3), (True, 6)])
def test_gradient_checkpointing_computes_every_layer_twice(on: bool, calls: int) -> None:
    trainer, counted = setup(num_hidden_layers=3, gradient_checkpointing=on).trainer, list[str]()
    for layer in trainer.model.bert.encoder.layers:
        layer.get_submodule("feed_forward").register_forward_hook(lambda *_: counted.append(""))
    trainer.training_step(batches_of(trainer, range(5)))
    assert len(counted) == calls


# Freezing


def frozen_names(parts: ClassifierSetup) -> set[str]:
    """What is frozen: "embedding", numbers of layers, "pooler", "classifier"."""
    kept = {name for name, parameter in parts.classifier.model.named_parameters() if not parameter.requires_grad}
    return {re.sub(r"^(bert\.)?(encoder\.layers\.)?(\w+)\..*", r"\3", name) for name in kept}


@pytest.mark.parametrize(
    ("layers", "frozen"),
    [
        (None, set()),
        (0, {"embedding"}),
        (1, {"embedding", "0"}),
        (3, {"embedding", "0", "1", "2"}),
        ("all", {"embedding", "0", "1", "2"}),
    ],
)
def test_the_embeddings_and_the_lowest_layers_are_frozen(layers: Any, frozen: set[str]) -> None:
    parts = setup(num_hidden_layers=3, freeze_layers=layers)
    assert frozen_names(parts) == frozen
    # All of a layer, or nothing of it.
    trained = {name for name, parameter in parts.classifier.model.named_parameters() if parameter.requires_grad}
    assert not any(re.match(rf"bert\.(encoder\.layers\.)?({'|'.join(frozen) or '-'})\.", name) for name in trained)


def test_more_layers_than_there_are_cannot_be_frozen() -> None:
    model = setup(num_hidden_layers=2).classifier.model
    with pytest.raises(UsageError, match="freeze_layers = 3, but the model has 2 layers"):
        freeze(model, 3)
    assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(UsageError, match="freeze_layers = -1 must not be negative"):
        settings(freeze_layers=-1)


@pytest.mark.parametrize("options", [{}, ALL_RANDOMNESS], ids=["plain", "average"])
@pytest.mark.parametrize("layers", [0, 1, "all"])
def test_what_is_frozen_is_not_optimised_and_does_not_change(layers: Any, options: dict[str, Any]) -> None:
    parts = setup(num_hidden_layers=2, freeze_layers=layers, **options)
    model, before = parts.classifier.model, weights(parts)
    optimised = {id(parameter) for group in parts.trainer.state.optimizer.param_groups for parameter in group["params"]}
    parts.trainer.train_epoch(lambda report: None)
    with parts.trainer.state.as_delivered():
        after = weights(parts)
    for name, parameter in model.named_parameters():
        assert (id(parameter) in optimised) == parameter.requires_grad
        assert torch.equal(after[name], before[name]) != parameter.requires_grad, name


def test_a_frozen_run_is_resumed_exactly(tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_hidden_layers": 2, "freeze_layers": 1, "layer_decay": 0.5, **ALL_RANDOMNESS}
    begin(tmp_path / "whole", **options).run()
    session = begin(tmp_path / "parts", **options)
    session.trainer.train_epoch(lambda report: None)
    session._after_epoch()
    go_on(tmp_path / "parts", **options).run()
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert one == other


# Layer-wise learning rates


def test_every_layer_learns_at_a_share_of_the_rate_above() -> None:
    parts = setup(num_hidden_layers=3, layer_decay=0.5, learning_rate=0.8, warmup_ratio=0.0)
    trainer = parts.trainer
    report = trainer.training_step(batches_of(trainer, range(9)))
    assert report.learning_rate == pytest.approx(0.8)
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    rates: dict[str, set[float]] = {}
    for group in trainer.state.optimizer.param_groups:
        for parameter in group["params"]:
            part = re.sub(r"^(bert\.)?(encoder\.layers\.)?(\w+)\..*", r"\3", names[id(parameter)])
            rates.setdefault(part, set()).add(round(group["lr"], 9))
    assert rates == {
        "classifier": {0.8},
        "pooler": {0.8},
        "2": {0.4},
        "1": {0.2},
        "0": {0.1},
        "embedding": {0.05},
    }


def test_a_layer_decay_of_one_is_one_rate_for_all() -> None:
    parts = setup(num_hidden_layers=3)
    scales = {group["scale"] for group in parts.trainer.state.optimizer.param_groups}
    assert scales == {1.0}


def test_layer_decay_leaves_weight_decay_to_matrices() -> None:
    model = setup(num_hidden_layers=2).classifier.model
    optimizer = build_optimizer(model, settings(layer_decay=0.5, weight_decay=0.3).optimization)
    for group in optimizer.param_groups:
        assert {group["weight_decay"]} == {0.3 if parameter.ndim >= 2 else 0.0 for parameter in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_the_first_update_of_a_lower_layer_is_smaller_by_its_share() -> None:
    moved = {}
    for decay in (1.0, 0.5):
        parts = setup(**NO_DROPOUT, layer_decay=decay, weight_decay=0.0, warmup_ratio=0.0)
        before = weights(parts)
        parts.trainer.training_step(batches_of(parts.trainer, range(9)))
        moved[decay] = {name: tensor - before[name] for name, tensor in weights(parts).items()}
    for name, share in (("pooler.dense.weight", 1.0), ("bert.encoder.layers.0.feed_forward.expand.weight", 0.5)):
        torch.testing.assert_close(moved[0.5][name], share * moved[1.0][name], rtol=1e-3, atol=1e-7)


# Early stopping


def scripted(session: Session, accuracies: list[float], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces the validation accuracies; returns the notes of each epoch's classifier bias, to tell models apart."""
    biases = list[str]()
    real = session._evaluate

    def evaluate() -> Evaluation:
        evaluation = real()
        biases.append(str(session.trainer.model.classifier.bias.tolist()))
        numbers = evaluation.as_dict() | {"accuracy": accuracies[session.progress.epoch - 1]}
        return Evaluation.from_dict(numbers)

    monkeypatch.setattr(session, "_evaluate", evaluate)
    return biases


def delivered_bias(path: Path) -> str:
    return str(load_classifier(path).model.classifier.bias.tolist())


@pytest.mark.parametrize(
    ("accuracies", "patience", "epochs", "best"),
    [
        ([0.5, 0.6, 0.6, 0.5, 0.9, 0.9], 2, 4, 2),  # as good is not better
        ([0.5, 0.4, 0.6, 0.5, 0.4, 0.9], 2, 5, 3),
        ([0.5, 0.4, 0.6, 0.5, 0.4, 0.9], 1, 2, 1),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1, 6, 6),
        ([0.9, 0.1, 0.1, 0.1, 0.1, 0.1], 0, 6, 1),  # 0: never
    ],
)
@pytest.mark.parametrize("keep", ["last", "best"])
def test_patience_stops_the_training_and_the_model_is_still_delivered(
    keep: str,
    accuracies: list[float],
    patience: int,
    epochs: int,
    best: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = begin(tmp_path / "run", epochs=6, patience=patience, keep=keep)
    biases = scripted(session, accuracies, monkeypatch)
    session.run()
    assert len(biases) == session.progress.epoch == epochs and len(set(biases)) == epochs
    delivered = best if keep == "best" else epochs
    assert delivered_bias(tmp_path / "run") == biases[delivered - 1]
    assert read_json(tmp_path / "run" / "evaluation-validation.json")["accuracy"] == accuracies[delivered - 1]


def test_a_run_that_ran_out_of_patience_stays_ended_when_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = begin(tmp_path / "run", epochs=6, patience=1)
    scripted(session, [0.5, 0.4], monkeypatch)
    session.run()
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    resumed = go_on(tmp_path / "run", epochs=6, patience=1)
    resumed.run()
    assert resumed.progress.epoch == 2
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_a_negative_patience_is_refused() -> None:
    with pytest.raises(UsageError, match="patience = -1 must not be negative"):
        settings(patience=-1)
