import importlib
import re
import shutil
import subprocess

import pytest

from src.utils.completion import PROGRAMS, script

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
        ("python -m src.train --epochs 3 --dry", ["--dry-run"]),
        ("python -m src.inference --no-j", ["--no-json"]),
        ("python -m src.pretrain --mask-r", ["--mask-rate", "--mask-replacement"]),
        ("python -m src.train wei", [""]),  # files are the shell's
        ("python -m http.server --b", [""]),
    ],
)
def test_bash_completes_options(words: str, expected: list[str]) -> None:
    command = ["bash", "-c", script() + COMPLETE.format(words=words)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.split("\n")[:-1] == expected and not found.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_options_are_those_that_help_lists(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        importlib.import_module(program).main(["--help"])
    offered = re.search(rf'" {program} "\*\) options="(.*)"', script())
    assert offered is not None
    # Where standard output is no UTF-8, the frame is one of blanks.
    heads = re.findall(r"^[│ ] (--\w[\w-]*)(?:, (--[\w-]+))?", capsys.readouterr().out, re.MULTILINE)
    assert set(offered[1].split()) == {name for pair in heads for name in pair if name}
