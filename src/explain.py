"""Why this answer: each word's contribution to it; `python -m src.explain --help` lists every option."""

import logging
import os
from contextlib import nullcontext

from src.utils.cli import parse, run_program
from src.utils.errors import UsageError, require_packages
from src.utils.files import results, writing
from src.utils.programs import ExplainConfig

PROGRAM = "python -m src.explain"
logger = logging.getLogger("src.explain")


def main(arguments: list[str]) -> None:
    """Parses the command line, then explains the answer to every text it names."""
    config = parse(ExplainConfig, arguments, PROGRAM)
    require_packages("an explanation", "captum")
    # Not above: --help should not wait for PyTorch.
    from src.evaluation import visualize
    from src.evaluation.attribution import explain
    from src.evaluation.predictions import predict_all, read_lines
    from src.evaluation.predictor import Predictor
    from src.utils.device import set_up_device
    from src.utils.runs import newest_classifier

    set_up_device(config.device, config.num_threads)
    folder = config.checkpoint or newest_classifier()
    predictor = Predictor.load(folder, config.device)
    logger.info(f"checkpoint  {folder}")
    texts = iter(config.texts) if config.file is None else read_lines(config.file)
    predictions = predict_all(predictor, texts, config.pairs)
    if config.attention is not None:
        predictions = iter([only := next(predictions)])
        if only.label is None:
            raise UsageError("--attention draws one text, and this one is blank; give one that says something")
        with writing("--attention", config.attention):
            maps = visualize.attention_maps(predictor, only.text, only.pair)
            visualize.draw_attention(config.attention, *maps, only.text)
        logger.info(f"attention   {config.attention}")
    page = nullcontext() if config.html is None else results("--html", config.html)
    with results("standard output", None) as stream, page as html:
        in_color = stream.isatty() and not os.environ.get("NO_COLOR")  # no-color.org
        elements = []
        for number, prediction in enumerate(predictions):
            blank_line = "\n" if number else ""
            if prediction.label is None:
                print(f"{blank_line}{prediction.as_line()}", file=stream)
                continue
            explanation = explain(predictor, prediction)
            print(f"{blank_line}{visualize.as_text(explanation, in_color)}", file=stream, flush=True)
            elements.append(visualize.as_html(explanation))
        if html is not None:
            html.write(visualize.html_page(elements))
    if config.html is not None:
        logger.info(f"page        {config.html}")


if __name__ == "__main__":
    run_program(main)
