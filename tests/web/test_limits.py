from src.web.limits import RateLimit


def test_a_client_has_so_many_requests_in_a_span_of_time_that_slides() -> None:
    times, answers = [0.0], []
    limit = RateLimit(most=2, seconds=10, clock=lambda: times[-1])
    for time in (0, 1, 2, 9.9, 10, 10.5, 11):
        times.append(time)
        answers.append(limit.allows("one"))
    assert answers == [True, True, False, False, True, False, True]
    assert limit.allows("another")
