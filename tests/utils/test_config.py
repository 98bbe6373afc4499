import ast
import inspect
import json
from dataclasses import asdict, fields, is_dataclass, replace
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
from src.utils.options import options_of, saved_config, with_options
from src.utils.programs import DemoConfig, ExplainConfig, ExportConfig, InferenceConfig, ReportConfig, Running

MODULES = (config_module, programs_module)
CLASSES: dict[str, Any] = {
    name: value
    for module in MODULES
    for name, value in vars(module).items()
    if isinstance(value, type) and is_dataclass(value)
}
SOURCES = [Path(str(module.__file__)) for module in MODULES]
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

INHERITED: list[tuple[Any, str, list[Any]]] = [
    (config_class, "num_threads", [-1])
    for config_class in (InferenceConfig, ReportConfig, ExportConfig, ExplainConfig, DemoConfig)
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


@pytest.mark.parametrize(
    "config_class, name, value",
    [(config_class, name, value) for config_class, name, values in REFUSED + INHERITED for value in values],
)
def test_a_value_out_of_range_is_refused_by_name(config_class: Any, name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"^{name} = {value} .*"):
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


def test_a_negative_number_of_frozen_layers_is_refused() -> None:
    with pytest.raises(UsageError, match="freeze_layers = -1"):
        OptimizationConfig(freeze_layers=-1)


def test_distilbert_has_no_segments() -> None:
    with pytest.raises(UsageError, match="type_vocab_size = 2 must be 0 for distilbert"):
        BertConfig(model_type="distilbert")
    BertConfig(model_type="distilbert", type_vocab_size=0)


def test_sinusoidal_positions_need_an_even_width() -> None:
    with pytest.raises(UsageError, match="hidden_size = 9 must be even"):
        BertConfig(hidden_size=9, num_attention_heads=3, positional_encoding="sinusoidal")
    BertConfig(hidden_size=9, num_attention_heads=3)


@pytest.mark.parametrize("model_type, longest", [("bert", 20), ("distilbert", 20), ("roberta", 18)])
def test_seq_len_may_not_exceed_the_position_table(model_type: str, longest: int) -> None:
    options = {"model_type": model_type, "max_position_embeddings": 20, "pad_token_id": 1}
    options |= {"type_vocab_size": 0} if model_type == "distilbert" else {}
    assert with_options(TrainConfig(), options | {"seq_len": longest}).model.longest_sequence == longest
    with pytest.raises(UsageError, match=f"seq_len = {longest + 1} exceeds the {longest} positions"):
        with_options(TrainConfig(), options | {"seq_len": longest + 1})


@pytest.mark.parametrize(
    "config_class, options, named",
    [
        (DataConfig, {"dataset": "sample", "train_file": Path("a.csv")}, ["--dataset", "--train-file"]),
        (DataConfig, {"validation_file": Path("a.csv")}, ["--validation-file", "--train-file"]),
        (
            DataConfig,
            {"holdout": 0.1, "train_file": Path("a.csv"), "validation_file": Path("b.csv")},
            ["--holdout", "--validation-file"],
        ),
        (RunConfig, {"overwrite": True, "resume": "auto"}, ["--overwrite", "--resume"]),
        (InferenceConfig, {"texts": ("a",), "file": Path("a.txt")}, ["texts", "--file"]),
        (InferenceConfig, {"texts": ("a",), "dataset": "sample"}, ["texts", "--dataset"]),
        (InferenceConfig, {"file": Path("a.txt"), "dataset": "sample"}, ["--file", "--dataset"]),
        (InferenceConfig, {"pairs": True}, ["--pairs", "--file"]),
        (InferenceConfig, {"fill_mask": "a [MASK]", "texts": ("a",)}, ["--fill-mask"]),
        (ReportConfig, {"predictions": Path("a.jsonl"), "dataset": "sample"}, ["--predictions", "--dataset"]),
        (PretrainConfig, {"corpus": ()}, ["--corpus"]),
    ],
)
def test_options_that_contradict_each_other_are_refused_by_name(
    config_class: Any, options: dict[str, Any], named: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        make(config_class, **options)
    assert all(name in str(caught.value) for name in named)


@pytest.mark.parametrize("name", CLASSES)
def test_defaults_are_accepted(name: str) -> None:
    make(CLASSES[name])


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_bert_shapes_with_heads_of_64(preset: str) -> None:
    model = with_options(TrainConfig(), PRESETS[preset]).model
    assert model.hidden_size == 64 * model.num_attention_heads
    assert model.intermediate_size == 4 * model.hidden_size


def test_the_default_preset_is_the_default_shape() -> None:
    default = TrainConfig()
    assert with_options(default, PRESETS[default.preset]) == default


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_name_existing_options(recipe: str) -> None:
    with_options(TrainConfig(), RECIPES[recipe])


CHANGED: dict[str, Any] = {
    "preset": "mini",
    "recipe": "sample",
    "train_file": Path("data") / "train.csv",
    "validation_file": Path("validation.csv"),
    "max_train_samples": 7,
    "tokenizer": "wordpiece",
    "lowercase": False,
    "seq_len": 33,
    "hidden_size": 96,
    "num_attention_heads": 3,
    "learning_rate": 1e-3,
    "output_dir": Path("weights") / "run",
    "seed": 4,
    "wandb": "offline",
}


def test_with_options_replaces_fields_in_every_group_and_nothing_else() -> None:
    changed = with_options(TrainConfig(), CHANGED)
    assert options_of(changed) == options_of(TrainConfig()) | CHANGED
    assert changed.model.hidden_size == 96 and changed.data.max_train_samples == 7 and changed.run.seed == 4


def test_options_of_a_config_rebuild_it() -> None:
    changed = with_options(TrainConfig(), CHANGED)
    assert with_options(TrainConfig(), options_of(changed)) == changed


def test_contradictory_options_are_judged_together_not_one_by_one() -> None:
    wide = with_options(TrainConfig(), {"hidden_size": 96, "num_attention_heads": 3})
    assert with_options(wide, {"hidden_size": 100, "num_attention_heads": 4}).model.hidden_size == 100
    with pytest.raises(UsageError, match="num_attention_heads = 3 must divide hidden_size = 100"):
        with_options(wide, {"hidden_size": 100})


def test_an_unknown_setting_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no setting named learning_rat"):
        with_options(TrainConfig(), {"learning_rat": 1.0})


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(),
        with_options(TrainConfig(), CHANGED),
        PretrainConfig(),
        with_options(PretrainConfig(), {"corpus": ("a.txt",), "max_steps": 3, "seq_len": 32}),
    ],
)
def test_a_config_survives_json(config: Any) -> None:
    assert saved_config(type(config)(), json.loads(json.dumps(asdict(config), default=str))) == config


def test_settings_unknown_by_now_are_left_out_and_new_ones_have_their_default() -> None:
    saved = asdict(replace(TrainConfig(), preset="mini"))
    saved["model"]["gone"] = saved["gone"] = saved["old_group"] = {"x": 1}
    del saved["optimization"]["ema_decay"], saved["run"]
    assert saved_config(TrainConfig(), saved) == replace(TrainConfig(), preset="mini")


def config_classes_in_source() -> list[ast.ClassDef]:
    statements = [node for source in SOURCES for node in ast.parse(source.read_text(encoding="utf-8")).body]
    return [node for node in statements if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize("node", config_classes_in_source(), ids=lambda node: node.name)
def test_every_field_has_one_sentence_under_it(node: ast.ClassDef) -> None:
    kinds = get_type_hints(CLASSES[node.name])
    names = []
    for statement, below in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
            names.append(name)
            if is_dataclass(kinds[name]):
                continue
            assert isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant), f"{name} has no sentence"
            sentence = below.value.value
            assert isinstance(sentence, str) and sentence.endswith(".") and "\n" not in sentence, name
    assert names == list(inspect.get_annotations(CLASSES[node.name]))


@pytest.mark.parametrize("config_class", [TrainConfig, PretrainConfig, InferenceConfig])
def test_option_names_are_unique_across_groups(config_class: Any) -> None:
    def names(config: Any) -> list[str]:
        nested = ((field.name, getattr(config, field.name)) for field in fields(config))
        return [found for name, value in nested for found in [name, *(names(value) if is_dataclass(value) else [])]]

    found = names(make(config_class))
    assert sorted(found) == sorted(set(found))
