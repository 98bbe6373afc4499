import json

from tests.benchmarks.readme import BENCHMARKS, section
from tests.benchmarks.scale import RESULTS, table


def test_readme_has_the_table_that_was_measured() -> None:
    assert section(BENCHMARKS, "scale") == table(json.loads(RESULTS.read_text()))
