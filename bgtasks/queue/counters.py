"""Counters of the runs that have ended, which feed the charts: nobody has to scan the outcomes.

A worker counts in memory, and adds its counts to the table every few seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django.core.signals import setting_changed
from django.db import DatabaseError, InterfaceError, transaction

from bgtasks.clock import elapsed
from bgtasks.logs import get_logger
from bgtasks.models import CELLS, HISTOGRAMS, SUMS, Attempt, Counter
from bgtasks.queue import database as db
from bgtasks.queue.ending import Ending

logger = get_logger(__name__)

COUNTERS = Counter._meta.db_table
# The lengths of the spans for which runs are counted, in seconds, and for how many seconds the
# counters of each are kept. The long spans make the charts of a week as cheap as those of an hour.
KEPT = {60: 3 * 3600, 900: 3 * 86400, 7200: 9 * 86400}
MINUTE = min(KEPT)
# The width of the span in which all runs are counted, whenever they were. It is kept for ever, so
# that these counters never go down.
TOTAL = 0
# Seconds between two writes of a worker.
FLUSH_EVERY = 5.0
# If the database is away for so long that there are more counters than this, they are dropped.
MOST = 5_000
# How many rows one transaction deletes.
BATCH = 500

ENDINGS = ("succeeded", "failed", "cancelled", "retried")
SUCCEEDED, FAILED, CANCELLED, RETRIED = range(len(ENDINGS))
COUNTED = (*ENDINGS, *HISTOGRAMS, *SUMS)
_WAITED = COUNTED.index("waited_0")
_RAN = COUNTED.index("ran_0")
_WAITED_SUM, _RAN_SUM = map(COUNTED.index, SUMS)
_KEY = ("width", "start", "queue", "name", "worker")

Key = tuple[int, str, str]


class Counts:
    """What one worker process has counted and not yet written.

    Args:
        worker: the worker's name.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._lock = threading.Lock()
        # By the start of the minute, the queue and the name of the task.
        self._counted: dict[Key, list[float]] = {}
        self._flush_at = elapsed() + FLUSH_EVERY
        self._failed = False

    def count(self, endings: Iterable[Ending]) -> None:
        """Count runs whose endings are recorded."""
        now = int(time.time())
        start = now - now % MINUTE
        name = queue = counted = None
        with self._lock:
            for ending in endings:
                if ending.snoozed:
                    continue
                row = ending.row
                if counted is None or row.task_name != name or row.queue != queue:
                    name, queue = row.task_name, row.queue
                    counted = self._counters_of((start, str(queue or ""), name))
                _add(counted, ending)

    def _counters_of(self, key: Key) -> list[float]:
        counted = self._counted.get(key)
        if counted is None:
            counted = self._counted[key] = [0] * len(COUNTED)
        return counted

    @property
    def waiting(self) -> bool:
        """Whether anything is counted that is not written."""
        return bool(self._counted)

    def flush_if_due(self) -> None:
        """Add to the table what was counted, every `FLUSH_EVERY` seconds."""
        if self._counted and elapsed() >= self._flush_at:
            self.flush()

    def flush(self) -> None:
        """Add to the table what was counted. It never raises: no run depends on the counters.

        If the database does not answer, the counts are kept, and written the next time.
        """
        self._flush_at = elapsed() + FLUSH_EVERY
        with self._lock:
            taken, self._counted = self._counted, {}
        if not taken:
            return
        try:
            _write(self._worker, taken)
            self._failed = False
        except (DatabaseError, InterfaceError) as error:
            if not self._failed:
                logger.warning("What this worker has counted is written later: %s", error)
            self._failed = True
            self._put_back(taken)
        except Exception:
            logger.exception("What this worker has counted is lost.")

    def _put_back(self, taken: dict[Key, list[float]]) -> None:
        with self._lock:
            for key, counted in self._counted.items():
                taken[key] = _sum(taken.get(key), counted)
            self._counted = taken
            if len(taken) > MOST:
                logger.warning("What this worker has counted is dropped: the database is away.")
                self._counted = {}


def _add(counted: list[float], ending: Ending) -> None:
    """Count one run. This is done for every run, so it calls as few functions as possible."""
    if ending.cancelled:
        counted[CANCELLED] += 1
        return
    if ending.state is None:
        counted[SUCCEEDED] += 1
    elif ending.delay is None:
        counted[FAILED] += 1
    elif ending.state != Attempt.State.STOPPED:  # its worker was asked to end: no failure
        counted[RETRIED] += 1
    ran, waited = ending.ran, ending.waited
    if ran is not None:
        counted[_RAN + cell_of(ran)] += 1
        counted[_RAN_SUM] += ran
        if waited is not None:
            counted[_WAITED + cell_of(waited)] += 1
            counted[_WAITED_SUM] += waited


def cell_of(seconds: float) -> int:
    """The cell of a histogram that a duration falls into; see `Counter`."""
    cell = int(seconds * 1000).bit_length() if seconds > 0 else 0
    return cell if cell < CELLS else CELLS - 1


def waited(due: str, started_at: datetime | None) -> float | None:
    """For how many seconds a row was due when its run started; None if that is not known.

    Args:
        due: when it was due, as the database has written it; empty: that was not read.
    """
    if not due or started_at is None:
        return None
    try:
        return (started_at - _parser()(due)).total_seconds()
    except (TypeError, ValueError, OverflowError):  # such as PostgreSQL's -infinity
        return None


@cache  # for each run asks for it
def _parser() -> Callable[[str], datetime]:
    """A function that reads a date as the database has written it, like those of `timezone.now`."""
    zone, parse = db.connection().timezone, datetime.fromisoformat
    if db.on_postgresql():  # which writes each date with a zone
        return parse if zone else lambda text: parse(text).replace(tzinfo=None)
    if zone is UTC:  # ten times as fast as `replace`
        return lambda text: parse(f"{text}+00:00")
    return lambda text: parse(text).replace(tzinfo=zone)


setting_changed.connect(lambda **_: _parser.cache_clear(), weak=False)


def _sum(one: list[float] | None, other: list[float]) -> list[float]:
    return other if one is None else [a + b for a, b in zip(one, other, strict=True)]


def _write(worker: str, taken: dict[Key, list[float]]) -> None:
    rows: dict[tuple[Any, ...], list[float]] = {}
    for (start, queue, name), counted in taken.items():
        for width in (TOTAL, *KEPT):
            # The counters of a minute are of one worker. All workers share those of longer spans,
            # so that these are few.
            owner = worker if width == MINUTE else ""
            begin = start - start % width if width else 0
            key = (width, begin, queue, name, owner)
            rows[key] = _sum(rows.get(key), counted)
    # In one order in all workers: two that add to the same counters cannot wait for each other.
    values = [[*key, *counted] for key, counted in sorted(rows.items())]
    with transaction.atomic(using=db.alias()):
        db.execute_many(_ADD, values)


_ADD = (
    f"INSERT INTO {COUNTERS} ({', '.join([*_KEY, *COUNTED])}) "
    f"VALUES ({', '.join(['%s'] * (len(_KEY) + len(COUNTED)))}) "
    f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET "
    f"{', '.join(f'{name} = {COUNTERS}.{name} + excluded.{name}' for name in COUNTED)}"
)


def prune() -> Iterator[int]:
    """Delete the counters of spans that are too long ago.

    Yields:
        The number of rows deleted, after each batch.
    """
    for width, age in KEPT.items():
        sql = (
            f"DELETE FROM {COUNTERS} WHERE id IN (SELECT id FROM {COUNTERS} "
            "WHERE width = %s AND start < %s LIMIT %s)"
        )
        params: Sequence[Any] = [width, int(time.time()) - age, BATCH]
        while deleted := db.execute(sql, params):
            yield deleted
