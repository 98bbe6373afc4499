from src.utils.config import SHIPPED_CHECKPOINT
from tests.benchmarks.known_limits import BAD, GOOD, NEUTRAL, limits
from tests.benchmarks.readme import FRONT_PAGE, section


def test_the_front_page_tells_what_the_shipped_model_gets_wrong() -> None:
    assert {len(texts) for kinds in (GOOD, BAD) for texts in kinds.values()} == {5} and len(NEUTRAL) == 10
    assert section(FRONT_PAGE, "limits") == limits(SHIPPED_CHECKPOINT)
