"""Evaluate a checkpoint, classify texts, or fill gaps: `python -m src.inference --help` lists every option."""

import json
import logging
import os
import shutil
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from src.utils.cli import parse, run_program
from src.utils.config import NOT_NEGATIVE, DeviceConfig, EvaluatedData, PretrainConfig, TrainConfig, require
from src.utils.errors import StorageError, UsageError
from src.utils.files import new_file, write_json

if TYPE_CHECKING:
    from src.evaluation.predictor import Predictor

PROGRAM = "python -m src.inference"
logger = logging.getLogger("src.inference")


@dataclass(frozen=True)
class InferenceConfig(EvaluatedData, DeviceConfig):
    """Evaluate a checkpoint on a data split, classify texts, or fill the gaps of one."""

    texts: tuple[str, ...]
    """Texts to classify; with none, and no --file, the checkpoint is evaluated."""
    checkpoint: Path | None = None
    """Folder this project or transformers wrote; unset: the newest such model under weights/, else the shipped one."""
    fill_mask: str | None = None
    """Name the tokens that would fit each [MASK] of this text, with a pre-trained checkpoint."""
    file: Path | None = None
    """Classify this file, one text a line; - is standard input."""
    pairs: bool = False
    """Each text is two, separated by a tab, for models that compare two."""
    output: Path | None = None
    """Write the results to this file instead of standard output."""
    json: bool = False
    """Print JSON: one object for an evaluation, one line a text for predictions."""
    examples: int = 10
    """Rows in the table of examples that an evaluation prints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, NOT_NEGATIVE, "examples")
        if self.texts and self.file is not None:
            raise UsageError("texts on the command line and --file are two inputs; give one of them")
        if self.fill_mask is not None and (self.texts or self.file is not None or self.is_named):
            raise UsageError("--fill-mask takes one text of its own; drop the other texts and all options of data")
        if self.pairs and not self.texts and self.file is None:
            raise UsageError("--pairs goes with texts or --file; an evaluation takes --text-pair-column")
        if self.dataset is not None and (self.texts or self.file is not None):
            raise UsageError("--dataset is evaluated, texts and --file are classified; give one of them")
        if self.file is not None and self.output is not None and self.file.resolve() == self.output.resolve():
            raise UsageError(f"--output {self.output} would overwrite --file; choose another")


def main(arguments: list[str]) -> None:
    """Parses the command line, then fills gaps, classifies the texts it names, or evaluates if it names none."""
    config = parse(InferenceConfig, arguments, PROGRAM)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and (config.file is None or str(config.file) == "-"):
        raise UsageError("several processes share a --file; run anything else without torchrun")
    # Not above: --help should not wait for PyTorch.
    from src.evaluation.masked_lm import fill_mask
    from src.evaluation.predictions import predict_all, read_lines
    from src.evaluation.predictor import Predictor
    from src.interop.huggingface import load_masked_lm
    from src.utils.device import set_up_device
    from src.utils.distributed import is_main_process, process_group
    from src.utils.runs import newest_model

    with process_group():
        device = set_up_device(config.device, config.num_threads)
        folder = config.checkpoint or newest_model((TrainConfig if config.fill_mask is None else PretrainConfig).task)
        output = config.output if is_main_process() else None  # the others have nothing to say
        with nullcontext(sys.stdout) if output is None else new_file(output) as stream:
            if config.fill_mask is not None:
                candidates = fill_mask(load_masked_lm(folder), config.fill_mask, device=device)
                logger.info(f"checkpoint  {folder}")
                for candidate in candidates:
                    print(json.dumps(asdict(candidate)) if config.json else candidate.as_line(), file=stream)
                return
            predictor = Predictor.load(folder, config.device)
            logger.info(f"checkpoint  {folder}")
            if not config.texts and config.file is None:
                _evaluate(predictor, folder, config, stream)
                return
            texts = config.texts if config.file is None else read_lines(config.file)
            for prediction in predict_all(predictor, texts, config.pairs):
                print(prediction.as_json() if config.json else prediction.as_line(), file=stream)


def _evaluate(predictor: "Predictor", folder: Path, config: InferenceConfig, stream: TextIO) -> None:
    """Evaluates a model on a split, and writes evaluation-SPLIT.json into its folder."""
    from src.evaluation.metrics import evaluate, examples_table
    from src.evaluation.predictions import open_split

    names = predictor.classifier.label_names
    corpus = open_split(folder, config, names)
    split = corpus.splits[config.split]
    dataset = predictor.classifier.dataset(split.texts, split.labels, split.pairs)
    if any(dataset.truncated):
        logger.info(f"truncated   {sum(dataset.truncated):,} texts to {predictor.classifier.seq_len} tokens")
    logits = predictor.logits(dataset)
    evaluation = evaluate(logits, split.labels, names)
    numbers = evaluation.as_dict() | {"checkpoint": str(folder), "dataset": corpus.name}
    other = f"{Path(corpus.name).stem}-" if config.dataset is not None or corpus.is_fallback else ""
    try:
        write_json(folder / f"evaluation-{other}{config.split}.json", numbers)
    except StorageError as error:  # a read-only model folder is no reason not to print the numbers
        logger.info(f"not saved   {error}")
    if config.json:
        print(json.dumps(numbers), file=stream)
    else:
        width = shutil.get_terminal_size((100, 24)).columns
        examples = examples_table(split.texts, split.labels, logits, names, config.examples, width)
        print(f"{split.origin}\n\n{evaluation.as_text()}\n\n{examples}", file=stream)


if __name__ == "__main__":
    run_program(main)
