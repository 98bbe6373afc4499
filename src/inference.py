"""Evaluate a checkpoint, classify texts, or fill gaps: `python -m src.inference --help` lists every option."""

import json
import logging
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from src.utils.cli import parse, run_program
from src.utils.errors import StorageError, UsageError
from src.utils.files import replace_json, results
from src.utils.programs import InferenceConfig

if TYPE_CHECKING:
    from src.evaluation.predictor import Predictor

PROGRAM = "python -m src.inference"
logger = logging.getLogger("src.inference")


def main(arguments: list[str]) -> None:
    """Parses the command line, then fills gaps, classifies the texts it names, or evaluates if it names none."""
    config = parse(InferenceConfig, arguments, PROGRAM)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and (config.file is None or str(config.file) == "-"):
        raise UsageError("several processes share a --file; run anything else without torchrun")
    if config.fill_mask is not None:
        _fill_mask(config, config.fill_mask)
        return
    # Not above: --help should not wait for PyTorch.
    from src.evaluation.predictions import predict_all, read_lines
    from src.evaluation.predictor import Predictor
    from src.utils.device import set_up_device
    from src.utils.distributed import is_main_process, process_group
    from src.utils.runs import newest_classifier

    with process_group():
        set_up_device(config.device, config.num_threads)
        folder = config.checkpoint or newest_classifier()
        predictor = Predictor.load(folder, config.device)
        logger.info(f"checkpoint  {folder}")
        with results("--output", config.output) if is_main_process() else Path(os.devnull).open("w") as stream:
            if not config.texts and config.file is None:
                _evaluate(predictor, folder, config, stream)
                return
            texts = config.texts if config.file is None else read_lines(config.file)
            for prediction in predict_all(predictor, texts, config.pairs):
                print(prediction.as_json() if config.json else prediction.as_line(), file=stream)


def _fill_mask(config: InferenceConfig, text: str) -> None:
    from src.evaluation.masked_lm import fill_mask
    from src.interop.huggingface import load_masked_lm
    from src.utils.device import set_up_device
    from src.utils.runs import newest_masked_lm

    device = set_up_device(config.device, config.num_threads)
    folder = config.checkpoint or newest_masked_lm()
    logger.info(f"checkpoint  {folder}")
    with results("--output", config.output) as stream:
        for candidate in fill_mask(load_masked_lm(folder), text, device=device):
            print(json.dumps(asdict(candidate)) if config.json else candidate.as_line(), file=stream)


def _evaluate(predictor: "Predictor", folder: Path, config: InferenceConfig, stream: TextIO) -> None:
    """Evaluates a model on a split, and writes evaluation-SPLIT.json into its folder."""
    from src.evaluation.examples import draw_examples, examples_table
    from src.evaluation.metrics import evaluate
    from src.evaluation.predictions import open_split

    names = predictor.classifier.label_names
    corpus = open_split(folder, config, names)
    split = corpus.splits[config.split]
    dataset = predictor.dataset(split.texts, split.labels, split.pairs)
    if any(dataset.truncated):
        logger.info(f"truncated   {sum(dataset.truncated):,} texts to {predictor.classifier.seq_len} tokens")
    logits = predictor.logits(dataset)
    evaluation = evaluate(logits, split.labels, names)
    numbers = evaluation.as_dict() | {"checkpoint": str(folder), "dataset": corpus.name}
    other = f"{Path(corpus.name).stem}-" if config.dataset is not None or corpus.is_fallback else ""
    try:
        replace_json(folder / f"evaluation-{other}{config.split}.json", numbers)
    except StorageError as error:  # a read-only model folder is no reason not to print the numbers
        logger.info(f"not saved   {error}")
    if config.json:
        print(json.dumps(numbers), file=stream)
    else:
        examples = draw_examples(split.texts, split.labels, logits, names, config.examples, seed=0)
        print(f"{split.origin}\n\n{evaluation.as_text()}\n", file=stream)
        print(examples_table(examples, shutil.get_terminal_size((100, 24)).columns), file=stream)


if __name__ == "__main__":
    run_program(main)
