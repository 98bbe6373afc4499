"""Temperature scaling at the end of a training (Guo et al. 2017)."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from src.interop.huggingface import TEMPERATURE, load_classifier, save_classifier
from src.training.checkpoint import EVALUATION
from src.utils.errors import Interrupted, UsageError
from src.utils.files import read_json
from tests.training import tiny_training
from tests.training.tiny_training import Run, begin, corpus, resume, sentences, settings

HEAD = ("classifier.weight", "classifier.bias")
NOISY = replace(sentences(60, 3), labels=[int(row % 5 < 2) for row in range(60)])


@pytest.fixture(autouse=True)
def with_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = corpus()
    made_up = replace(plain, splits=plain.splits | {"calibration": NOISY})
    monkeypatch.setattr(tiny_training, "corpus", lambda *_: made_up)


def trained(path: Path, **options: Any) -> Run:
    run = begin(path, **options)
    run.train()
    return run


@pytest.mark.parametrize("options", [{"keep": "best", "epochs": 3, "keep_last": 9}, {"ema_decay": 0.9}])
def test_the_head_is_divided_by_the_temperature_that_minimises_the_loss(
    options: dict[str, Any], tmp_path: Path
) -> None:
    run = trained(tmp_path / "run", **options)
    found, numbers = load_classifier(tmp_path / "run"), read_json(tmp_path / "run" / EVALUATION)
    temperature = found.temperature
    told = [read_json(tmp_path / "run" / name)[TEMPERATURE] for name in ("config.json", "run.json", EVALUATION)]
    assert told == [temperature] * 3 and temperature != 1.0
    assert read_json(tmp_path / "run" / "run.json")["calibration_error_before"] == numbers["calibration_error_before"]
    assert f"{temperature:.3f}" in (tmp_path / "run" / "README.md").read_text()

    before = load_file(tmp_path / f"run/checkpoints/step-{6 * (run.progress.best_epoch or 2)}/model.safetensors")
    after = load_file(tmp_path / "run" / "model.safetensors")
    changed = [name for name in after if not torch.equal(after[name], before[name])]
    assert sorted(changed) == sorted(HEAD)
    for name in HEAD:
        torch.testing.assert_close(after[name] * temperature, before[name])
    theirs: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").eval()
    dataset = found.dataset(NOISY.texts, NOISY.labels)
    with torch.no_grad():
        logits = torch.cat([theirs(ids[None]).logits for ids in dataset.input_ids])
    # LBFGS of torch, on how much more the logits would have to be divided: not at all.
    rest = torch.ones((), requires_grad=True)
    optimizer = torch.optim.LBFGS([rest], line_search_fn="strong_wolfe")

    def loss() -> Any:
        optimizer.zero_grad()
        value = F.cross_entropy(logits / rest, torch.tensor(NOISY.labels), label_smoothing=2 / 62)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    assert rest.item() == pytest.approx(1, abs=1e-3)
    (tmp_path / "again").mkdir()
    save_classifier(tmp_path / "again", found)
    assert read_json(tmp_path / "again" / "config.json")[TEMPERATURE] == temperature


@pytest.mark.parametrize("place", ["tasks.fit_temperature", "checkpoint.RunFolder.save_model"])
def test_a_kill_before_the_end_of_calibration_costs_nothing(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> Any:
        raise Interrupted("killed", signal.SIGTERM)

    straight, run = tmp_path / "straight", tmp_path / "run"
    trained(straight)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(f"src.training.{place}", stop)
        trained(run)
    assert not (run / "model.safetensors").exists()
    resume(run).train()
    for name in ("model.safetensors", "config.json", EVALUATION):
        assert (run / name).read_bytes() == (straight / name).read_bytes()
    assert read_json(run / "run.json")[TEMPERATURE] == read_json(straight / "run.json")[TEMPERATURE]


def test_numbers_and_several_labels_have_no_temperature() -> None:
    for problem_type in ("regression", "multi_label_classification"):
        with pytest.raises(UsageError):
            settings(calibration=0.1, problem_type=problem_type)
