import subprocess
import sys

import pytest

from src.utils.command_line import parse
from src.utils.config import REPOSITORY
from src.utils.errors import UsageError
from src.utils.programs import DemoConfig
from src.web.limits import CSV_BYTES, CSV_ROWS, REQUESTS, SENTENCES, TEXT_CHARACTERS

README = (REPOSITORY / "README.md").read_text(encoding="utf-8").replace("\n", " ")


def test_the_page_is_for_this_machine_alone_unless_it_is_told_otherwise() -> None:
    config = parse(DemoConfig, [], "demo")
    assert (config.host, config.port, config.share) == ("127.0.0.1", 7860, False)


@pytest.mark.parametrize("port", ["0", "65536", "-1"])
def test_a_port_that_is_none_is_a_usage_error(port: str) -> None:
    with pytest.raises(UsageError, match="port = "):
        parse(DemoConfig, ["--port", port], "demo")


@pytest.mark.parametrize("missing", [("gradio",), ("captum",), ("gradio", "captum")])
def test_without_its_packages_one_line_says_how_to_install_them(missing: tuple[str, ...]) -> None:
    code = f"import sys; sys.modules |= dict.fromkeys({missing}); from src.demo import *; run_program(main)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"error: the page needs {', '.join(missing)}; pip install {' '.join(missing)}\n"


def test_readme_tells_the_limits() -> None:
    for told in (
        f"the first {TEXT_CHARACTERS:,} characters and {SENTENCES} sentences are read",
        f"a table's texts {TEXT_CHARACTERS:,} characters each",
        f"{CSV_BYTES:,} bytes and {CSV_ROWS:,} rows",
        f"has {REQUESTS} requests a minute",
    ):
        assert told in README
