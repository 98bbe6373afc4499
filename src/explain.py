"""Why this answer: each word's contribution to it; `python -m src.explain --help` lists every option."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

from src.utils.cli import parse, run_program
from src.utils.errors import UsageError, notice, require_packages
from src.utils.files import results, writing
from src.utils.programs import ExplainConfig

if TYPE_CHECKING:
    from pathlib import Path

    from src.evaluation.predictor import Prediction, Predictor

PROGRAM = "python -m src.explain"


def main(arguments: list[str]) -> None:
    """Parses the command line, then explains the answer to every text it names."""
    config = parse(ExplainConfig, arguments, PROGRAM)
    require_packages("an explanation", "captum")
    # Not above: --help should not wait for PyTorch.
    from src.evaluation.prediction_lines import predict_all, read_lines
    from src.evaluation.predictor import Predictor
    from src.utils.device import set_up_device
    from src.utils.runs import newest_classifier

    set_up_device(config.device, config.num_threads)
    folder = config.checkpoint or newest_classifier()
    predictor = Predictor.load(folder, config.device)
    notice(f"checkpoint  {folder}")
    texts = iter(config.texts) if config.file is None else read_lines(config.file)
    predictions = predict_all(predictor, texts, config.pairs)
    if config.attention is not None:
        predictions = iter([only := next(predictions)])
        if only.label is None:
            raise UsageError("--attention draws one text, and this one is blank; give one that says something")
        _draw(predictor, only, config.attention)
    with results("standard output", None) as stream:
        _explain(predictor, predictions, stream, config.html)


def _draw(predictor: "Predictor", prediction: "Prediction", path: "Path") -> None:
    from src.evaluation.attention_maps import attention_maps, draw_attention

    maps = attention_maps(predictor, prediction.text, prediction.pair)
    with writing("--attention", path):
        draw_attention(path, maps, prediction.text)
    notice(f"attention   {path}")


def _explain(predictor: "Predictor", predictions: Iterable["Prediction"], stream: TextIO, html: "Path | None") -> None:
    from src.evaluation.coloured import html_page

    elements = _explain_each(predictor, predictions, stream)
    if html is None:
        for _ in elements:
            pass
        return
    with results("--html", html) as page:
        for piece in html_page("Why this answer", elements):
            page.write(piece)
    notice(f"page        {html}")


def _explain_each(predictor: "Predictor", predictions: Iterable["Prediction"], stream: TextIO) -> Iterator[str]:
    """Prints every explanation, and gives it as HTML."""
    from src.evaluation.attribution import explain
    from src.evaluation.coloured import as_html, as_plain, as_terminal, wants_colour
    from src.evaluation.prediction_lines import as_line

    format_one = as_terminal if wants_colour(stream) else as_plain
    for number, prediction in enumerate(predictions):
        separator = "\n" if number else ""
        if prediction.label is None:
            print(f"{separator}{as_line(prediction)}", file=stream)
            continue
        explanation = explain(predictor, prediction)
        print(f"{separator}{format_one(explanation)}", file=stream, flush=True)
        yield as_html(explanation)


if __name__ == "__main__":
    run_program(main)
