import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from src.utils.command_line import parse, parse_pretraining, parse_training
from src.utils.config import PRESETS, RECIPES, REPOSITORY, PretrainConfig, TrainConfig
from src.utils.errors import UsageError
from src.utils.options import with_options
from src.utils.programs import InferenceConfig

TRAIN, PRETRAIN, INFERENCE = (f"python -m src.{name}" for name in ("train", "pretrain", "inference"))
HEAVY = ("torch", "numpy", "tokenizers", "datasets", "wandb", "matplotlib", "sklearn", "transformers")


def training(*arguments: str, **more: Any) -> TrainConfig:
    return parse_training(arguments, TRAIN, **more)


def pretraining(*arguments: str, **more: Any) -> PretrainConfig:
    return parse_pretraining(arguments, PRETRAIN, **more)


def inference(*arguments: str) -> InferenceConfig:
    return parse(InferenceConfig, arguments, INFERENCE)


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(RECIPES, "test", {"preset": "small", "hidden_size": 192, "epochs": 9, "batch_size": 5})
    monkeypatch.setitem(RECIPES, "plain", {"hidden_dropout_prob": 0.3})
    return "test"


def test_without_arguments_the_defaults_hold() -> None:
    assert training() == TrainConfig()
    assert pretraining() == PretrainConfig()
    assert inference() == InferenceConfig(texts=())


def test_a_preset_sets_the_shape() -> None:
    config = training("--preset", "mini")
    assert config == with_options(TrainConfig(), {"preset": "mini"} | PRESETS["mini"])
    assert training("--preset=mini") == config


def test_a_recipe_wins_over_the_preset_it_names(recipe: str) -> None:
    config = training("--recipe", recipe)
    assert (config.recipe, config.preset) == ("test", "small")
    assert (config.model.num_hidden_layers, config.model.hidden_size) == (PRESETS["small"]["num_hidden_layers"], 192)
    assert (config.optimization.epochs, config.optimization.batch_size) == (9, 5)


def test_a_preset_given_replaces_the_recipes_but_not_its_other_settings(recipe: str) -> None:
    config = training("--recipe", recipe, "--preset", "medium")
    assert config.preset == "medium" and config.model.num_hidden_layers == 8
    assert config.model.hidden_size == 192 and config.optimization.epochs == 9


def test_an_option_wins_over_recipe_and_preset(recipe: str) -> None:
    arguments = ("--hidden-size", "320", "--epochs", "2", "--recipe", recipe, "--num-hidden-layers", "3")
    config = training(*arguments, "--num-attention-heads", "5")
    assert (config.model.hidden_size, config.model.num_hidden_layers, config.model.num_attention_heads) == (320, 3, 5)
    assert (config.optimization.epochs, config.optimization.batch_size) == (2, 5)


def test_a_recipe_of_the_program_yields_to_one_given(recipe: str) -> None:
    assert training(recipe="test").optimization.epochs == 9
    config = training("--recipe", "plain", recipe="test")
    assert config.recipe == "plain" and config.model.hidden_dropout_prob == 0.3
    assert config.optimization.epochs == TrainConfig().optimization.epochs


def test_a_recipe_wins_over_the_default_given_and_leaves_the_rest_of_it(recipe: str) -> None:
    default = with_options(TrainConfig(), {"epochs": 4, "seed": 8})
    assert training(default=default) == default
    config = training("--recipe", recipe, default=default)
    assert config.optimization.epochs == 9 and config.run.seed == 8


@pytest.mark.parametrize("option, known", [("--preset", PRESETS), ("--recipe", RECIPES)])
def test_an_unknown_preset_or_recipe_is_refused_and_the_known_ones_are_listed(
    option: str, known: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=rf"{option} huge is unknown; choose one of {', '.join(known)}"):
        training(option, "huge")


@pytest.mark.parametrize(
    "mistyped, meant",
    [("--learning-rat", "--learning-rate"), ("--epoch", "--epochs"), ("--batchsize", "--batch-size")],
)
def test_a_mistyped_training_option_exits_2_and_suggests_the_right_one(
    mistyped: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        training(mistyped, "3")
    shown = capsys.readouterr()
    assert caught.value.code == 2
    assert meant in shown.err.replace(f"{mistyped},", "") and shown.out == ""


def test_a_mistyped_inference_option_exits_2_and_suggests_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        inference("--checkpont", "x")
    assert caught.value.code == 2
    assert "--checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--epochs", "many"), ("--tokenizer", "bytes"), ("--epochs",), ("--preset",)])
def test_an_unusable_value_exits_2_and_names_the_option(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        training(*arguments)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_a_value_out_of_range_is_a_usage_error_that_names_the_field() -> None:
    with pytest.raises(UsageError, match="epochs = 0 must be at least 1"):
        training("--epochs", "0")


def test_the_training_options_have_these_names(tmp_path: Path) -> None:
    values = {
        "--dataset": "sample",
        "--output-dir": str(tmp_path),
        "--preset": "mini",
        "--recipe": "sample",
        "--tokenizer": "wordpiece",
        "--epochs": "7",
        "--batch-size": "8",
        "--learning-rate": "0.5",
        "--seq-len": "9",
        "--seed": "10",
        "--max-train-samples": "11",
        "--resume": "auto",
        "--wandb": "offline",
        "--device": "cpu",
        "--num-threads": "1",
    }
    config = training(*(part for pair in values.items() for part in pair))
    assert (config.preset, config.recipe, config.tokenization.tokenizer) == ("mini", "sample", "wordpiece")
    assert (config.data.dataset, config.data.max_train_samples, config.tokenization.seq_len) == ("sample", 11, 9)
    loop, run = config.optimization, config.run
    assert (loop.epochs, loop.batch_size, loop.learning_rate) == (7, 8, 0.5)
    assert (run.output_dir, run.seed, run.resume, run.wandb, run.device) == (tmp_path, 10, "auto", "offline", "cpu")
    assert run.num_threads == 1
    assert training("--overwrite").run.overwrite


def test_a_preset_of_a_pretraining_sets_the_shape_and_an_option_wins_over_it() -> None:
    config = pretraining("--preset", "tiny")
    assert config == with_options(PretrainConfig(), {"preset": "tiny"} | PRESETS["tiny"])
    assert pretraining("--preset=tiny") == config
    wide = pretraining("--hidden-size", "320", "--preset", "tiny", "--num-attention-heads", "5")
    assert (wide.model.hidden_size, wide.model.num_hidden_layers, wide.model.num_attention_heads) == (320, 2, 5)


def test_a_pretraining_given_a_default_changes_only_what_is_given() -> None:
    default = with_options(PretrainConfig(), {"corpus": ("a.txt",), "max_steps": 7, "seed": 8} | PRESETS["nano"])
    assert pretraining(default=default) == default
    assert pretraining("--seed", "9", default=default) == with_options(default, {"seed": 9})
    assert pretraining("--preset", "small", default=default) == with_options(
        default, {"preset": "small"} | PRESETS["small"]
    )


def test_an_unknown_preset_of_a_pretraining_is_refused_and_the_known_ones_are_listed() -> None:
    with pytest.raises(UsageError, match=f"--preset huge is unknown; choose one of {', '.join(PRESETS)}"):
        pretraining("--preset", "huge")


def test_a_pretraining_knows_no_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        pretraining("--recipe", "sample")
    assert caught.value.code == 2
    assert "--recipe" in capsys.readouterr().err


def test_the_pretraining_options_have_these_names(tmp_path: Path) -> None:
    values = {
        "--text-column": "body",
        "--vocab-size": "99",
        "--max-steps": "7",
        "--minutes": "0.5",
        "--mask-rate": "0.3",
        "--mask-replacement": "mask",
        "--batch-size": "8",
        "--save-every": "9",
        "--evaluate-every": "10",
        "--output-dir": str(tmp_path),
    }
    config = pretraining("--corpus", "a.txt", "b/c:test", *(part for pair in values.items() for part in pair))
    assert (config.corpus, config.text_column, config.model.vocab_size) == (("a.txt", "b/c:test"), "body", 99)
    loop, run = config.optimization, config.run
    assert (loop.max_steps, loop.minutes, loop.mask_rate, loop.mask_replacement) == (7, 0.5, 0.3, "mask")
    assert (loop.batch_size, run.save_every, run.evaluate_every, run.output_dir) == (8, 9, 10, tmp_path)


def test_the_inference_options_have_these_names() -> None:
    config = inference(
        "--checkpoint", "a", "--dataset", "b", "--split", "c", "--output", "d", "--json", "--device", "cpu"
    )
    assert config == InferenceConfig(
        texts=(), checkpoint=Path("a"), dataset="b", split="c", output=Path("d"), json=True, device="cpu"
    )
    assert inference("--file", "-").file == Path("-")
    assert inference("--fill-mask", "a [MASK] film") == InferenceConfig(texts=(), fill_mask="a [MASK] film")


@pytest.mark.parametrize("texts", [("a good film",), ("one", "two"), ("",), ("it's -- fine",)])
def test_texts_stand_on_the_command_line_as_they_are(texts: tuple[str, ...]) -> None:
    assert inference(*texts).texts == texts
    assert inference(*texts, "--json").texts == texts


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)


def processor_seconds() -> float:
    """What all child processes took so far, which on a quiet machine is the time they ran."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    "program, option",
    [
        ("train", "--learning-rate"),
        ("pretrain", "--mask-rate"),
        ("inference", "--checkpoint"),
        ("report", "--predictions"),
        ("export", "--push-to-hub"),
        ("explain", "--html"),
        ("demo", "--share"),
    ],
)
def test_help_answers_within_half_a_second(program: str, option: str) -> None:
    durations = []
    for _ in range(3):
        start = processor_seconds()
        answer = run("-m", f"src.{program}", "--help")
        durations.append(processor_seconds() - start)
        assert answer.returncode == 0 and option in answer.stdout and answer.stderr == ""
    assert statistics.median(durations) < 0.5


@pytest.mark.parametrize("program", ["train", "pretrain", "inference", "report", "export", "explain", "demo"])
def test_help_imports_nothing_heavy(program: str) -> None:
    code = f"""
import sys
from src.{program} import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
print(*sys.modules, file=sys.stderr)
"""
    loaded = run("-c", code).stderr.split()
    assert "tyro" in loaded
    assert not set(HEAVY) & set(loaded)
