import re
import shutil
import subprocess
import sys

import pytest

from src.utils.completion import PROGRAMS, script
from src.utils.config import REPOSITORY

COMPLETE = """
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_bert_sst2
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="completes in bash; there is none")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("python -m src.train --learn", ["--learning-rate"]),
        ("python -m src.train --epochs 3 --dry", ["--dry-run"]),
        ("python -m src.inference --no-j", ["--no-json"]),
        ("python -m src.pretrain --mask-r", ["--mask-rate", "--mask-replacement"]),
        ("python -m src.train wei", [""]),  # files are the shell's
        ("python -m http.server --b", [""]),
    ],
)
def test_bash_completes_options(words: str, expected: list[str]) -> None:
    found = subprocess.run(
        ["bash", "-c", script() + COMPLETE.format(words=words)], capture_output=True, text=True, check=True
    )
    assert found.stdout.split("\n")[:-1] == expected and not found.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_options_are_those_that_help_lists(program: str) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", program, "--help"], capture_output=True, text=True, check=True, cwd=REPOSITORY
    ).stdout
    offered = re.search(rf'" {program} "\*\) options="(.*)"', script())
    assert offered is not None
    heads = re.findall(r"^│ (--[\w-]+)(?:, (--[\w-]+))?", listed, re.MULTILINE)
    assert set(offered[1].split()) == {name for pair in heads for name in pair if name}


def test_every_program_is_completed() -> None:
    entry_points = {f"src.{path.stem}" for path in (REPOSITORY / "src").glob("*.py") if path.stem != "__init__"}
    assert set(PROGRAMS) == entry_points
