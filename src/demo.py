"""A page to try a model on; `python -m src.demo --help` lists every option."""

import logging
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from src.utils.cli import parse, run_program
from src.utils.config import DeviceConfig, require
from src.utils.errors import UsageError, require_packages

PROGRAM = "python -m src.demo"
logger = logging.getLogger("src.demo")


@dataclass(frozen=True)
class DemoConfig(DeviceConfig):
    """Serve a page to try a classifier on: sentences with reasons for the answers, and tables."""

    checkpoint: Path | None = None
    """Folder this project or transformers wrote; unset: the newest classifier under weights/, else the shipped one."""
    host: str = "127.0.0.1"
    """Address to listen at; 127.0.0.1 is this machine alone, 0.0.0.0 all that reach it."""
    port: int = 7860
    """Port to listen at."""
    share: bool = False
    """Also get a public link from gradio's servers, through which anybody who knows it may use the page."""
    allowed_hosts: tuple[str, ...] = ()
    """Names and addresses the page is called by, besides localhost and --host; *.example.org is all below it."""
    forwarded_allow_ips: str = ""
    """Addresses, between commas, of reverse proxies whose X-Forwarded-For names the client; unset: none is believed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        named = (lambda host: host not in ("0.0.0.0", "::") or any(self.allowed_hosts), "needs --allowed-hosts")
        require(self, named, "host")
        hosts = (lambda names: not re.search(r"[^ ]\*|\*(?!\.| |$)", " ".join(names)), "may begin with *. or be *")
        require(self, hosts, "allowed_hosts")
        require(self, (lambda port: 0 < port < 65536, "must lie in 1 to 65535"), "port")


def main(arguments: list[str]) -> None:
    """Parses the command line, then serves the page until Ctrl-C."""
    config = parse(DemoConfig, arguments, PROGRAM)
    require_packages("the page", "gradio", "captum")
    with TemporaryDirectory(prefix="demo-") as files:
        # gradio reads these when it is imported. It asks its own server whether it is there, which no proxy can answer.
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_TEMP_DIR": files}
        os.environ["FORWARDED_ALLOW_IPS"] = config.forwarded_allow_ips  # uvicorn would believe 127.0.0.1
        for variable in ("no_proxy", "NO_PROXY"):  # some programs read one, some the other
            os.environ[variable] = f"{os.environ.get(variable, '')},127.0.0.1,localhost,{config.host}"
        # Not above: --help should not wait for PyTorch.
        from src.evaluation.predictor import Predictor
        from src.utils.device import set_up_device
        from src.utils.runs import newest_model
        from src.web.page import build, launch

        set_up_device(config.device, config.num_threads)
        folder = config.checkpoint or newest_model()
        page = build(Predictor.load(folder, config.device), folder.resolve().name, Path(files))
        logger.info(f"checkpoint  {folder}")
        try:
            launch(page, config.host, config.port, config.share, config.allowed_hosts)
            if config.share and not page.share_url:
                raise UsageError("--share got no public link; is the network there? Without it, the page is local")
            logger.info(f"page        {page.share_url or page.local_url}  (Ctrl-C ends it)")
            threading.Event().wait()
        except OSError as error:
            place = f"--host {config.host} --port {config.port}"
            raise UsageError(f"cannot listen at {place}; choose another port, or an address of this machine") from error
        finally:
            page.close(verbose=False)


if __name__ == "__main__":
    run_program(main)
