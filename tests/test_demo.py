import subprocess
import sys

import pytest

from src.demo import DemoConfig
from src.utils.cli import parse
from src.utils.config import REPOSITORY
from src.utils.errors import UsageError


def test_the_page_is_for_this_machine_alone_unless_it_is_told_otherwise() -> None:
    config = parse(DemoConfig, [], "demo")
    assert (config.host, config.share) == ("127.0.0.1", False)


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--port", "0"], "port"),
        (["--port", "65536"], "port"),
        (["--host", "0.0.0.0"], "host"),  # by which names is it called?
        (["--allowed-hosts", "a.example", "b*"], "allowed_hosts"),
        (["--allowed-hosts", "*b.example"], "allowed_hosts"),
    ],
)
def test_an_option_that_cannot_be_is_a_usage_error(arguments: list[str], option: str) -> None:
    with pytest.raises(UsageError, match=f"^{option} = "):
        parse(DemoConfig, arguments, "demo")
    parse(DemoConfig, ["--host", "::", "--allowed-hosts", "a.example", "*.b.example", "*"], "demo")


def test_without_its_packages_one_line_names_them() -> None:
    code = "import sys; sys.modules |= dict.fromkeys(('gradio', 'captum')); from src.demo import *; run_program(main)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert "gradio" in ended.stderr and "captum" in ended.stderr
