"""The page to try a model on: sentences with reasons, and tables, built with gradio."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

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
BODY_BYTES = 2_000_000  # of a request, with its files and fields
CALLS, PLACES, CLIENT_PLACES = 30, 8, 2  # of one client in a minute, at a time of all, and of one client
CLIENT_CONNECTIONS, IDLE_SECONDS = 64, 10
# What the page in a browser asks for. gradio serves more: it would also fetch a URL for whoever names it.
SERVED = re.compile(
    r"(GET|HEAD) /|GET /(theme\.css|favicon\.ico|manifest\.json|(assets|static)/.*)|"
    r"GET /gradio_api/(startup-events|upload_progress|file=(?!https?:).*)|POST /gradio_api/(upload|run/predict)"
)
# A browser loads from nowhere else. gradio's scripts are inline and evaluate templates.
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; form-action 'self'"
)
BUSY = "Too much is asked; wait a minute."


class Gate:
    """Lets in what the page asks for, and as many calls of a client (an address) as one may have."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.minute = app, 0
        self.calls, self.running = Counter[str](), Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request: with 404, with 429, or as gradio does."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        app, client, calls = self.app, scope["client"][0], scope["method"] == "POST"
        if not SERVED.fullmatch(f"{scope['method']} {scope['path']}"):
            app, calls = PlainTextResponse("Not Found", 404), False
        elif calls and not self.admits(client):
            await asyncio.sleep(1)  # who asks again at once takes no time from the others
            app, calls = JSONResponse({"error": BUSY}, 429), False
        self.running[client] += calls
        try:
            await app(scope, receive, send_with_policy)
        finally:
            self.running[client] -= calls

    def admits(self, client: str) -> bool:
        """Counts a call; says no if the client has had its calls of this minute, or its or all places are taken."""
        if (minute := int(time.time() // 60)) != self.minute:
            self.minute, self.calls, self.running = minute, Counter(), +self.running
        self.calls[client] += 1
        free = self.running[client] < CLIENT_PLACES and self.running.total() < PLACES
        return free and self.calls[client] <= CALLS


class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """A connection to the server, which closes idle ones, and what is too much of one address."""

    def connection_made(self, transport: Any) -> None:
        """Begins; a proxy that is trusted counts the connections itself."""
        super().connection_made(transport)
        same = sum(other.client[0] == self.client[0] for other in self.connections)
        if same > CLIENT_CONNECTIONS and not self.config.forwarded_allow_ips:
            transport.close()
        self.loop.call_later(IDLE_SECONDS, self.close_if_idle, None)

    def close_if_idle(self, last: Any) -> None:
        """Closes the connection if the `last` request is answered and no other came; else looks again later."""
        if self.cycle is last and (last is None or last.response_complete):
            self.transport.close()
        elif not self.transport.is_closing():
            self.loop.call_later(IDLE_SECONDS, self.close_if_idle, self.cycle)


def build(predictor: Predictor, title: str, folder: Path) -> Any:
    """Builds the page, a `gradio.Blocks`; files to show and to download are written into `folder`."""

    def answer(button: gr.Button, function: Any, inputs: list[Any], outputs: list[Any]) -> None:
        # Not through gradio's queue: a call is one request, and the gate sees when it ends.
        function = partial(function, predictor, folder=folder)
        asked = button.click(function, inputs, outputs, queue=False, show_progress="minimal")
        asked.failure(None, None, outputs, js=f"() => ['{BUSY}', null]")

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
            answer(button, explain_sentences, [text], [explanations, picture])
        with gr.Tab("A table"):
            label = f"A CSV file with a header; at most {CSV_BYTES:,} bytes and {CSV_ROWS:,} rows"
            file = gr.File(label=label, file_types=[".csv"], elem_id="upload")
            column = gr.Textbox(label=f"Column of texts; empty: {', '.join(TEXT_COLUMNS)}", elem_id="column")
            button = gr.Button("Classify the table", variant="primary", elem_id="classify-table")
            download = gr.File(label="With predictions", interactive=False, elem_id="download")
            said = gr.HTML(elem_id="said")
            answer(button, classify_table, [file, column], [said, download])
    return page


def launch(page: Any, host: str, port: int, share: bool, allowed_hosts: Sequence[str]) -> None:
    """Serves the page in threads of its own; raises OSError where the address cannot be listened at."""
    gr.processing_utils.async_ssrf_protected_download = refuse_url
    hosts = ["127.0.0.1", "localhost", "[::1]", host, *allowed_hosts, *(["*.gradio.live"] if share else [])]
    middleware = [Middleware(TrustedHostMiddleware, hosts, www_redirect=False), Middleware(Gate)]
    middleware.append(Middleware(RequestBodyLimitMiddleware, BODY_BYTES))
    page.launch(
        server_name=host,
        server_port=port,
        share=share,
        prevent_thread_lock=True,
        quiet=True,
        max_file_size=CSV_BYTES,
        max_threads=1,  # one call at a time: the model is one, and what explains it hooks into it
        state_session_capacity=PLACES,  # gradio keeps what each of the last sessions typed
        theme=gr.themes.Base(font=["sans-serif"], font_mono=["monospace"]),
        footer_links=[],
        run_history=False,
        app_kwargs={"middleware": middleware},
    )
    page.server.config.http_protocol_class = Connection  # uvicorn's setting, which gradio does not pass on


async def refuse_url(url: str, cache_dir: str) -> str:
    """Takes the place of gradio's download of a URL that stands where an uploaded file is expected."""
    raise gr.Error("The page fetches nothing from elsewhere.", print_exception=False)


def explain_sentences(predictor: Predictor, text: str, folder: Path) -> tuple[str, str | None]:
    """Explains the prediction for each line of a text, as HTML, and draws the attention maps of the first one."""
    lines = [line for line in text[:TEXT_CHARACTERS].splitlines() if line.strip()]
    if not lines:
        return "<p>Type a sentence first.</p>", None
    cut = len(text) > TEXT_CHARACTERS or len(lines) > SENTENCES
    html = f"<p>Only the first {SENTENCES} sentences and {TEXT_CHARACTERS:,} characters are read.</p>" if cut else ""
    for prediction in predictor.predict(lines[:SENTENCES]):
        html += as_html(explain(predictor, prediction)) + f"<p><small>{prediction.remark or ''}</small></p>"
    picture = Path(mkdtemp(dir=folder)) / "attention.png"
    draw_attention(picture, *attention_maps(predictor, lines[0]), lines[0])
    return html, str(picture)


def classify_table(predictor: Predictor, file: str | None, column: str, folder: Path) -> tuple[str, str | None]:
    """Says how many texts of a CSV were cut, and writes it again with a label and its probability in each row."""
    if file is None:
        return "Choose a CSV file first.", None
    output = Path(mkdtemp(dir=folder)) / "predictions.csv"
    try:
        rows, texts = read_rows(Path(file), TableConfig(text_column=column.strip() or None))
        if len(rows) > CSV_ROWS:
            return f"The table has {len(rows):,} rows, more than the {CSV_ROWS:,} this page takes; divide it.", None
        predictions = predictor.predict([text[:TEXT_CHARACTERS] for (text,) in texts])
        with output.open("w", encoding="utf-8", newline="") as stream:
            write_table(stream, ".csv", rows, predictions)
    except UserError as error:  # where the table lies is the server's business
        return escape(str(error).replace(file, "the table").replace("--text-column", "the field above")), None
    cut = sum(len(text) > TEXT_CHARACTERS for (text,) in texts)
    return f"{cut} texts were cut at {TEXT_CHARACTERS:,} characters." if cut else "Done.", str(output)
