"""Evaluate a checkpoint, classify texts, or fill gaps: `python -m src.inference --help` lists every option."""

import json
import logging
import os
import shutil
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

from src.data.readers import DELIMITED, FORMATS, read_rows, table_suffix
from src.utils.cli import parse, run_program
from src.utils.config import NOT_NEGATIVE, DeviceConfig, EvaluatedData, PretrainConfig, TrainConfig, require
from src.utils.errors import StorageError, UsageError
from src.utils.files import new_file, write_json

if TYPE_CHECKING:
    from src.evaluation.predictor import Predictor

PROGRAM = "python -m src.inference"
OF_DATA = {f.name for f in fields(EvaluatedData)}
OPTIONS = {  # of one kind of input, which mean nothing to others
    "an evaluation": {"examples", *OF_DATA},
    "a table in --file": {"scores", *OF_DATA} - {"dataset", "split", "label_column"},
    "texts, also of --file": {"pairs"},
}
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
    """Classify this file: a text a line (- is standard input), or a table, whose rows come back with labels."""
    pairs: bool = False
    """Each text is two, separated by a tab, for models that compare two."""
    output: Path | None = None
    """Write the results to this file instead of standard output; those of a table as .csv, .tsv or .jsonl."""
    json: bool = False
    """Print JSON: one object for an evaluation, one line a text, with the scores of all classes, for predictions."""
    scores: bool = False
    """Write the score of every class beside the rows of a table, too."""
    examples: int = 10
    """Rows in the table of examples that an evaluation prints, if each text has one class."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, NOT_NEGATIVE, "examples")
        if (self.fill_mask is not None) + bool(self.texts) + (self.file is not None) > 1:
            raise UsageError("texts on the command line, --file and --fill-mask are three inputs; give one of them")
        kind = "texts, also of --file" if self.table_format is None else "a table in --file"
        if not self.texts and self.file is None:
            kind = "an evaluation" if self.fill_mask is None else "--fill-mask"
        for f in fields(self):
            kinds = [kind for kind, names in OPTIONS.items() if f.name in names]
            if kinds and kind not in kinds and getattr(self, f.name) != f.default:
                option = "--no-header" if f.name == "header" else f"--{f.name}".replace("_", "-")
                raise UsageError(f"{option} is for {' or '.join(kinds)}, not for {kind}; drop it")
        if self.output is not None and self.table_format not in (None, self.output.suffix.lower()):
            raise UsageError(f"--output {self.output}: a table ends in .csv, .tsv or .jsonl, with --json in .jsonl")
        if self.file is not None and self.output is not None and self.file.resolve() == self.output.resolve():
            raise UsageError(f"--output {self.output} would overwrite --file; choose another")

    @property
    def table_format(self) -> str | None:
        """Suffix of the format in which the rows of --file are written again, if it is a table."""
        if self.file is None or table_suffix(self.file) not in FORMATS:
            return None
        suffix = table_suffix(self.file) if self.output is None else self.output.suffix.lower()
        return suffix if suffix in DELIMITED and not self.json else ".jsonl"


def main(arguments: list[str]) -> None:
    """Parses the command line, then fills gaps, classifies the texts it names, or evaluates if it names none."""
    config = parse(InferenceConfig, arguments, PROGRAM)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and (config.file is None or str(config.file) == "-"):
        raise UsageError("several processes share a --file; run anything else without torchrun")
    # Not above: --help should not wait for PyTorch.
    from src.evaluation.masked_lm import fill_mask
    from src.evaluation.predictions import predict_all, read_lines, write_table
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
            is_shown = sys.stderr is not None and sys.stderr.isatty() and not stream.isatty()
            progress = partial(tqdm, unit=" texts", leave=False, disable=not is_shown)
            if config.file is not None and config.table_format is not None:
                rows, texts = read_rows(config.file, config)
                predictions = progress(predict_all(predictor, texts), total=len(rows))
                scored = predictor.classifier.label_names if config.scores or config.json else ()
                write_table(stream, config.table_format, rows, predictions, scored)
                return
            lines = config.texts if config.file is None else read_lines(config.file)
            for prediction in progress(predict_all(predictor, lines, config.pairs)):
                print(prediction.as_json() if config.json else prediction.as_line(), file=stream)


def _evaluate(predictor: "Predictor", folder: Path, config: InferenceConfig, stream: TextIO) -> None:
    """Evaluates a model on a split, and writes evaluation-SPLIT.json into its folder."""
    from src.evaluation.metrics import EVALUATIONS, Evaluation, examples_table
    from src.evaluation.predictions import open_split

    names, (_, evaluate) = predictor.classifier.label_names, EVALUATIONS[predictor.model.config.problem_type]
    corpus = open_split(folder, config, predictor.classifier)
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
        return
    print(f"{split.origin}\n\n{evaluation.as_text()}", file=stream)
    if isinstance(evaluation, Evaluation):
        width = shutil.get_terminal_size((100, 24)).columns
        examples = examples_table(split.texts, split.labels, logits, names, config.examples, width)
        print(f"\n{examples}", file=stream)


if __name__ == "__main__":
    run_program(main)
