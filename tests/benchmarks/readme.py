"""README's tables and figures, which benchmarks rewrite."""

from src.utils.config import REPOSITORY

README, MEDIA = REPOSITORY / "README.md", REPOSITORY / "media"


def write_section(name: str, text: str) -> None:
    """Puts a text between the two comments in README that bear a name."""
    README.write_text(with_section(README.read_text(encoding="utf-8"), name, text), encoding="utf-8")


def with_section(readme: str, name: str, text: str) -> str:
    """Puts a text between the two comments that bear a name."""
    before, rest = readme.split(f"<!-- {name} -->\n")
    _, after = rest.split(f"<!-- /{name} -->")
    return f"{before}<!-- {name} -->\n{text}<!-- /{name} -->{after}"
