"""The page to try a model on: sentences with reasons, and tables, built with gradio."""

import time
from collections import Counter
from functools import partial
from html import escape
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

from src.data.readers import TEXT_COLUMNS, read_rows
from src.evaluation.attribution import explain
from src.evaluation.predictions import write_table
from src.evaluation.predictor import Predictor
from src.evaluation.visualize import LEGEND, as_html, attention_maps, draw_attention
from src.utils.config import TableConfig
from src.utils.errors import UserError

EXAMPLE = "A gripping film, from its first scene to its last.\nTwo hours I will never get back."
SENTENCES, TEXT_CHARACTERS = 8, 2000  # of all sentences typed, and of each text of a table
CSV_BYTES, CSV_ROWS = 1_000_000, 1000
REQUESTS = 30  # of one client in a minute
# A browser loads from nowhere else. gradio's scripts are inline and evaluate templates.
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; form-action 'self'"
)
refusal = partial(gr.Error, print_exception=False)


class RateLimit:
    """Counts the requests of each client (an address), minute by minute."""

    def __init__(self) -> None:
        self.minute, self.requests = 0, Counter[str]()

    def count(self, client: str) -> None:
        """Counts a request; raises a `gradio.Error` if the client has had enough of them."""
        minute = int(time.time() // 60)
        if minute != self.minute:
            self.minute, self.requests = minute, Counter()
        self.requests[client] += 1
        if self.requests[client] > REQUESTS:
            raise refusal("Too many requests; wait a minute.")


def build(predictor: Predictor, title: str, folder: Path) -> Any:
    """Builds the page, a `gradio.Blocks`; files to show and to download are written into `folder`."""
    limit = RateLimit()

    def sentences(text: str, request: gr.Request) -> tuple[str, str]:
        limit.count(request.client.host)
        return explain_sentences(predictor, text, folder)

    def table(file: str | None, column: str, request: gr.Request) -> tuple[str, str]:
        limit.count(request.client.host)
        return classify_table(predictor, file, column, folder)

    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML(f"<h1>{escape(title)}</h1>")
        with gr.Tab("Sentences"):
            label = f"One sentence a line; {SENTENCES} of them, {TEXT_CHARACTERS:,} characters in all"
            text = gr.Textbox(EXAMPLE, label=label, lines=4, elem_id="sentences")
            button = gr.Button("Classify", variant="primary", elem_id="classify")
            explanations = gr.HTML(elem_id="explanations", padding=False)
            gr.HTML(f"<p><small>{escape(LEGEND)}</small></p>", padding=False)
            with gr.Accordion("Attention of the first sentence (not an explanation)", open=False):
                picture = gr.Image(
                    show_label=False, interactive=False, buttons=["fullscreen", "download"], elem_id="attention"
                )
            # One at a time, whatever is asked: the model is one, and what explains it hooks into it.
            button.click(sentences, text, [explanations, picture], concurrency_id="model", show_progress="minimal")
        with gr.Tab("A table"):
            label = f"A CSV file with a header; at most {CSV_BYTES:,} bytes and {CSV_ROWS:,} rows"
            file = gr.File(label=label, file_types=[".csv"], elem_id="upload")
            column = gr.Textbox(label=f"Column of texts; empty: {', '.join(TEXT_COLUMNS)}", elem_id="column")
            button = gr.Button("Classify the table", variant="primary", elem_id="classify-table")
            download = gr.File(label="With predictions", interactive=False, elem_id="download")
            said = gr.Markdown(elem_id="said")
            button.click(table, [file, column], [download, said], concurrency_id="model", show_progress="minimal")
    return page.queue(default_concurrency_limit=1, max_size=32)


def launch(page: Any, host: str, port: int, share: bool) -> None:
    """Serves the page in threads of its own; raises OSError where the address cannot be listened at."""
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
        app_kwargs={"middleware": [Middleware(BaseHTTPMiddleware, add_policy)], "docs_url": None, "redoc_url": None},
    )


async def add_policy(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """Adds the content security policy to a response of the server."""
    response = await call_next(request)
    response.headers["Content-Security-Policy"] = POLICY
    return response


def explain_sentences(predictor: Predictor, text: str, folder: Path) -> tuple[str, str]:
    """Explains the prediction for each line of a text, as HTML, and draws the attention maps of the first one."""
    lines = [line for line in text[:TEXT_CHARACTERS].splitlines() if line.strip()]
    if not lines:
        raise refusal("Type a sentence first.")
    cut = len(text) > TEXT_CHARACTERS or len(lines) > SENTENCES
    html = f"<p>Only the first {SENTENCES} sentences and {TEXT_CHARACTERS:,} characters are read.</p>" if cut else ""
    for prediction in predictor.predict(lines[:SENTENCES]):
        html += as_html(explain(predictor, prediction)) + f"<p><small>{prediction.remark or ''}</small></p>"
    picture = Path(mkdtemp(dir=folder)) / "attention.png"
    draw_attention(picture, *attention_maps(predictor, lines[0]), lines[0])
    return html, str(picture)


def classify_table(predictor: Predictor, file: str | None, column: str, folder: Path) -> tuple[str, str]:
    """Writes a CSV again with a label and its probability in each row, and says how many texts were cut."""
    if file is None:
        raise refusal("Choose a CSV file first.")
    try:
        rows, texts = read_rows(Path(file), TableConfig(text_column=column.strip() or None))
    except UserError as error:  # where the table lies is the server's business
        message = str(error).replace(file, "the table").replace("--text-column", "the field above")
        raise refusal(escape(message)) from None
    if len(rows) > CSV_ROWS:
        raise refusal(f"The table has {len(rows):,} rows, more than the {CSV_ROWS:,} this page takes; divide it.")
    output = Path(mkdtemp(dir=folder)) / "predictions.csv"
    predictions = predictor.predict([text[:TEXT_CHARACTERS] for (text,) in texts])
    with output.open("w", encoding="utf-8", newline="") as stream:
        write_table(stream, ".csv", rows, predictions)
    cut = sum(len(text) > TEXT_CHARACTERS for (text,) in texts)
    return str(output), f"{cut} texts were cut at {TEXT_CHARACTERS:,} characters." if cut else "Done."
