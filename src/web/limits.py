"""What one visitor of the page may ask for: how much text, how large a table, how often."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from threading import Lock

TEXT_CHARACTERS = 2000  # of all sentences typed, and of each text of a table; what is longer is cut
SENTENCES = 8
CSV_BYTES, CSV_ROWS = 1_000_000, 1000
REQUESTS, SECONDS = 30, 60.0  # answers, tables and uploads of one client


class RateLimit:
    """Counts what each client asks for in a sliding span of time; clients that left are forgotten.

    Args:
        most: requests of one client in the span.
        seconds: length of the span.
        clock: tells the time in seconds.
    """

    def __init__(self, most: int = REQUESTS, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic):
        self.most = most
        self.seconds = seconds
        self.clock = clock
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()  # who came last stands last
        self._lock = Lock()

    def allows(self, client: str) -> bool:
        """Says whether a client may have another request answered, and counts it if so."""
        with self._lock:
            start = self.clock() - self.seconds
            self._forget(start)
            times = self._seen.setdefault(client, deque())
            while times and times[0] <= start:
                times.popleft()
            if len(times) >= self.most:
                return False
            times.append(self.clock())
            self._seen.move_to_end(client)
            return True

    def _forget(self, start: float) -> None:
        while self._seen and (times := next(iter(self._seen.values()))) and times[-1] <= start:
            self._seen.popitem(last=False)
