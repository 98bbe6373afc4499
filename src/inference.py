"""Evaluate a checkpoint, classify texts, or fill gaps: `python -m src.inference --help` lists every option."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from src.utils.cli import parse, run_program
from src.utils.errors import UsageError, notice
from src.utils.files import results, writing
from src.utils.programs import InferenceConfig

if TYPE_CHECKING:
    from src.evaluation.predictor import Predictor

PROGRAM = "python -m src.inference"


def main(arguments: list[str]) -> None:
    """Parses the command line, then classifies the texts it names, or evaluates if it names none."""
    config = parse(InferenceConfig, arguments, PROGRAM)
    _refuse_contradictions(config)

    if config.fill_mask is not None:
        _fill_mask(config, config.fill_mask)
        return
    # Not above: --help should not wait for PyTorch.
    from src.evaluation.predictor import Predictor
    from src.utils.device import set_up_device
    from src.utils.distributed import process_group, world_size
    from src.utils.runs import newest_classifier

    with process_group():
        set_up_device(config.device, config.num_threads)
        folder = config.checkpoint or newest_classifier()
        predictor = Predictor.load(folder, config.device)
        notice(f"checkpoint  {folder}")
        if world_size() > 1 and config.file is not None and config.output is not None:
            _classify_together(predictor, config, config.file, config.output)
            return
        with results("--output", config.output) as stream:
            if config.texts or config.file is not None:
                _classify(predictor, config, stream)
            else:
                _evaluate(predictor, folder, config, stream)


def _refuse_contradictions(config: InferenceConfig) -> None:
    if config.file is not None and config.output is not None and config.file.resolve() == config.output.resolve():
        raise UsageError(f"--output {config.output} would overwrite --file; choose another")
    is_shareable = config.output is not None and config.file is not None and str(config.file) != "-"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not is_shareable:
        raise UsageError("several processes share --file, and write --output; run anything else without torchrun")


def _fill_mask(config: InferenceConfig, text: str) -> None:
    from src.evaluation.fill_mask import fill_mask
    from src.interop.huggingface import load_masked_lm
    from src.utils.device import set_up_device
    from src.utils.runs import newest_masked_lm

    device = set_up_device(config.device, config.num_threads)
    folder = config.checkpoint or newest_masked_lm()
    notice(f"checkpoint  {folder}")
    with results("--output", config.output) as stream:
        for candidate in fill_mask(load_masked_lm(folder), text, device=device):
            line = json.dumps(asdict(candidate)) if config.json else candidate.as_line()
            print(line, file=stream)


def _classify(predictor: "Predictor", config: InferenceConfig, stream: TextIO) -> None:
    from src.evaluation.prediction_lines import as_json, as_line, predict_all, read_lines

    texts = iter(config.texts) if config.file is None else read_lines(config.file)
    for prediction in predict_all(predictor, texts, config.pairs):
        print(as_json(prediction) if config.json else as_line(prediction), file=stream)


def _classify_together(predictor: "Predictor", config: InferenceConfig, file: Path, output: Path) -> None:
    """Classifies a file in all processes that torchrun started; the first one joins their shares."""
    from src.evaluation.prediction_lines import as_json, as_line, join_shares, read_lines, write_share
    from src.utils.distributed import all_gather_object, barrier, is_main_process, rank

    share = output.with_name(f".{output.name}.{rank()}")
    try:
        with writing("--output", output):
            sizes = write_share(predictor, read_lines(file), config.pairs, as_json if config.json else as_line, share)
        shares, all_sizes = all_gather_object(share), all_gather_object(sizes)  # by now all are complete
        if is_main_process():
            with results("--output", output) as stream:
                join_shares(shares, all_sizes, stream)
        barrier()
    finally:
        share.unlink(missing_ok=True)


def _evaluate(predictor: "Predictor", folder: Path, config: InferenceConfig, stream: TextIO) -> None:
    from src.evaluation.examples import examples_table
    from src.evaluation.split import evaluate_split

    result = evaluate_split(predictor, folder, config)
    if config.json:
        print(result.as_json(), file=stream)
    else:
        print(f"{result.origin}\n\n{result.evaluation.as_text()}\n", file=stream)
        print(examples_table(result.examples, shutil.get_terminal_size((100, 24)).columns), file=stream)


if __name__ == "__main__":
    run_program(main)
