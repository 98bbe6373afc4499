"""READMEs: their paths and links exist, their commands parse, their snippets run."""

import importlib
import importlib.util
import inspect
import json
import os
import re
import shlex
from pathlib import Path

import pytest

from src.utils.cli import parse, parse_training
from src.utils.config import REPOSITORY, SHIPPED_CHECKPOINT
from src.utils.files import verify
from tests.conftest import Programs
from tests.programs import PROGRAMS

PATHS = [
    REPOSITORY / "README.md",
    *sorted(path for room in ("src", "tests") for path in REPOSITORY.glob(f"{room}/**/README.md")),
]
READMES = {str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8") for path in PATHS}
EVERY = "\n".join(READMES.values())
SHELL = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", EVERY, re.DOTALL)
    for line in block.splitlines()
]
COMMANDS = {line.partition(" -m ")[2] for line in SHELL if " -m src." in line}
COMMANDS |= set(re.findall(r"`python -m (src\.[^`]+)`", EVERY))
BLOCKS = re.findall(r"```python\n(.*?)```", EVERY, flags=re.DOTALL)
FILES = {found[1]: block for block in BLOCKS if (found := re.match(r"# (\w+\.py):", block))}  # see test_readme_deploy
SNIPPETS = [block for block in BLOCKS if block not in FILES.values()]


def anchors(readme: str) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", readme, flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_front_page_is_short() -> None:
    assert len(READMES["README.md"].splitlines()) <= 180


@pytest.mark.parametrize("name", READMES)
def test_every_link_leads_to_a_file_and_a_heading(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", READMES[name]):
        if link.startswith("http"):
            continue
        file, _, heading = link.partition("#")
        target = (REPOSITORY / name).parent / file if file else REPOSITORY / name
        assert target.exists(), link
        assert not heading or heading in anchors(target.read_text(encoding="utf-8")), link


def test_every_path_that_a_readme_names_exists() -> None:
    named = re.findall(r"`((?:src|media|tests|weights)/[\w./-]+)`", EVERY)
    named += [word for line in SHELL for word in line.split() if word.startswith("tests/")]
    assert len(named) > 20
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_every_command_has_options_that_exist() -> None:
    assert len(COMMANDS) > 10
    for command in COMMANDS:
        program, *arguments = shlex.split(command.replace("--seed N", "--seed 1"))
        if program in ("src.train", "src.pretrain"):
            parse_training(arguments, program, PROGRAMS[program]())
        else:
            parse(PROGRAMS[program], arguments, program)


def test_every_module_and_target_that_a_command_runs_exists() -> None:
    modules = set(re.findall(r"-m ((?:src|tests)[\w.]+)", EVERY))
    assert len(modules) > 10 and all(importlib.util.find_spec(module) for module in modules)
    targets = set(re.findall(r"(?:^|`)make ([\w-]+)", EVERY, flags=re.MULTILINE))
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert {"train", "test"} <= targets <= set(re.findall(r"^([\w-]+):", makefile, flags=re.MULTILINE))


def test_every_function_that_a_readme_links_to_is_in_the_file_it_names() -> None:
    links = {
        (function, ((REPOSITORY / name).parent / file).resolve().relative_to(REPOSITORY))
        for name, readme in READMES.items()
        for function, file in re.findall(r"\[`([\w.]+)`\]\(([\w./]+\.py)\)", readme)
        if not function.endswith(".py")
    }
    assert len(links) > 15
    for function, file in links:
        found = importlib.import_module(".".join(file.with_suffix("").parts))
        owner, _, member = function.rpartition(".")
        # A module that a class keeps is an attribute of its objects only.
        source = inspect.getsource(getattr(found, owner)) if owner else ""
        held = hasattr(getattr(found, owner), member) if owner else hasattr(found, function)
        assert held or re.search(rf"\bself\.{member}\b", source), f"{function} in {file}"


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_every_snippet_runs(
    snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(REPOSITORY)
    exec(compile(snippet.replace("/tmp/six", str(tmp_path / "six")), "README.md", "exec"), {})
    assert re.search("positive|good", capsys.readouterr().out)


def test_the_shipped_model_is_small_and_whole() -> None:
    verify(SHIPPED_CHECKPOINT)
    assert sum(file.stat().st_size for file in SHIPPED_CHECKPOINT.iterdir()) < 20e6


@pytest.mark.skipif("SST2_DIR" not in os.environ, reason="needs SST-2: set SST2_DIR to a folder that holds it")
def test_the_shipped_model_has_the_accuracy_that_its_card_states(programs: Programs) -> None:
    answer = programs.inference("--checkpoint", SHIPPED_CHECKPOINT, "--dataset", os.environ["SST2_DIR"], "--json")
    stated = f"accuracy | {100 * json.loads(answer.out)['accuracy']:.1f} %"
    assert stated in (SHIPPED_CHECKPOINT / "README.md").read_text(encoding="utf-8")
