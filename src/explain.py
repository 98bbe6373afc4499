"""Why this answer: each word's contribution to it; `python -m src.explain --help` lists every option."""

import logging
import os
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from src.utils.cli import parse, run_program
from src.utils.config import DeviceConfig
from src.utils.errors import UsageError, require_packages
from src.utils.files import new_file, storage_errors

PROGRAM = "python -m src.explain"
logger = logging.getLogger("src.explain")


@dataclass(frozen=True)
class ExplainConfig(DeviceConfig):
    """Say what each word of a text contributes to the class the model predicts, by integrated gradients."""

    texts: tuple[str, ...]
    """Texts to explain."""
    checkpoint: Path | None = None
    """Folder this project or transformers wrote; unset: the newest classifier under weights/, else the shipped one."""
    file: Path | None = None
    """Explain this file, one text a line; - is standard input."""
    pairs: bool = False
    """Each text is two, separated by a tab, for models that compare two."""
    html: Path | None = None
    """Also write the coloured words to this HTML page."""
    attention: Path | None = None
    """Also draw the attention weights of all heads, of the one text given, into this PNG; they are no explanation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.texts) == (self.file is not None):
            raise UsageError("give texts on the command line, or --file, one of them")
        if self.attention is not None and len(self.texts) != 1:
            raise UsageError("--attention draws one text; give exactly one, on the command line")
        if self.html and self.html.resolve() in [path.resolve() for path in (self.file, self.attention) if path]:
            raise UsageError(f"--html {self.html} is also the file of --file or --attention; choose another")


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
    from src.utils.runs import newest_model

    set_up_device(config.device, config.num_threads)
    folder = config.checkpoint or newest_model()
    predictor = Predictor.load(folder, config.device)
    logger.info(f"checkpoint  {folder}")
    texts = iter(config.texts) if config.file is None else read_lines(config.file)
    predictions = predict_all(predictor, texts, config.pairs)
    if config.attention is not None:
        predictions = iter([only := next(predictions)])
        if only.label is None:
            raise UsageError("--attention draws one text, and this one is blank; give one that says something")
        with storage_errors(config.attention):
            maps = visualize.attention_maps(predictor, only.text, only.pair)
            visualize.draw_attention(config.attention, *maps, only.text)
        logger.info(f"attention   {config.attention}")
    with nullcontext() if config.html is None else new_file(config.html) as html:
        in_color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")  # no-color.org
        elements = []
        for number, prediction in enumerate(predictions):
            shown = prediction.as_line()
            if prediction.label is not None:
                explanation = explain(predictor, prediction)
                shown = visualize.as_text(explanation, in_color)
                elements.append(visualize.as_html(explanation))
            print(f"\n{shown}" if number else shown, flush=True)
        if html is not None:
            html.write(visualize.html_page(elements))
    if config.html is not None:
        logger.info(f"page        {config.html}")


if __name__ == "__main__":
    run_program(main)
