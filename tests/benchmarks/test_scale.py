import json

from tests.benchmarks.readme import README
from tests.benchmarks.scale import RESULTS, table


def test_readme_has_the_table_that_was_measured() -> None:
    assert table(json.loads(RESULTS.read_text())) in README.read_text()
