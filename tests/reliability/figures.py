"""The figures of the deep suites: on record in media/, and in the README here."""

import json
from collections.abc import Mapping, Sequence

from tests.benchmarks.readme import MEDIA, RELIABILITY, write_section

RECORD = MEDIA / "reliability.json"

Figures = Mapping[str, tuple[int, int]]


def on_record() -> dict[str, tuple[int, int]]:
    """Reads how many tries of each suite ended well, and how many there were."""
    content = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    return {name: (good, tries) for name, (good, tries) in content.items()}


def record(name: str, good: int, tries: int, order: Sequence[str]) -> None:
    """Puts one suite's figure on record and into the README, the suites in their order."""
    found = on_record() | {name: (good, tries)}
    found = {name: found[name] for name in order if name in found}
    RECORD.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    write_section(RELIABILITY, "reliability", table(found))


def table(found: Figures) -> str:
    """Formats figures as a table."""
    lines = [f"| {name} | {good:,} of {tries:,} |" for name, (good, tries) in found.items()]
    return "\n".join(["| what happens | nothing lost |", "|---|---|", *lines]) + "\n"
