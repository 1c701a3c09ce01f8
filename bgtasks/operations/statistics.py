"""What the counters say: how many runs have ended, how long they waited and ran, and when.

Each function runs one statement, which adds up the counters inside the database.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from bgtasks.models import CELLS, HISTOGRAMS
from bgtasks.queue import database as db
from bgtasks.queue.counters import COUNTERS, ENDINGS, MINUTE

# Over how many of the last minutes, without the one under way, the present throughput is taken.
RECENT = 5
# The spans from which the runs of today are added up: so long that a day is few of them, and so
# short that midnight of every time zone is the start of one.
QUARTER = 900


@dataclass(frozen=True)
class Range:
    """A range of time that ends now.

    Attributes:
        name: "hour", "day" or "week".
        seconds: its length.
        width: the length of the spans that it is divided into, in seconds; see `Counter`.
    """

    name: str
    seconds: int
    width: int

    @property
    def starts(self) -> range:
        """When each of its spans begins, in seconds since 1970. The last one is under way."""
        end = int(time.time()) // self.width * self.width
        return range(end - self.seconds + self.width, end + 1, self.width)


RANGES = {
    each.name: each
    for each in (
        Range("hour", 3600, MINUTE),
        Range("day", 86400, QUARTER),
        Range("week", 7 * 86400, 7200),
    )
}


@dataclass(frozen=True)
class Durations:
    """How long some runs took, or waited.

    Attributes:
        cells: how many of them fell into each cell of a histogram; see `Counter`.
    """

    cells: Sequence[int] = (0,) * CELLS

    @property
    def count(self) -> int:
        return sum(self.cells)

    def percentile(self, percent: float) -> float | None:
        """The seconds that so many percent of the runs did not exceed; None if there are no runs.

        It is interpolated within its cell, so it may be wrong by up to a factor of two, and is
        mostly less so.
        """
        if not (total := self.count):
            return None
        wanted, before = total * percent / 100, 0
        for cell, count in enumerate(self.cells):
            if count and before + count >= wanted:
                low, high = _bounds(cell)
                return low + (high - low) * (wanted - before) / count
            before += count
        return _bounds(CELLS - 1)[1]

    @property
    def p50(self) -> float | None:
        return self.percentile(50)

    @property
    def p95(self) -> float | None:
        return self.percentile(95)

    @property
    def p99(self) -> float | None:
        return self.percentile(99)


def _bounds(cell: int) -> tuple[float, float]:
    """From how many seconds to how many a cell of a histogram goes."""
    return (2 ** (cell - 1) / 1000 if cell else 0.0), 2**cell / 1000


@dataclass(frozen=True)
class Runs:
    """Runs that have ended within some time.

    Attributes:
        retried: how many failed and were to be tried again. The next run counts too, when it ends.
        waited: from when their tasks were due until they began.
        ran: how long they took.
    """

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0
    waited: Durations = field(default_factory=Durations)
    ran: Durations = field(default_factory=Durations)

    @property
    def count(self) -> int:
        return self.succeeded + self.failed + self.cancelled + self.retried

    @property
    def failures(self) -> int:
        """Failed runs, whether they were final or not."""
        return self.failed + self.retried

    @property
    def failure_rate(self) -> float:
        """The share of the runs that failed, in percent."""
        return 100 * self.failures / self.count if self.count else 0.0


def short(seconds: float | None) -> str:
    """A duration in few characters, such as "12 ms"; empty for None."""
    if seconds is None:
        return ""
    if seconds < 0.001:
        return "<1 ms"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1000:.3g} ms"


def _runs(sums: Sequence[Any]) -> Runs:
    """The runs of sums of the columns `ENDINGS`, and of `HISTOGRAMS` if these were read."""
    numbers = [int(value or 0) for value in sums]
    counts: Any = dict(zip(ENDINGS, numbers, strict=False))
    if not (cells := numbers[len(ENDINGS) :]):
        return Runs(**counts)
    return Runs(**counts, waited=Durations(cells[:CELLS]), ran=Durations(cells[CELLS:]))


def _summed(
    column: str,
    width: int,
    since: float,
    until: float | None = None,
    columns: Sequence[str] = (*ENDINGS, *HISTOGRAMS),
) -> dict[Any, Runs]:
    """The runs that have ended since then, by the value of a column.

    Args:
        until: before then; None: up to now.
        columns: what to add up; without `HISTOGRAMS` it takes a fraction of the time.
    """
    sums = ", ".join(f"SUM({name})" for name in columns)
    sql = (
        f"SELECT {column}, {sums} FROM {COUNTERS} WHERE width = %s AND start >= %s "
        f"AND start < %s GROUP BY {column}"
    )
    end = until if until is not None else time.time() + width
    return {key: _runs(values) for key, *values in db.fetch(sql, [width, since, end])}


def series(wanted: Range) -> list[tuple[datetime, Runs]]:
    """The runs of a range, by the spans in which they ended, the oldest first; none is left out."""
    starts = wanted.starts
    found = _summed("start", wanted.width, starts[0])
    return [(datetime.fromtimestamp(at, UTC), found.get(at, Runs())) for at in starts]


def by_task(wanted: Range) -> dict[str, Runs]:
    """The runs of a range, by the names of their tasks."""
    return _summed("name", wanted.width, wanted.starts[0])


def today() -> dict[str, Runs]:
    """The runs since midnight in the current time zone, by queue; "" for no queue."""
    now = timezone.localtime() if timezone.is_aware(timezone.now()) else timezone.now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    return _summed("queue", QUARTER, midnight, columns=ENDINGS)


def per_minute() -> dict[str, float]:
    """How many runs have ended in a minute, by queue: the mean of the last `RECENT` minutes."""
    end = int(time.time()) // MINUTE * MINUTE
    found = _summed("queue", MINUTE, end - RECENT * MINUTE, end, ENDINGS)
    return {queue: runs.count / RECENT for queue, runs in found.items()}
