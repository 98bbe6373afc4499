from itertools import product
from pathlib import Path
from typing import Any

import pytest

from src.utils.config import (
    PRESETS,
    RECIPES,
    BertConfig,
    DataConfig,
    DistillationConfig,
    OptimizationConfig,
    OptimizerConfig,
    PretrainConfig,
    PretrainingConfig,
    ReportConfig,
    RunConfig,
    TokenizerConfig,
    TrainConfig,
    options_of,
    suitable_recipe,
    with_options,
)
from src.utils.errors import UsageError

NAN = float("nan")

AT_LEAST_1, NOT_NEGATIVE = (0,), (-1,)
POSITIVE, NOT_BELOW_0, BELOW_1 = (0.0, NAN), (-0.1, NAN), (-0.1, 1.0, NAN)
REFUSED: list[tuple[Any, str, tuple[Any, ...]]] = [
    (BertConfig, "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size", AT_LEAST_1),
    (BertConfig, "num_attention_heads", (7,)),
    (BertConfig, "max_position_embeddings", (2,)),
    (BertConfig, "type_vocab_size", NOT_NEGATIVE),
    (BertConfig, "hidden_dropout_prob attention_probs_dropout_prob classifier_dropout", BELOW_1),
    (BertConfig, "initializer_range", NOT_BELOW_0),
    (BertConfig, "layer_norm_eps", POSITIVE),
    (BertConfig, "pad_token_id", (-1, 30_522)),
    (DataConfig, "holdout", BELOW_1),
    (DataConfig, "max_train_samples", AT_LEAST_1),
    (TokenizerConfig, "seq_len", (2,)),
    (TokenizerConfig, "min_frequency", AT_LEAST_1),
    (OptimizerConfig, "batch_size gradient_accumulation_steps", AT_LEAST_1),
    (OptimizerConfig, "learning_rate adam_epsilon max_grad_norm", POSITIVE),
    (OptimizerConfig, "weight_decay", NOT_BELOW_0),
    (OptimizerConfig, "warmup_ratio ema_decay adam_beta1 adam_beta2", BELOW_1),
    (OptimizerConfig, "layer_decay", (0.0, 1.1, NAN)),
    (OptimizationConfig, "epochs", AT_LEAST_1),
    (OptimizationConfig, "freeze_layers", NOT_NEGATIVE),
    (OptimizationConfig, "label_smoothing word_dropout", BELOW_1),
    (PretrainingConfig, "max_steps", AT_LEAST_1),
    (PretrainingConfig, "minutes", (0.0, float("inf"), NAN)),
    (PretrainingConfig, "mask_rate", (0.0, 1.0, NAN)),
    (DistillationConfig, "temperature", POSITIVE),
    (DistillationConfig, "hard_label_weight", (-0.1, 1.1, NAN)),
    (RunConfig, "num_threads patience save_every evaluate_every", NOT_NEGATIVE),
    (RunConfig, "keep_last", AT_LEAST_1),
    (RunConfig, "seed", (-1, 2**63)),
]


def test_values_out_of_range_are_refused_by_name() -> None:
    for config_class, names, values in REFUSED:
        for name, value in product(names.split(), values):
            with pytest.raises(UsageError, match=rf"^{name} = {value}\b"):
                config_class(**{name: value})


def test_shapes_that_no_model_has_are_refused_and_those_at_the_edge_allowed() -> None:
    BertConfig(vocab_size=1, pad_token_id=0, max_position_embeddings=3, type_vocab_size=1)
    with pytest.raises(UsageError, match="type_vocab_size = 2"):
        BertConfig(model_type="distilbert")
    odd: dict[str, Any] = {"hidden_size": 9, "num_attention_heads": 3}
    BertConfig(**odd)
    with pytest.raises(UsageError, match="hidden_size = 9"):
        BertConfig(**odd, positional_encoding="sinusoidal")


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
    (DataConfig, {"holdout": 0.1, "train_file": Path("a"), "validation_file": Path("b")}, ["--holdout"]),
    (RunConfig, {"overwrite": True, "resume": "auto"}, ["--overwrite", "--resume"]),
    (RunConfig, {"dry_run": True, "resume": "auto"}, ["--dry-run", "--resume"]),
    (ReportConfig, {"folder": Path("a"), "predictions": Path("b"), "dataset": "c"}, ["--predictions", "--dataset"]),
    (PretrainConfig, {"corpus": ()}, ["--corpus"]),
    (PretrainConfig, {"run": RunConfig(best_by="f1")}, ["--best-by f1"]),
    (TrainConfig, {"model_name_or_path": "a/b", "run": RunConfig(output_dir=Path("a/b"))}, ["--output-dir", "a/b"]),
]


def test_options_that_contradict_each_other_are_refused_by_name() -> None:
    for config_class, options, named in CONTRADICTIONS:
        with pytest.raises(UsageError) as caught:
            config_class(**options)
        assert all(name in str(caught.value) for name in named), options


def test_presets_and_recipes_name_existing_options_and_the_defaults_are_one_of_them() -> None:
    for options in (*PRESETS.values(), *RECIPES.values()):
        with_options(TrainConfig(), options)
    for default in (TrainConfig(), PretrainConfig()):
        assert with_options(default, PRESETS[default.preset]) == default


# Options by name

CHANGED = {"preset": "mini", "train_file": Path("a.csv"), "seq_len": 33, "hidden_size": 96, "seed": 4}


def test_few_examples_have_their_own_recipe_and_enough_steps() -> None:
    config = TrainConfig()
    cases: list[tuple[dict[str, Any], int, str | None]] = [
        ({}, 5000, "sample"),
        ({}, 5001, None),
        ({"max_train_samples": 10}, 9999, "sample"),
        ({"unlabelled": ("more.txt",), "teacher": "bert"}, 10, None),
        ({"model_name_or_path": "bert"}, 10, "finetune"),
    ]
    for options, count, recipe in cases:
        assert suitable_recipe(with_options(config, options), count) == recipe
    steps = [with_options(config, {"epochs": epochs}).optimization.total_steps(7) for epochs in (None, 1, 99)]
    assert steps == [406, 7, 693] and [config.optimization.total_steps(n) for n in (1, 1000)] == [100, 2000]


def test_with_options_replaces_fields_in_every_group_and_nothing_else() -> None:
    changed = with_options(TrainConfig(), CHANGED)
    assert options_of(changed) == options_of(TrainConfig()) | CHANGED
    assert with_options(TrainConfig(), options_of(changed)) == changed


def test_options_are_judged_together_and_unknown_ones_refused() -> None:
    wide = with_options(TrainConfig(), {"hidden_size": 96, "num_attention_heads": 3})
    assert with_options(wide, {"hidden_size": 100, "num_attention_heads": 4}).model.hidden_size == 100
    with pytest.raises(UsageError, match=r"num_attention_heads = 3 .*hidden_size = 100"):
        with_options(wide, {"hidden_size": 100})
    with pytest.raises(UsageError, match=r"learning_rat\b"):
        with_options(wide, {"learning_rat": 1.0})
