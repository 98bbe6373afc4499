"""Evaluates a model folder on a split of a corpus, and leaves the numbers beside the model."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from src.data.sources import Corpus, open_corpus
from src.evaluation.examples import Example, draw_examples
from src.evaluation.metrics import Evaluation, evaluate
from src.evaluation.predictor import Predictor
from src.utils.config import DataConfig, TrainConfig
from src.utils.errors import DataError, StorageError, notice
from src.utils.files import replace_json
from src.utils.programs import EvaluatedData, InferenceConfig
from src.utils.runs import RUN, config_of


@dataclass(frozen=True)
class SplitEvaluation:
    """A model's numbers on a split, with examples drawn from it."""

    evaluation: Evaluation
    examples: list[Example]
    checkpoint: str
    dataset: str
    origin: str

    def as_json(self) -> str:
        """Formats the numbers as one JSON object on one line."""
        return json.dumps(self.evaluation.as_dict() | {"checkpoint": self.checkpoint, "dataset": self.dataset})


def evaluate_split(predictor: Predictor, folder: Path, config: InferenceConfig) -> SplitEvaluation:
    """Evaluates a model and writes evaluation-SPLIT.json into its folder.

    Args:
        predictor: the model.
        folder: where it was loaded from.
        config: names the data and the split; without data, what run.json says the model was trained on.

    Returns:
        The numbers and a few examples, drawn by a fixed seed.

    Raises:
        DataError: the data cannot be read or its labels are not the model's.
    """
    corpus = open_split(folder, config, predictor.classifier.label_names)
    split = corpus.splits[config.split]
    dataset = predictor.dataset(split.texts, split.labels, split.pairs)
    if any(dataset.truncated):
        notice(f"not whole   {sum(dataset.truncated):,} texts are longer than {predictor.classifier.seq_len} tokens")
    logits = predictor.logits(dataset)
    names = predictor.classifier.label_names
    evaluation = evaluate(logits, split.labels, names)
    examples = draw_examples(split.texts, split.labels, logits, names, config.examples, seed=0)
    result = SplitEvaluation(evaluation, examples, str(folder), corpus.name, split.origin)
    other = f"{Path(corpus.name).stem}-" if config.dataset is not None or corpus.is_fallback else ""
    _leave_beside_model(folder / f"evaluation-{other}{config.split}.json", json.loads(result.as_json()))
    return result


def open_split(
    folder: Path, config: EvaluatedData, label_names: tuple[str, ...], allow_unlabelled: bool = False
) -> Corpus:
    """Opens the split to evaluate on, without data named that of the corpus the model was trained on.

    Args:
        folder: of the model.
        config: names the data and the split.
        label_names: of the model.
        allow_unlabelled: accept a split without labels.

    Returns:
        A corpus that holds the split.

    Raises:
        DataError: the data cannot be read or its labels are not the model's.
    """
    named = config.dataset is not None or not (folder / RUN).exists()
    if named:
        data = DataConfig(
            dataset=config.dataset,
            text_column=config.text_column,
            label_column=config.label_column,
            text_pair_column=config.text_pair_column,
        )
        return open_corpus(data, (config.split,), label_names, allow_unlabelled=allow_unlabelled)
    trained = config_of(folder, TrainConfig())
    columns = {name: getattr(config, name) for name in ("text_column", "label_column", "text_pair_column")}
    data = replace(trained.data, **{name: column for name, column in columns.items() if column is not None})
    if data.train_file is None and data.dataset is None:
        raise DataError(
            f"{folder} was trained on Python lists, which are gone; name data to evaluate on with --dataset"
        )
    # A validation part drawn from the training rows or phrases is drawn again, by the same seed.
    drawn = bool(data.holdout) or (data.train_file is not None and data.validation_file is None)
    splits = ("train", config.split) if drawn else (config.split,)
    return open_corpus(data, splits, label_names, trained.run.seed, allow_unlabelled)


def _leave_beside_model(path: Path, numbers: dict[str, Any]) -> None:
    try:
        replace_json(path, numbers)
    except StorageError as error:  # a read-only model folder is no reason not to print the numbers
        notice(f"not saved   {error}")
