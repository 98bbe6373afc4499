from src.web.limits import RateLimit


def test_a_client_has_so_many_requests_in_a_span_of_time_that_slides() -> None:
    times = (0, 1, 2, 9.9, 10, 10.5, 11)
    limit = RateLimit(most=2, seconds=10, clock=iter((*times, 11)).__next__)
    assert [limit.allows("one") for _ in times] == [True, True, False, False, True, False, True]
    assert limit.allows("another")
