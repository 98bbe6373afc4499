"""Imports point downwards: entry points, then training and web, evaluation and interop, data and model, utils."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from src.utils.config import REPOSITORY

RANKS = {"web": 3, "training": 3, "evaluation": 2, "interop": 2, "data": 1, "model": 1, "utils": 0}
ENTRY_POINT = 4
WHEN_CALLED = ("src.model.bert", "src.interop.huggingface")  # by from_pretrained


@cache
def imports() -> dict[str, set[str]]:
    """Whatever each module imports, at its top or inside a function: modules, and names that might be modules."""
    found: dict[str, set[str]] = {}
    for file in sorted((REPOSITORY / "src").rglob("*.py")):
        name = ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        names = found.setdefault(name, set())
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def room(module: str) -> str:
    """The folder of a module; an entry point is a room of its own."""
    return module.split(".")[1] if "." in module else ""


def rank(module: str) -> int:
    return RANKS.get(room(module), ENTRY_POINT)


def edges() -> Iterator[tuple[str, str]]:
    for module, others in imports().items():
        yield from ((module, other) for other in others & imports().keys() - {"src"} if (module, other) != WHEN_CALLED)


def reachable(start: str) -> set[str]:
    """All modules and packages, other people's too, that run once a module and its functions are used."""
    found, waiting = set(), [start]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            # Importing a module runs the packages it lies in.
            parents = {module.rsplit(".", depth)[0] for depth in range(1, module.count(".") + 1)}
            waiting += imports().get(module, set()) | parents
    return found


def test_every_room_has_a_rank() -> None:
    assert {path.parent.name for path in (REPOSITORY / "src").glob("*/__init__.py")} == set(RANKS)
    assert {"src.train", "src.inference", "src.utils.config"} <= imports().keys()


def test_imports_point_downwards_or_stay_within_a_rank_and_never_to_an_entry_point() -> None:
    upwards = [f"{a} -> {b}" for a, b in edges() if rank(b) > rank(a) or rank(b) == ENTRY_POINT]
    assert not upwards, "\n".join(upwards)


def test_the_model_alone_imports_nothing_above_it() -> None:
    program = "import sys, src.model.bert; print(*(name for name in sys.modules if name.startswith('src.')))"
    ended = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert {room(name) for name in ended.stdout.split()} == {"model", "utils"}


def test_data_and_model_never_import_each_other() -> None:
    across = [f"{a} -> {b}" for a, b in edges() if {room(a), room(b)} == {"data", "model"}]
    assert not across, "\n".join(across)


def test_inference_reaches_neither_training_nor_wandb() -> None:
    found = reachable("src.inference")
    assert {"src.evaluation.predictor", "src.model.bert", "torch"} <= found
    assert [module for module in found if room(module) == "training" or module == "wandb"] == []


def test_every_module_imports_without_what_windows_lacks() -> None:
    program = f"""
import importlib, signal, sys
sys.modules |= dict.fromkeys(("fcntl", "grp", "pwd", "resource"))
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1", "SIGUSR2"):
    delattr(signal, name)
for name in {sorted(imports())}:
    importlib.import_module(name)
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_every_program_runs_by_its_path_from_any_folder(tmp_path: Path) -> None:
    programs = [path for path in (REPOSITORY / "src").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")]
    assert len(programs) > 6
    for path in programs:
        command = [sys.executable, str(path), "--help"]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert (ended.returncode, ended.stdout[:6]) == (0, "usage:"), ended.stderr


@pytest.mark.parametrize("options", [[], ["--editable"]])
def test_installing_the_repository_as_a_package_is_refused_in_one_line(options: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--target", str(tmp_path)]
    ended = subprocess.run([*command, *options, str(REPOSITORY)], capture_output=True, text=True)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert ended.stderr.count("python -m src.train") == 1 and list(tmp_path.iterdir()) == []
