"""Train or fine-tune a BERT sentence classifier: `python -m src.train --help` lists every setting."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.utils.command_line import parse_training
from src.utils.config import SAMPLE, TrainConfig, resolve, training_config, with_options
from src.utils.errors import UserError, notice, run_program

if TYPE_CHECKING:
    from src.data.sources import Corpus
    from src.evaluation.predictor import Predictor
    from src.training.run_folder import RunFolder

PROGRAM = "python -m src.train"


def main(arguments: list[str]) -> None:
    """Parses the command line, trains, and prints the evaluation and, last, the folder of the run."""
    config = parse_training(arguments, PROGRAM)

    # Not above: --help should not wait for PyTorch.
    from src.data.sources import open_corpus
    from src.evaluation.metrics import Evaluation
    from src.training.start import find_checkpoint, new_run, refuse_changes

    if (found := find_checkpoint(config.run)) is not None:
        folder, checkpoint = found
        # How the run began says nothing about how it goes on.
        saved = with_options(training_config(folder.read_run()["config"]), {"overwrite": False, "resume": "never"})
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
        folder, checkpoint = new_run(config, corpus.name), None
    train(config, corpus, folder, checkpoint)
    print(Evaluation.from_dict(folder.read_evaluation()).as_text())
    print(f"\n{folder.path}")


def _settled(config: TrainConfig, corpus: "Corpus") -> TrainConfig:
    """Names data and model so that a later run finds them from any folder and under any environment."""
    model = config.model_name_or_path
    if model is not None and Path(model).is_dir():
        model = str(Path(model).resolve())
    return replace(config, data=corpus.source, model_name_or_path=model)


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
    from src.training.session import Session
    from src.training.setup import set_up
    from src.training.tracking import open_tracker
    from src.utils.config import options_of

    setup = set_up(config, corpus)
    if checkpoint is None:
        folder.begin(config, setup.data, setup.model)
    else:
        folder.resume(checkpoint, setup.trainer.state, setup.data)
    progress = setup.trainer.state.progress
    tracker = open_tracker(
        config.run.wandb,
        config.run.wandb_project,
        folder.path.name,
        options_of(config),
        folder.path,
        progress.tracker_run_id,
    )
    progress.tracker_run_id = tracker.run_id
    try:
        Session(setup.trainer, setup.classifier, setup.validation, folder, tracker, config.run).run()
    except UserError as error:
        tracker.finish(error.exit_code)
        raise
    folder.finish(progress.training_seconds)
    tracker.finish()


def fit(texts: Sequence[str], labels: Sequence[str | int], output_dir: str | Path, **options: Any) -> "Predictor":
    """Trains a classifier on Python lists, however few, and evaluates it on those same texts.

    Args:
        texts: the training texts.
        labels: one for each text; their sorted names become the classes, 0 and 1 become negative and positive.
        output_dir: folder of the run.
        options: any settings of `TrainConfig` and its groups by name, e.g. epochs=30; the rest is the recipe "sample",
            or "finetune" with model_name_or_path.

    Returns:
        The trained classifier, ready to predict.

    Raises:
        UserError: as on the command line.
    """
    from src.data.sources import corpus_of_lists
    from src.evaluation.predictor import Predictor
    from src.training.start import new_run

    recipe = options.pop("recipe", "finetune" if "model_name_or_path" in options else SAMPLE)
    fresh = {} if recipe == "finetune" else {"min_frequency": 1}  # of few texts every word counts
    settings = resolve(recipe, options.pop("preset", None)) | fresh | options | {"output_dir": Path(output_dir)}
    config = with_options(TrainConfig(), settings)
    corpus = corpus_of_lists(texts, labels)
    folder = new_run(config, corpus.name)
    train(config, corpus, folder)
    return Predictor.load(folder.path, config.run.device)


if __name__ == "__main__":
    run_program(main)
