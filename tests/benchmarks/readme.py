"""The sections of READMEs that scripts write: tables and figures between two comments."""

from pathlib import Path

from src.utils.config import REPOSITORY

MEDIA = REPOSITORY / "media"
FRONT_PAGE = REPOSITORY / "README.md"
MODEL = REPOSITORY / "src" / "model" / "README.md"
TESTS = REPOSITORY / "tests" / "README.md"
BENCHMARKS = REPOSITORY / "tests" / "benchmarks" / "README.md"
RELIABILITY = REPOSITORY / "tests" / "reliability" / "README.md"


def write_section(readme: Path, name: str, text: str) -> None:
    """Puts a text between the two comments of a README that bear a name."""
    readme.write_text(with_section(readme.read_text(encoding="utf-8"), name, text), encoding="utf-8")


def with_section(readme: str, name: str, text: str) -> str:
    """Puts a text between the two comments that bear a name."""
    before, rest = readme.split(f"<!-- {name} -->\n")
    _, after = rest.split(f"<!-- /{name} -->")
    return f"{before}<!-- {name} -->\n{text}<!-- /{name} -->{after}"


def section(readme: Path, name: str) -> str:
    """Reads what stands between the two comments of a README that bear a name."""
    return readme.read_text(encoding="utf-8").split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0]
