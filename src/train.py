"""Train or fine-tune a BERT sentence classifier: `python -m src.train --help` lists every setting."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.utils.cli import parse_training, run_program
from src.utils.config import SAMPLE, TrainConfig, resolve, with_options
from src.utils.errors import UsageError
from src.utils.files import absolute_model_path

logger = logging.getLogger("src.train")

if TYPE_CHECKING:
    from src.evaluation.predictor import Predictor

PROGRAM = "python -m src.train"


def main(arguments: list[str]) -> None:
    """Parses the command line, trains, and prints the evaluation and, last, the folder of the run."""
    config = parse_training(arguments, PROGRAM, TrainConfig())

    # Not above: --help should not wait for PyTorch.
    from src.data.sources import open_corpus
    from src.training.checkpoint import open_run, refuse_changes
    from src.training.dry_run import dry_run
    from src.training.tasks import ClassificationTask
    from src.training.trainer import train
    from src.utils.distributed import process_group
    from src.utils.runs import config_of

    with process_group(), open_run(config) as folder:
        saved = None if folder.checkpoint is None else config_of(folder.path, TrainConfig())
        if saved is not None:
            config = _parse_on_top(arguments, saved)
        corpus = open_corpus(config.data, seed=config.run.seed, problem_type=config.model.problem_type)
        from_sample = SAMPLE if corpus.source.dataset == SAMPLE else None
        recipe = "finetune" if config.model_name_or_path is not None else from_sample
        if saved is None and config.recipe is None and recipe is not None:
            logger.info(f"settings    --recipe {recipe}, which suits this; options given on the command line stay")
            config = parse_training(arguments, PROGRAM, TrainConfig(), recipe)
        config = _with_absolute_paths(replace(config, data=corpus.source))
        if saved is not None:
            refuse_changes(saved, config)
        task = ClassificationTask(config, corpus)
        if config.run.dry_run:
            dry_run(task)
        else:
            train(task, folder)


def _parse_on_top(arguments: list[str], saved: TrainConfig) -> TrainConfig:
    """Parses the command line on top of the settings of a run to resume."""
    # run.json has full paths, and a --dataset that is a file as --train-file: only sources named again are compared.
    sourceless = with_options(saved, {"dataset": None, "train_file": None, "validation_file": None})
    config = parse_training(arguments, PROGRAM, sourceless)
    if config.data.dataset is None and config.data.train_file is None:
        return parse_training(arguments, PROGRAM, saved)
    return config


def _with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """Names models and texts so that a later run finds them from any folder."""
    from src.data.documents import absolute_source

    base, distillation = absolute_model_path(config.model_name_or_path), config.distillation
    unlabelled = tuple(absolute_source(source) for source in distillation.unlabelled)
    teacher = absolute_model_path(distillation.teacher)
    return with_options(config, {"model_name_or_path": base, "teacher": teacher, "unlabelled": unlabelled})


def fit(texts: Iterable[str], labels: Iterable[Any], output_dir: str | Path, **options: Any) -> "Predictor":
    """Trains a classifier on texts and labels, however few, and evaluates it on those same texts.

    The sorted names of `labels` become the classes; 0 and 1 become negative and positive. `options` are settings of
    `TrainConfig` by name, e.g. epochs=30; the rest is the recipe "sample", or "finetune" with model_name_or_path.
    Side effect: the process keeps the settings of `set_up_device` for threads and arithmetic.
    """
    from src.data.sources import corpus_of_lists
    from src.evaluation.predictor import Predictor
    from src.training.checkpoint import open_run
    from src.training.tasks import ClassificationTask
    from src.training.trainer import train

    recipe = options.pop("recipe", "finetune" if "model_name_or_path" in options else SAMPLE)
    rare_words = {} if recipe == "finetune" else {"min_frequency": 1}  # few texts have few words
    settings = resolve(recipe, options.pop("preset", None)) | rare_words | options | {"output_dir": Path(output_dir)}
    config = with_options(TrainConfig(), settings)
    if config.run.dry_run:
        raise UsageError("fit trains a model; use python -m src.train --dry-run")
    with open_run(config) as folder:
        corpus = corpus_of_lists(texts, labels, config.model.problem_type)
        train(ClassificationTask(config, corpus), folder, show=False)
    return Predictor.load(folder.path, config.run.device)


if __name__ == "__main__":
    run_program(main)
