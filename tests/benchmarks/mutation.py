"""Mutation testing of src/model and src/data: one small break at a time, and how many of them the tests see.

    python -m tests.benchmarks.mutation [--only data/readers.py ...]

Every file's mutants meet the tests that mirror it (src/data/readers.py: tests/data/test_readers*.py) and no others. Of
each file media/mutation.json keeps the verdicts, so files may be run one at a time; the table in tests/README.md is
made from it.

mutmut refuses a package that is called `src`, which it takes for a folder of packages. So it works on a copy of the
repository in which the package has another name.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from src.utils.config import CACHE_DIR, REPOSITORY
from src.utils.files import read_json, write_json
from tests.benchmarks.readme import MEDIA, TESTS, write_section

RESULTS = MEDIA / "mutation.json"
ROOMS = ("model", "data")
COPY, PACKAGE = CACHE_DIR / "mutation", "bert_by_hand"
SECTION = "[tool.mutmut]\n"

# The exit codes of the tests under a mutant, as mutmut records them. Whatever else ends the tests is a kill as well.
SURVIVED, UNTESTED, UNCHECKED = (0,), (5, 33), (None, 2, 34)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="files under src, such as data/readers.py")
    chosen = parser.parse_args().only or mutated_files()
    _copy()
    for name in chosen:
        results = read_json(RESULTS) if RESULTS.exists() else {}
        results = dict(sorted((results | {name: verdicts(_run(name))}).items()))
        write_json(RESULTS, results)
        write_section(TESTS, "mutation", table(results))
        print(name, json.dumps(results[name]), flush=True)


def mutated_files() -> list[str]:
    """Names the files of the mutated rooms that hold code, by their path under src."""
    files = [file for room in ROOMS for file in sorted((REPOSITORY / "src" / room).glob("*.py"))]
    return [f"{file.parent.name}/{file.name}" for file in files if file.name != "__init__.py"]


def mirrored(name: str) -> list[str]:
    """Names the test files that mirror a file of src."""
    path = Path(name)
    tests = (REPOSITORY / "tests" / path.parent).glob(f"test_{path.stem}*.py")
    return sorted(str(file.relative_to(REPOSITORY)) for file in tests)


def renamed(code: str) -> str:
    """Gives the package in a module's imports and strings its other name."""
    return re.sub(r"\bsrc\.(?=[a-z])", f"{PACKAGE}.", re.sub(r"\bfrom src import\b", f"from {PACKAGE} import", code))


def verdicts(exit_codes: Mapping[str, int | None]) -> dict[str, int | list[str]]:
    """Counts what became of a file's mutants, and names those that no test saw."""
    kinds = {name: _kind(code) for name, code in exit_codes.items()}
    seen = Counter(kinds.values())
    unseen = sorted(name for name, kind in kinds.items() if kind in ("survived", "untested"))
    return {"mutants": len(kinds) - seen["unchecked"], "killed": seen["killed"], "alive": unseen}


def table(results: Mapping[str, Mapping[str, int | list[str]]]) -> str:
    rows = ["| file | mutants | killed | share |", "|---|---|---|---|"]
    every = [(f"`src/{name}`", int(str(one["mutants"])), int(str(one["killed"]))) for name, one in results.items()]
    total = ("all", sum(mutants for _, mutants, _ in every), sum(killed for *_, killed in every))
    rows += [
        f"| {name} | {mutants:,} | {killed:,} | {100 * killed / max(mutants, 1):.0f} % |"
        for name, mutants, killed in [*every, total]
    ]
    return "\n".join(rows) + "\n"


def _kind(exit_code: int | None) -> str:
    if exit_code in UNCHECKED:
        return "unchecked"
    if exit_code in UNTESTED:
        return "untested"
    return "survived" if exit_code in SURVIVED else "killed"


def _copy() -> None:
    shutil.rmtree(COPY, ignore_errors=True)
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src", "tests", "pyproject.toml"]
    for name in subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines():
        target = COPY / re.sub("^src/", f"{PACKAGE}/", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, target)
        if target.suffix == ".py":
            code = renamed(target.read_text(encoding="utf-8"))
            target.write_text(code.replace('REPOSITORY / "src"', f'REPOSITORY / "{PACKAGE}"'), encoding="utf-8")


def _run(name: str) -> dict[str, int | None]:
    """Runs mutmut on one file; the output of a run that could not begin is printed."""
    shutil.rmtree(COPY / "mutants", ignore_errors=True)
    settings = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    narrowed = (
        f"{SECTION}only_mutate = {[f'{PACKAGE}/{name}']}\npytest_add_cli_args_test_selection = {mirrored(name)}\n"
    )
    (COPY / "pyproject.toml").write_text(settings.replace(SECTION, narrowed), encoding="utf-8")
    command = [str(Path(sys.executable).parent / "mutmut"), "run", "--max-children", "1"]
    done = subprocess.run(command, cwd=COPY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-5000:])
    exit_codes: dict[str, int | None] = read_json(COPY / "mutants" / PACKAGE / f"{name}.meta")["exit_code_by_key"]
    return exit_codes


if __name__ == "__main__":
    main()
