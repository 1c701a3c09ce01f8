"""What has happened, counted. However long a run lasts, this takes the same room."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

from .reports import Event

WINDOW = 30  # seconds over which latencies are told
SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


class Histogram:
    """How often each value came, to three significant digits: a few thousand values at most."""

    def __init__(self) -> None:
        self.counts: Counter[float] = Counter()
        self.largest = 0.0

    def add(self, value: float, times: int = 1) -> None:
        self.counts[float(f"{value:.3g}")] += times
        self.largest = max(self.largest, value)

    def percentiles(self) -> dict[str, float]:
        """The values below which these shares of all lie; 0 if there is none."""
        return percentiles(self.counts)


def percentiles(counts: Counter[float]) -> dict[str, float]:
    total = counts.total()
    return {name: _value_at(counts, share * total) for name, share in SHARES.items()}


def _value_at(counts: Counter[float], rank: float) -> float:
    passed = 0
    for value in sorted(counts):
        passed += counts[value]
        if passed >= rank:
            return value
    return 0.0


class Window:
    """The values of the last half minute: a histogram for each second, so that old ones can go.

    Args:
        clock: the seconds that have passed since some moment.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: dict[int, Histogram] = {}

    def add(self, value: float, times: int = 1) -> None:
        now = int(self._clock())
        if now not in self._seconds:
            self._forget(now)
            self._seconds[now] = Histogram()
        self._seconds[now].add(value, times)

    def _forget(self, now: int) -> None:
        for second in [each for each in self._seconds if each <= now - WINDOW]:
            del self._seconds[second]

    def percentiles(self) -> dict[str, float]:
        self._forget(int(self._clock()))
        return percentiles(_sum(each.counts for each in self._seconds.values()))


def _sum(counters: Iterable[Counter[float]]) -> Counter[float]:
    total: Counter[float] = Counter()
    for counter in counters:
        total.update(counter)
    return total


class Tally:
    """What this replica has enqueued and run. The methods may be called in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._windows = {
            name: Window() for name in ("claim", "end_to_end", "producer", "producer_call")
        }
        self._lateness = Histogram()

    def enqueued(self, jobs: int, seconds: float) -> None:
        """So many jobs were inserted, by a call that took so long."""
        with self._lock:
            self._counts["enqueued"] += jobs
            self._windows["producer"].add(seconds / jobs * 1000, jobs)
            self._windows["producer_call"].add(seconds * 1000)

    def enqueued_for_later(self, jobs: int) -> None:
        with self._lock:
            self._counts["herd_enqueued"] += jobs

    def heard(self, event: Event, seconds: float) -> None:
        """A run has reported."""
        milliseconds = max(0.0, seconds * 1000)
        with self._lock:
            self._counts[event.name.lower()] += 1
            if event is Event.STARTED:
                self._windows["claim"].add(milliseconds)
            elif event is Event.ENDED:
                self._windows["end_to_end"].add(milliseconds)
            elif event is Event.HERD_STARTED:
                self._lateness.add(milliseconds)
                self._counts["herd_early"] += seconds < 0

    def counts(self) -> Counter[str]:
        """How often each thing has happened since this replica has started.

        The names are those of `Event`, in small letters, and ``enqueued``, ``herd_enqueued`` and
        ``herd_early``.
        """
        with self._lock:
            return self._counts.copy()

    def latencies(self) -> dict[str, dict[str, float]]:
        """Percentiles in milliseconds, of the last half minute."""
        with self._lock:
            return {name: window.percentiles() for name, window in self._windows.items()}

    def lateness(self) -> dict[str, float]:
        """How late the jobs of herds have started, in milliseconds, since the beginning."""
        with self._lock:
            return {**self._lateness.percentiles(), "max": self._lateness.largest}
