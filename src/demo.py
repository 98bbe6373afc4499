"""A page to try a model on; `python -m src.demo --help` lists every option."""

import os
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from src.utils.cli import parse, run_program
from src.utils.errors import UsageError, notice, require_packages
from src.utils.programs import DemoConfig

if TYPE_CHECKING:
    from src.evaluation.predictor import Predictor

PROGRAM = "python -m src.demo"


def main(arguments: list[str]) -> None:
    """Parses the command line, then serves the page until Ctrl-C."""
    config = parse(DemoConfig, arguments, PROGRAM)
    require_packages("the page", "gradio", "captum")
    # Not above: --help should not wait for PyTorch.
    from src.evaluation.predictor import Predictor
    from src.utils.device import set_up_device
    from src.utils.runs import newest_classifier

    set_up_device(config.device, config.num_threads)
    folder = config.checkpoint or newest_classifier()
    predictor = Predictor.load(folder, config.device)
    notice(f"checkpoint  {folder}")
    with TemporaryDirectory(prefix="demo-") as files:
        page = serve(config, predictor, folder.resolve().name, Path(files))
        try:
            notice(f"page        {page.share_url or page.local_url}  (Ctrl-C ends it)")
            threading.Event().wait()
        finally:
            page.close(verbose=False)


def serve(config: DemoConfig, predictor: "Predictor", name: str, files: Path) -> Any:
    """Starts the server.

    Args:
        config: host, port, and whether to share.
        predictor: the model.
        name: of the model.
        files: an empty folder for what visitors upload and download.

    Returns:
        The `gradio.Blocks` that is being served.

    Raises:
        UsageError: nothing can be served at this host and port, or it cannot be shared.
    """
    # gradio reads them when it is imported and when it builds the page; it asks its own server whether it is there,
    # which is no matter of a proxy.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_TEMP_DIR": str(files)}
    for variable in ("no_proxy", "NO_PROXY"):  # some programs read the one, some the other
        others = [part for part in os.environ.get(variable, "").split(",") if part]
        os.environ[variable] = ",".join([*others, "127.0.0.1", "localhost", config.host])
    from src.web.limits import RateLimit
    from src.web.page import Visit, build, launch

    limit = RateLimit()
    page = build(Visit(predictor, limit, files), name)
    try:
        launch(page, limit, config.host, config.port, config.share)
    except OSError as error:
        place = f"--host {config.host} --port {config.port}"
        raise UsageError(f"cannot listen at {place}; choose another port, or an address of this machine") from error
    if config.share and not page.share_url:
        page.close(verbose=False)
        raise UsageError("--share could not get a public link; is the network there? Without it, the page is local")
    return page


if __name__ == "__main__":
    run_program(main)
