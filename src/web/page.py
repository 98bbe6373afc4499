"""The page to try a model on: sentences with reasons, and tables, built with gradio."""

from html import escape
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from src.evaluation.attribution import explain
from src.evaluation.prediction_lines import remark
from src.evaluation.predictor import Predictor
from src.evaluation.visualize import LEGEND, as_html, attention_maps, draw_attention
from src.utils.errors import UserError
from src.web.guard import Guard
from src.web.limits import CSV_BYTES, CSV_ROWS, SENTENCES, TEXT_CHARACTERS, RateLimit
from src.web.table import classify_table

EXAMPLE = "A gripping film, from its first scene to its last.\nTwo hours I will never get back."


class Visit:
    """What the page's buttons do; every answer is counted against the client's limit.

    Args:
        predictor: the model.
        limit: of requests.
        folder: for files to show and to download; the server deletes it at its end.
    """

    def __init__(self, predictor: Predictor, limit: RateLimit, folder: Path):
        self.predictor = predictor
        self.limit = limit
        self.folder = folder

    def answer(self, text: str, request: gr.Request) -> tuple[str, str]:
        """Explains the answer to each line of a text, as HTML, and draws the attention maps of the first one."""
        self._count(request)
        lines = [line for line in text[:TEXT_CHARACTERS].splitlines() if line.strip()]
        if not lines:
            raise gr.Error("Type a sentence first.", print_exception=False)
        cut = len(text) > TEXT_CHARACTERS or len(lines) > SENTENCES
        lines = lines[:SENTENCES]
        picture = Path(mkdtemp(dir=self.folder)) / "attention.png"
        draw_attention(picture, *attention_maps(self.predictor, lines[0]), lines[0])
        notice = f"Only the first {SENTENCES} sentences and {TEXT_CHARACTERS:,} characters are read." if cut else ""
        return _paragraph(notice) + "".join(map(self._explained, lines)), str(picture)

    def table(self, file: str | None, column: str, request: gr.Request) -> tuple[str, str]:
        """Classifies a CSV, and returns one with predictions and what to say of it."""
        self._count(request)
        if file is None:
            raise gr.Error("Choose a CSV file first.", print_exception=False)
        output = Path(mkdtemp(dir=self.folder)) / "predictions.csv"
        try:
            cut = classify_table(self.predictor, Path(file), column or "", output)
        except UserError as error:
            raise gr.Error(escape(str(error)), print_exception=False) from None
        return str(output), f"{cut} texts were cut at {TEXT_CHARACTERS:,} characters." if cut else "Done."

    def _explained(self, line: str) -> str:
        (prediction,) = self.predictor.predict([line])
        said = remark(prediction, self.predictor.classifier.seq_len) or ""
        return as_html(explain(self.predictor, prediction)) + _paragraph(said)

    def _count(self, request: gr.Request) -> None:
        if not self.limit.allows(request.client.host):
            raise gr.Error("Too many requests; wait a minute.", print_exception=False)


def build(visit: Visit, title: str) -> Any:
    """Lays the page out.

    Args:
        visit: what its buttons do.
        title: of the page, plain text.

    Returns:
        A `gradio.Blocks`, not yet served.
    """
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML(f"<h1>{escape(title)}</h1>")
        with gr.Tab("Sentences"):
            _sentences(visit)
        with gr.Tab("A table"):
            _table(visit)
    page.queue(default_concurrency_limit=1, max_size=32)
    return page


def launch(page: Any, limit: RateLimit, host: str, port: int, share: bool) -> None:
    """Serves the page in threads of its own.

    Args:
        page: what `build` returned.
        limit: counts uploads, together with what the page's buttons count.
        host: address to listen at.
        port: port to listen at.
        share: also get a public link, through gradio's server.

    Raises:
        OSError: the address cannot be listened at.
    """
    page.launch(
        server_name=host,
        server_port=port,
        share=share,
        prevent_thread_lock=True,
        quiet=True,
        max_file_size=CSV_BYTES,
        theme=gr.themes.Base(font=["sans-serif"], font_mono=["monospace"]),
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        app_kwargs={"middleware": [Middleware(Guard, limit=limit)], "docs_url": None, "redoc_url": None},
    )


def _sentences(visit: Visit) -> None:
    label = f"One sentence a line; {SENTENCES} of them, {TEXT_CHARACTERS:,} characters in all"
    text = gr.Textbox(EXAMPLE, label=label, lines=4, elem_id="sentences")
    button = gr.Button("Classify", variant="primary", elem_id="classify")
    answers = gr.HTML(elem_id="answers", padding=False)
    gr.HTML(f"<p><small>{escape(LEGEND)}</small></p>", padding=False)
    with gr.Accordion("Attention of the first sentence (not an explanation)", open=False):
        picture = gr.Image(show_label=False, interactive=False, buttons=["fullscreen", "download"], elem_id="attention")
    # One at a time, whatever is asked: the model is one, and what explains it hooks into it.
    button.click(visit.answer, text, [answers, picture], concurrency_id="model", show_progress="minimal")


def _table(visit: Visit) -> None:
    label = f"A CSV file with a header; at most {CSV_BYTES:,} bytes and {CSV_ROWS:,} rows"
    file = gr.File(label=label, file_types=[".csv"], elem_id="upload")
    column = gr.Textbox(label="Column of texts; empty: sentence, text, review or content", elem_id="column")
    button = gr.Button("Classify the table", variant="primary", elem_id="classify-table")
    download = gr.File(label="With predictions", interactive=False, elem_id="download")
    said = gr.Markdown(elem_id="said")
    button.click(visit.table, [file, column], [download, said], concurrency_id="model", show_progress="minimal")


def _paragraph(text: str) -> str:
    return f"<p><small>{escape(text)}</small></p>" if text else ""
