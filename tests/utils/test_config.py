import inspect
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import src.utils.config as config_module
import src.utils.programs as programs_module
from src.utils.config import (
    PRESETS,
    RECIPES,
    BertConfig,
    DataConfig,
    OptimizationConfig,
    OptimizerConfig,
    PretrainConfig,
    PretrainingConfig,
    RunConfig,
    TrainConfig,
    VocabularyConfig,
)
from src.utils.errors import UsageError
from src.utils.options import with_options
from src.utils.programs import DemoConfig, ExplainConfig, ExportConfig, InferenceConfig, ReportConfig, Running

CLASSES: dict[str, Any] = {
    name: value
    for module in (config_module, programs_module)
    for name, value in vars(module).items()
    if isinstance(value, type) and is_dataclass(value)
}
NAN = float("nan")

REFUSED: list[tuple[Any, str, list[Any]]] = [
    (BertConfig, "vocab_size", [0]),
    (BertConfig, "hidden_size", [0]),
    (BertConfig, "num_hidden_layers", [0]),
    (BertConfig, "num_attention_heads", [0, 7]),
    (BertConfig, "intermediate_size", [0]),
    (BertConfig, "max_position_embeddings", [2]),
    (BertConfig, "type_vocab_size", [-1]),
    (BertConfig, "hidden_dropout_prob", [-0.1, 1.0, NAN]),
    (BertConfig, "attention_probs_dropout_prob", [-0.1, 1.0, NAN]),
    (BertConfig, "classifier_dropout", [-0.1, 1.0, NAN]),
    (BertConfig, "initializer_range", [-0.1, NAN]),
    (BertConfig, "layer_norm_eps", [0.0, NAN]),
    (BertConfig, "pad_token_id", [-1, 30_522]),
    (DataConfig, "holdout", [-0.1, 1.0, NAN]),
    (DataConfig, "max_train_samples", [0]),
    (VocabularyConfig, "seq_len", [2]),
    (VocabularyConfig, "min_frequency", [0]),
    (OptimizationConfig, "epochs", [0]),
    (OptimizerConfig, "batch_size", [0]),
    (OptimizerConfig, "gradient_accumulation_steps", [0]),
    (OptimizerConfig, "learning_rate", [0.0, -1.0, NAN]),
    (OptimizerConfig, "adam_epsilon", [0.0, NAN]),
    (OptimizerConfig, "max_grad_norm", [0.0, NAN]),
    (OptimizerConfig, "weight_decay", [-0.1, NAN]),
    (OptimizationConfig, "rare_word_dropout", [-0.1, NAN]),
    (OptimizerConfig, "warmup_ratio", [-0.1, 1.0, NAN]),
    (OptimizationConfig, "label_smoothing", [-0.1, 1.0, NAN]),
    (OptimizationConfig, "word_dropout", [-0.1, 1.0, NAN]),
    (OptimizerConfig, "ema_decay", [-0.1, 1.0, NAN]),
    (OptimizerConfig, "adam_beta1", [-0.1, 1.0, NAN]),
    (OptimizerConfig, "adam_beta2", [-0.1, 1.0, NAN]),
    (OptimizerConfig, "layer_decay", [0.0, 1.1, NAN]),
    (PretrainingConfig, "max_steps", [0]),
    (PretrainingConfig, "minutes", [0.0, float("inf"), NAN]),
    (PretrainingConfig, "mask_rate", [0.0, 1.0, NAN]),
    (RunConfig, "num_threads", [-1]),
    (RunConfig, "patience", [-1]),
    (RunConfig, "save_every", [-1]),
    (RunConfig, "keep_last", [0, -1]),
    (RunConfig, "evaluate_every", [-1]),
    (RunConfig, "seed", [-1, 2**63]),
    (InferenceConfig, "examples", [-1]),
    (Running, "num_threads", [-1]),
    (DemoConfig, "port", [0, 65536]),
]

# What the command line always gives.
NEEDED: dict[Any, dict[str, Any]] = {
    InferenceConfig: {"texts": ()},
    ReportConfig: {"folder": Path("run")},
    ExportConfig: {"model_folder": (), "output": Path("onnx")},
    ExplainConfig: {"texts": ("a text",)},
}


def make(config_class: Any, **options: Any) -> Any:
    return config_class(**NEEDED.get(config_class, {}) | options)


@pytest.mark.parametrize("config_class", dict.fromkeys(one for one, *_ in REFUSED), ids=lambda one: one.__name__)
def test_values_out_of_range_are_refused_by_name(config_class: Any) -> None:
    for name, values in [(name, values) for one, name, values in REFUSED if one is config_class]:
        for value in values:
            with pytest.raises(UsageError, match=rf"^{name} = {value}\b"):
                make(config_class, **{name: value})


def test_every_number_has_a_rule() -> None:
    ruled = {(config_class.__name__, name) for config_class, name, _ in REFUSED}
    numbers = {
        (name, field)
        for name, config_class in CLASSES.items()
        for field, kind in get_type_hints(config_class).items()
        if kind in (int, float, int | None) and field in inspect.get_annotations(config_class)
    }
    assert ruled == numbers


def test_checks_hold_for_the_classes_built_on_others() -> None:
    with pytest.raises(UsageError, match="freeze_layers = -1"):
        OptimizationConfig(freeze_layers=-1)
    with pytest.raises(UsageError, match="epsilon"):
        OptimizationConfig(adam_epsilon=0.0)
    with pytest.raises(UsageError, match="epsilon"):
        PretrainingConfig(adam_epsilon=0.0)
    for config_class in (InferenceConfig, ReportConfig, ExportConfig, ExplainConfig, DemoConfig):
        make(config_class)
        with pytest.raises(UsageError, match="num_threads = -1"):
            make(config_class, num_threads=-1)


def test_shapes_that_no_model_has_are_refused() -> None:
    with pytest.raises(UsageError, match="type_vocab_size = 2"):
        BertConfig(model_type="distilbert")
    BertConfig(model_type="distilbert", type_vocab_size=0)
    odd: dict[str, Any] = {"hidden_size": 9, "num_attention_heads": 3}
    with pytest.raises(UsageError, match="hidden_size = 9"):
        BertConfig(**odd, positional_encoding="sinusoidal")
    BertConfig(**odd)


@pytest.mark.parametrize("model_type, longest", [("bert", 20), ("roberta", 18)])
def test_seq_len_may_not_exceed_the_position_table(model_type: str, longest: int) -> None:
    options = {"model_type": model_type, "max_position_embeddings": 20, "pad_token_id": 1}
    for default in (TrainConfig(), PretrainConfig()):
        assert with_options(default, options | {"seq_len": longest}).model.longest_sequence == longest
        with pytest.raises(UsageError, match=f"seq_len = {longest + 1} .*{longest}"):
            with_options(default, options | {"seq_len": longest + 1})


CONTRADICTIONS: list[tuple[Any, dict[str, Any], list[str]]] = [
    (DataConfig, {"dataset": "sample", "train_file": Path("a.csv")}, ["--dataset", "--train-file"]),
    (DataConfig, {"validation_file": Path("a.csv")}, ["--validation-file", "--train-file"]),
    (
        DataConfig,
        {"holdout": 0.1, "train_file": Path("a.csv"), "validation_file": Path("b.csv")},
        ["--holdout", "--validation-file"],
    ),
    (RunConfig, {"overwrite": True, "resume": "auto"}, ["--overwrite", "--resume"]),
    (RunConfig, {"dry_run": True, "resume": "auto"}, ["--dry-run", "--resume"]),
    (InferenceConfig, {"texts": ("a",), "file": Path("a.txt")}, ["texts", "--file"]),
    (InferenceConfig, {"texts": ("a",), "dataset": "sample"}, ["texts", "--dataset"]),
    (InferenceConfig, {"file": Path("a.txt"), "dataset": "sample"}, ["--file", "--dataset"]),
    (InferenceConfig, {"pairs": True}, ["--pairs", "--file"]),
    (InferenceConfig, {"fill_mask": "a [MASK]", "texts": ("a",)}, ["--fill-mask"]),
    (ReportConfig, {"predictions": Path("a.jsonl"), "dataset": "sample"}, ["--predictions", "--dataset"]),
    (PretrainConfig, {"corpus": ()}, ["--corpus"]),
    (TrainConfig, {"model_name_or_path": "a/b", "run": RunConfig(output_dir=Path("a/b"))}, ["--output-dir", "a/b"]),
]


def test_options_that_contradict_each_other_are_refused_by_name() -> None:
    for config_class, options, named in CONTRADICTIONS:
        with pytest.raises(UsageError) as caught:
            make(config_class, **options)
        assert all(name in str(caught.value) for name in named), options


def test_presets_are_bert_shapes_with_heads_of_64() -> None:
    for name in PRESETS:
        model = with_options(TrainConfig(), PRESETS[name]).model
        assert model.hidden_size == 64 * model.num_attention_heads
        assert model.intermediate_size == 4 * model.hidden_size


def test_the_default_presets_are_the_default_shapes() -> None:
    for default in (TrainConfig(), PretrainConfig()):
        assert with_options(default, PRESETS[default.preset]) == default


def test_recipes_name_existing_options() -> None:
    for recipe in RECIPES.values():
        with_options(TrainConfig(), recipe)


@pytest.mark.parametrize("config_class", [TrainConfig, PretrainConfig, InferenceConfig])
def test_option_names_are_unique_across_groups(config_class: Any) -> None:
    def names(config: Any) -> list[str]:
        nested = ((field.name, getattr(config, field.name)) for field in fields(config))
        return [found for name, value in nested for found in [name, *(names(value) if is_dataclass(value) else [])]]

    found = names(make(config_class))
    assert sorted(found) == sorted(set(found))
