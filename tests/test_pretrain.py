"""The program that pre-trains, at its door: what it leaves, what transformers makes of it, resuming, exit codes."""

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from src.interop.huggingface import load_masked_lm, pretraining_of
from src.pretrain import CONTINUED
from src.training import trainer as loop
from src.training.trainer import Trainer
from src.utils.files import read_json, verify
from tests.conftest import Programs, TrainedRun, metrics, succeed
from tests.training.tiny_pretraining import ALL_RANDOMNESS, WORDS, arguments, write_texts

# transformers leaves config.json open in save_pretrained
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*config.json:ResourceWarning")

MODEL = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "manifest.json"}
# Epochs of 6 steps, the last one ended by --max-steps: saved in steps 4, 6, 8, 12 and 16, evaluated in 3, 6, 9, 12, 15
# and 16.
RESUMED: dict[str, Any] = {**ALL_RANDOMNESS, "max_steps": 16, "save_every": 4, "evaluate_every": 3}
SAVED = [4, 6, 8, 12]
GAPS = "Red [MASK] blue, unheard-of [MASK]"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_texts(tmp_path / "colours.txt")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def evaluated(folder: Path) -> list[int]:
    return [row["step"] for row in metrics(folder) if "validation/loss" in row]


def model_bytes(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


# From the command to the folder


def test_a_run_leaves_everything_that_belongs_to_it(pretrained_run: TrainedRun) -> None:
    about = {"README.md", "metrics.jsonl", "run.json", "evaluation-validation.json", "checkpoints"}
    assert {file.name for file in pretrained_run.path.iterdir()} == MODEL | about
    state = {"training_state.safetensors", "training_state.json"}
    for checkpoint in (pretrained_run.path / "checkpoints").iterdir():
        assert {file.name for file in checkpoint.iterdir()} == MODEL | state
        verify(checkpoint)
    run = read_json(pretrained_run.path / "run.json")
    assert run["task"] == "masked-language-modelling" and run["finished"] is not None
    sizes = [run["data"][name] for name in ("name", "documents", "train", "validation")]
    assert sizes == ["colours.txt", 203, 193 * 151, 10 * 151]
    assert pretrained_run.answer.out.splitlines()[-1] == str(pretrained_run.path)
    assert "\npipeline_tag: fill-mask\n" in (pretrained_run.path / "README.md").read_text()


def test_a_repetitive_text_is_learned_far_better_than_its_frequencies(pretrained_run: TrainedRun) -> None:
    numbers = read_json(pretrained_run.path / "evaluation-validation.json")
    assert numbers["n"] > 30
    assert numbers["loss"] < 0.5 * numbers["unigram_loss"]
    assert numbers["accuracy"] > numbers["unigram_accuracy"] + 0.5
    losses = [row["validation/loss"] for row in metrics(pretrained_run.path) if "validation/loss" in row]
    assert losses[-1] == pytest.approx(numbers["loss"])
    trained = [row["train/loss"] for row in metrics(pretrained_run.path) if "train/loss" in row]
    assert trained[-1] < 0.5 * trained[0]
    assert evaluated(pretrained_run.path) == [100, 130, 200, 260, 300]


def test_minutes_become_steps_that_are_kept(programs: Programs, cache: Path, text: Path, tmp_path: Path) -> None:
    path = tmp_path / "timed"
    options = ("--corpus", text, *arguments(max_steps=None, minutes=0.001), "--output-dir", path)
    succeed(programs.pretrain(cache, *options))
    steps = read_json(path / "run.json")["config"]["optimization"]["max_steps"]
    assert metrics(path)[-1]["step"] == steps > 0
    # A resumed run does not measure again: another machine would come to another number.
    again = succeed(programs.pretrain(cache, *options, "--resume", "auto"))
    assert "ms a step" not in again.err
    assert read_json(path / "run.json")["config"]["optimization"]["max_steps"] == steps


# What others make of the folder


def test_transformers_computes_the_same_logits_and_fills_the_gap(pretrained_run: TrainedRun) -> None:
    ours = load_masked_lm(pretrained_run.path)
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(pretrained_run.path).eval()
    inputs = transformers.AutoTokenizer.from_pretrained(pretrained_run.path)(GAPS, return_tensors="pt")
    ids = ours.tokenizer.encode(GAPS).ids
    assert inputs["input_ids"][0].tolist() == ids
    with torch.no_grad():
        logits = ours.model(torch.tensor([ids]))
        torch.testing.assert_close(theirs(**inputs).logits, logits, rtol=0, atol=1e-5)  # sums in another order
    assert logits.std() > 0.5
    pipeline = transformers.pipeline("fill-mask", model=str(pretrained_run.path), device="cpu")
    assert pipeline("blue blue blue [MASK] blue blue blue blue")[0]["token_str"] == "blue"
    assert pipeline.tokenizer.model_max_length == 16


def test_a_classifier_is_trained_on_top_of_it(programs: Programs, pretrained_run: TrainedRun, tmp_path: Path) -> None:
    labelled = [f"{word} {other},{index % 2}" for index, word in enumerate(WORDS) for other in WORDS]
    (tmp_path / "colours.csv").write_text("\n".join(["sentence,label", *labelled]))
    answer = succeed(
        programs.train(
            *("--model-name-or-path", pretrained_run.path, "--train-file", tmp_path / "colours.csv"),
            *("--freeze-layers", "all", "--epochs", 1, "--output-dir", tmp_path / "classifier"),
            *("--device", "cpu", "--num-threads", 1),
        )
    )
    before, after = (
        load_file(folder / "model.safetensors") for folder in (pretrained_run.path, tmp_path / "classifier")
    )
    encoder = {name for name in before if name.startswith("bert.")}
    assert "bert.pooler.dense.weight" in answer.err and "classifier.weight" in answer.err  # begin anew
    assert all(torch.equal(after[name], before[name]) for name in encoder)
    assert read_json(tmp_path / "classifier" / "tokenizer_config.json")["model_max_length"] == 16
    assert succeed(programs.inference("--checkpoint", tmp_path / "classifier", "red red")).out.count("\n") == 1
    (checkpoint,) = (tmp_path / "classifier" / "checkpoints").iterdir()
    for folder in (pretrained_run.path, tmp_path / "classifier", checkpoint):
        assert pretraining_of(folder) == read_json(pretrained_run.path / "run.json")
    assert str(pretrained_run.path) not in (tmp_path / "classifier" / "README.md").read_text()


def test_pre_training_goes_on_from_it(
    programs: Programs, cache: Path, text: Path, pretrained_run: TrainedRun, tmp_path: Path
) -> None:
    path = tmp_path / "more"
    options = ("--corpus", text, "--max-steps", 8, "--save-every", 3, "--seq-len", 16, "--num-threads", 1)
    command = ("--model-name-or-path", pretrained_run.path, *options, "--device", "cpu", "--output-dir", path)
    succeed(programs.pretrain(cache, *command))
    before, after = (read_json(folder / "evaluation-validation.json") for folder in (pretrained_run.path, path))
    assert after["accuracy"] > 0.9 * before["accuracy"] > 2 * after["unigram_accuracy"]
    assert (path / "tokenizer.json").read_bytes() == (pretrained_run.path / "tokenizer.json").read_bytes()
    run = read_json(path / "run.json")
    assert run["model"]["pretraining"] == read_json(pretrained_run.path / "run.json")
    assert run["config"]["optimization"]["learning_rate"] == CONTINUED["learning_rate"]
    assert str(pretrained_run.path) not in (path / "README.md").read_text()
    # Killed after its sixth step, it ends the same.
    expected = model_bytes(path)
    shutil.rmtree(path / "checkpoints" / "step-8")
    (path / "model.safetensors").unlink()
    succeed(programs.pretrain(cache, "--resume", path))
    assert model_bytes(path) == expected


# Resuming


@pytest.fixture(scope="module")
def straight(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run with all of its checkpoints and a row of metrics for every step."""
    folder = tmp_path_factory.mktemp("straight")
    text = write_texts(folder / "colours.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "STEPS_PER_LOG", 1)
        options = ("--corpus", text, *arguments(**RESUMED, keep_last=99), "--output-dir", folder / "run")
        succeed(programs.pretrain(folder / "cache", *options))
    assert evaluated(folder / "run") == [3, 6, 9, 12, 15, 16]
    return folder / "run"


def assert_same_run(found: Path, straight: Path) -> None:
    assert model_bytes(found) == model_bytes(straight)
    assert metrics(found) == metrics(straight)
    assert read_json(found / "evaluation-validation.json") == read_json(straight / "evaluation-validation.json")
    state = Path("checkpoints") / "step-16" / "training_state.safetensors"
    assert (found / state).read_bytes() == (straight / state).read_bytes()


# In the middle of an epoch, at the end of one, and with later checkpoints to forget.
@pytest.mark.parametrize(("named", "step"), [("run", 4), ("run", 6), ("checkpoint", 12)])
def test_a_run_that_goes_on_from_a_checkpoint_ends_the_same(
    named: str, step: int, straight: Path, programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "STEPS_PER_LOG", 1)
    path = tmp_path / "run"
    shutil.copytree(straight, path)
    (path / "model.safetensors").unlink()
    (path / "evaluation-validation.json").unlink()
    checkpoint = path / "checkpoints" / f"step-{step}"
    if named == "run":  # a crash, in the middle of a line
        for later in [*SAVED[SAVED.index(step) + 1 :], 16]:
            shutil.rmtree(path / "checkpoints" / f"step-{later}")
        with (path / "metrics.jsonl").open("a") as stream:
            stream.write('{"step": 17, "tr')
    answer = succeed(programs.pretrain(tmp_path / "cache", "--resume", path if named == "run" else checkpoint))
    assert f"resuming    {checkpoint}, step {step}" in answer.err
    assert_same_run(path, straight)


@pytest.mark.parametrize("step", [5, 9, 12, 16])
def test_a_run_that_a_signal_stopped_ends_the_same(
    step: int, straight: Path, programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "STEPS_PER_LOG", 1)
    original = Trainer.training_step

    def training_step(trainer: Trainer, batches: Any) -> Any:
        report = original(trainer, batches)
        if trainer.progress.step == step:
            signal.raise_signal(signal.SIGTERM)
        return report

    path, text = tmp_path / "run", straight.parent / "colours.txt"
    options = ("--corpus", text, *arguments(**RESUMED), "--output-dir", path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "training_step", training_step)
        answer = programs.pretrain(tmp_path / "cache", *options)
    assert answer.code == 128 + signal.SIGTERM
    assert f"step {step};" in answer.err and f"--resume {path}" in answer.err
    succeed(programs.pretrain(tmp_path / "cache", "--resume", path))
    assert_same_run(path, straight)
    assert read_json(path / "run.json")["finished"] is not None


def test_a_run_is_resumed_in_the_words_that_began_it_and_from_any_folder(
    programs: Programs, cache: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(text.parent)
    options = ("--corpus", text.name, *arguments(max_steps=3), "--resume", "auto", "--output-dir", "run")
    assert "step-3" not in succeed(programs.pretrain(cache, *options)).err
    assert "run/checkpoints/step-3" in succeed(programs.pretrain(cache, *options)).err
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    succeed(programs.pretrain(cache, "--resume", tmp_path / "run"))


# What the user got wrong


def test_a_text_without_use_is_a_data_error_that_names_it(programs: Programs, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9\n\nfilm")
    (tmp_path / "short.txt").write_text("red red\n\nblue")
    for file, fact in (("absent.txt", "absent.txt"), ("bad.txt", "bad.txt"), ("short.txt", "--seq-len 16")):
        options = (*arguments(max_steps=2), "--output-dir", tmp_path / "run")
        answer = programs.pretrain(cache, "--corpus", tmp_path / file, *options)
        assert (answer.code, answer.out) == (3, "") and fact in answer.error
    assert not (tmp_path / "run").exists()


def test_a_cache_that_cannot_be_written_is_a_storage_error(programs: Programs, text: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    options = arguments(max_steps=2)
    answer = programs.pretrain(tmp_path / "file", "--corpus", text, *options, "--output-dir", tmp_path / "run")
    assert answer.code == 6 and str(tmp_path / "file") in answer.error
