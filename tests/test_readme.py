"""README's paths exist, its commands parse, its snippets run, its tables are those that benchmarks wrote."""

import importlib
import inspect
import os
import re
import shlex
from pathlib import Path

import pytest

from src.utils.command_line import parse, parse_pretraining, parse_training
from src.utils.completion import PROGRAMS
from src.utils.config import REPOSITORY, SHIPPED_CHECKPOINT
from src.utils.folder import verify
from src.utils.programs import InferenceConfig

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.split("#")[0].strip() for line in README.splitlines() if re.match(r"\S*python -m src\.", line)]
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
FILES = {found[1]: block for block in BLOCKS if (found := re.match(r"# (\w+\.py):", block))}  # see test_readme_deploy
SNIPPETS = [block for block in BLOCKS if block not in FILES.values()]


def test_every_path_that_readme_names_exists() -> None:
    named = re.findall(r"`((?:src|media|tests|weights)/[\w./-]+)`", README)
    named += re.findall(r"\]\(((?:src|media|tests|weights)/[\w./-]+)\)", README)
    assert len(named) > 20
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_every_heading_that_readme_links_to_exists() -> None:
    headings = re.findall(r"^#+ (.*)$", README, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors


def test_every_command_in_readme_has_options_that_exist() -> None:
    assert len(COMMANDS) > 10
    for command in COMMANDS:
        program, *arguments = shlex.split(command.split("python -m ")[1].replace("--seed N", "--seed 1"))
        if program == "src.train":
            parse_training(arguments, program)
        elif program == "src.pretrain":
            parse_pretraining(arguments, program)
        else:
            parse(PROGRAMS[program], arguments, program)


def test_every_function_that_readme_links_to_is_in_the_file_it_names() -> None:
    named = set(re.findall(r"\[`([\w.]+)`\]\((src/[\w/]+)\.py\)", README))
    assert len(named) > 15
    for name, file in named:
        found = importlib.import_module(file.replace("/", "."))
        owner, _, member = name.rpartition(".")
        # A module that a class keeps is an attribute of its objects only.
        source = inspect.getsource(getattr(found, owner)) if owner else ""
        assert hasattr(found, name) or re.search(rf"\bdef {member}\b|\bself\.{member}\b", source), f"{name} in {file}"


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_every_snippet_in_readme_runs(
    snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(REPOSITORY)
    exec(compile(snippet.replace("/tmp/six", str(tmp_path / "six")), "README.md", "exec"), {})
    assert re.search("positive|good", capsys.readouterr().out)


def test_the_results_in_readme_are_those_the_benchmark_wrote() -> None:
    assert (REPOSITORY / "media" / "accuracy.md").read_text(encoding="utf-8") in README


def test_the_shipped_model_is_small_and_whole() -> None:
    verify(SHIPPED_CHECKPOINT)
    assert sum(file.stat().st_size for file in SHIPPED_CHECKPOINT.iterdir()) < 20e6


@pytest.mark.skipif("SST2_DIR" not in os.environ, reason="needs SST-2: set SST2_DIR to a folder that holds it")
def test_the_shipped_model_has_the_accuracy_that_its_card_states() -> None:
    from src.evaluation.predictor import Predictor
    from src.evaluation.split import evaluate_split

    config = InferenceConfig(texts=(), dataset=os.environ["SST2_DIR"])
    evaluation = evaluate_split(Predictor.load(SHIPPED_CHECKPOINT, "cpu"), SHIPPED_CHECKPOINT, config).evaluation
    stated = f"accuracy | {100 * evaluation.accuracy:.1f} %"
    assert stated in (SHIPPED_CHECKPOINT / "README.md").read_text(encoding="utf-8")
