from src.web.limits import RateLimit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_client_has_so_many_requests_in_a_span_of_time_that_slides() -> None:
    clock = Clock()
    limit = RateLimit(most=2, seconds=10, clock=clock)
    answers = []
    for clock.now in (0, 1, 2, 9.9, 10, 10.5, 11):
        answers.append(limit.allows("one"))
    assert answers == [True, True, False, False, True, False, True]


def test_clients_do_not_count_for_each_other() -> None:
    limit = RateLimit(most=1, seconds=10, clock=Clock())
    assert [limit.allows(name) for name in ("one", "two", "one", "three")] == [True, True, False, True]
