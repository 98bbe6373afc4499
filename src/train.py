"""Train or fine-tune a BERT sentence classifier: `python -m src.train --help` lists every setting."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.utils.cli import parse_training, run_program, set_up_logging
from src.utils.config import TrainConfig, resolve, suitable_recipe, with_options
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
        recipe = suitable_recipe(config, len(corpus.splits["train"].texts))
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


def fit(
    texts: Iterable[str],
    labels: Iterable[Any],
    output_dir: str | Path,
    validation: tuple[Iterable[str], Iterable[Any]] | None = None,
    quiet: bool = False,
    **options: Any,
) -> "Predictor":
    """Trains a classifier on texts and labels, and evaluates it on `validation`, another such pair, or a tenth of them.

    The sorted names of `labels` become the classes; 0 and 1 become negative and positive. `options` are settings of
    `TrainConfig` by name, e.g. epochs=30; the rest is as `python -m src.train` chooses it.
    Side effect: the process keeps the settings of `set_up_device` for threads and arithmetic.
    """
    from src.data.sources import corpus_of_lists
    from src.evaluation.predictor import Predictor
    from src.training.checkpoint import open_run
    from src.training.tasks import ClassificationTask
    from src.training.trainer import train

    if not quiet:
        set_up_logging()
    options = resolve(options.pop("recipe", None), options.pop("preset", None)) | options
    config = with_options(TrainConfig(), options | {"output_dir": Path(output_dir)})
    if config.data.dataset is not None or config.data.train_file is not None:
        raise UsageError("fit takes its texts as arguments; drop dataset and train_file")
    corpus = corpus_of_lists(texts, labels, validation, config.model.problem_type, config.run.seed, config.data)
    recipe = config.recipe or suitable_recipe(config, len(corpus.splits["train"].texts))
    config = with_options(config, resolve(recipe, options.get("preset")) | options)
    if config.run.dry_run:
        raise UsageError("fit trains a model; use python -m src.train --dry-run")
    with open_run(config) as folder:
        train(ClassificationTask(config, corpus), folder, show=False)
    return Predictor.load(folder.path, config.run.device)


if __name__ == "__main__":
    run_program(main)
