"""Train or fine-tune a BERT sentence classifier: `python -m src.train --help` lists every setting."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.utils.command_line import parse_training
from src.utils.config import SAMPLE, TrainConfig, resolve
from src.utils.errors import notice, run_program
from src.utils.names import settled_model
from src.utils.options import changed_options, with_options
from src.utils.runs import begun_with

if TYPE_CHECKING:
    from src.data.sources import Corpus
    from src.evaluation.predictor import Predictor
    from src.training.run_folder import RunFolder

PROGRAM = "python -m src.train"


def main(arguments: list[str]) -> None:
    """Parses the command line, trains, and prints the evaluation and, last, the folder of the run."""
    config = parse_training(arguments, PROGRAM)

    # Not above: --help should not wait for PyTorch.
    from src.evaluation.metrics import Evaluation
    from src.utils.distributed import is_first, process_group

    with process_group():
        folder = _run(arguments, config)
        if is_first() and folder is not None:
            print(Evaluation.from_dict(folder.read_evaluation()).as_text())
            print(f"\n{folder.path}")


def _run(arguments: list[str], config: TrainConfig) -> "RunFolder | None":
    from src.data.sources import open_corpus
    from src.training.start import find_checkpoint, refuse_changes

    if (found := find_checkpoint(config.run, config.task)) is not None:
        folder, checkpoint = found
        saved = begun_with(folder.path, TrainConfig())
        config = _resumed(arguments, saved)
        corpus = open_corpus(config.data, seed=config.run.seed)
        config = _settled(config, corpus)
        refuse_changes(saved, config)
    else:
        corpus = open_corpus(config.data, seed=config.run.seed)
        recipe = "finetune" if config.model_name_or_path is not None else SAMPLE if corpus.is_sample else None
        if recipe is not None and config.recipe is None:
            notice(f"settings    --recipe {recipe}, which suits this; options given on the command line stay")
            config = parse_training(arguments, PROGRAM, recipe=recipe)
        config = _settled(config, corpus)
        if config.run.dry_run:
            _tell(config, corpus)
            return None
        folder, checkpoint = _new_run(config, corpus), None
    train(config, corpus, folder, checkpoint)
    return folder


def _tell(config: TrainConfig, corpus: "Corpus") -> None:
    from src.training.rehearsal import dry_run
    from src.training.setup import set_up
    from src.utils.distributed import is_first

    told = dry_run(set_up(config, corpus), changed_options(with_options(config, {"dry_run": False})))
    if is_first():
        print(told)


def _new_run(config: TrainConfig, corpus: "Corpus") -> "RunFolder":
    from src.training.start import new_run

    model = config.preset if config.model_name_or_path is None else Path(config.model_name_or_path).name
    return new_run(config.run, model, corpus.name)


def _settled(config: TrainConfig, corpus: "Corpus") -> TrainConfig:
    """Names data and model so that a later run finds them from any folder and under any environment."""
    from src.data.documents import settled

    distillation = replace(
        config.distillation,
        teacher=settled_model(config.distillation.teacher),
        unlabelled=tuple(settled(source) for source in config.distillation.unlabelled),
    )
    return replace(
        config,
        data=corpus.source,
        model_name_or_path=settled_model(config.model_name_or_path),
        distillation=distillation,
    )


def _resumed(arguments: list[str], saved: TrainConfig) -> TrainConfig:
    # run.json has full paths, the command that began the run perhaps others, or --dataset for what became --train-file.
    sourceless = with_options(saved, {"dataset": None, "train_file": None, "validation_file": None})
    config = parse_training(arguments, PROGRAM, default=sourceless)
    if config.data.dataset is None and config.data.train_file is None:
        return parse_training(arguments, PROGRAM, default=saved)
    return config


def train(config: TrainConfig, corpus: "Corpus", folder: "RunFolder", checkpoint: Path | None = None) -> None:
    """Trains one model.

    Args:
        config: all settings.
        corpus: with the splits "train" and "validation".
        folder: of the run; holds the delivered model afterwards.
        checkpoint: where to go on; None: begin anew.
    """
    from src.training.run import run
    from src.training.setup import set_up

    run(config, set_up(config, corpus), folder, checkpoint)


def fit(texts: Sequence[str], labels: Sequence[str | int], output_dir: str | Path, **options: Any) -> "Predictor":
    """Trains a classifier on Python lists, however few, and evaluates it on those same texts.

    Args:
        texts: the training texts.
        labels: one for each text; their sorted names become the classes, 0 and 1 become negative and positive.
        output_dir: folder of the run.
        options: any settings of `TrainConfig` and its groups by name, e.g. epochs=30; the rest is the recipe "sample",
            or "finetune" with model_name_or_path.

    Returns:
        The trained classifier, ready to predict. The whole process computes from here on as `set_up_arithmetic` says.

    Raises:
        UserError: as on the command line.
    """
    from src.data.sources import corpus_of_lists
    from src.evaluation.predictor import Predictor

    recipe = options.pop("recipe", "finetune" if "model_name_or_path" in options else SAMPLE)
    fresh = {} if recipe == "finetune" else {"min_frequency": 1}  # of few texts every word counts
    settings = resolve(recipe, options.pop("preset", None)) | fresh | options | {"output_dir": Path(output_dir)}
    config = with_options(TrainConfig(), settings)
    corpus = corpus_of_lists(texts, labels)
    folder = _new_run(config, corpus)
    train(config, corpus, folder)
    return Predictor.load(folder.path, config.run.device)


if __name__ == "__main__":
    run_program(main)
