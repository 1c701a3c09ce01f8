"""How far a worker has read the queue: claiming costs the same however long it is.

The queue is read level by level. A level is the rows of one priority, in the order of their
``run_at``; if the worker serves named queues, each queue has levels of its own. A claim goes on
where the last claim of its level ended: at the frontier. A claim from the head of the level would
have to read past all that stands there and is not for this worker: rows of tasks that it does not
know, and on PostgreSQL also the dead versions of finished rows, which stay for as long as some
transaction may still see them. From time to time a level is read from its head all the same,
because a row may arrive behind the frontier: one that was handed back, or committed late.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from background_task.models import Task
from django.utils import timezone

from bgtasks import conf
from bgtasks.clock import elapsed
from bgtasks.queue import database as db
from bgtasks.queue.claimed_row import NO_OPTIONS, ClaimedRow, read_options
from bgtasks.queue.deliveries import is_published
from bgtasks.queue.indexes import FREE
from bgtasks.queue.pauses import NOT_PAUSED

# A statement that may read many rows and find few (a level from its head, or past rows of unknown
# tasks) is repeated only after 20 times the time that it took. So such statements never take more
# than a twentieth of the time.
REST = 20
# When a claim has emptied a level, the next one begins this long before the present, to find rows
# whose enqueuers had not committed yet.
LATE = timedelta(seconds=5)
# How many levels one statement reads.
LEVELS = 200
# A row that becomes ready later than this counts as one that becomes ready then.
HORIZON = timedelta(hours=1)
NO_QUEUES: Sequence[str | None] = (None,)

Writing = AbstractContextManager[Callable[[int], None]]


@dataclass(slots=True)
class Level:
    """The rows of one priority, in one queue or in all.

    Attributes:
        ready: a row of it is ready, though perhaps of a task that we do not know.
        due_in: seconds until its next row becomes ready, at most `HORIZON`; None if it has none.
        skipped: there may be ready rows behind the frontier: the last claim began at the frontier
            and found too few, or the level rests.
        after: where the frontier is: the ``run_at``, as the database writes it, and the id of the
            last row that was claimed.
        from_head_at: when to read the level from its head again, by `elapsed()`.
        rest_until: not to be claimed from before this time, by `elapsed()`, for the last claim at
            the frontier found no row of a task that we know.
    """

    queue: str | None
    priority: Any  # not always a number: SQLite stores anything
    ready: bool = False
    due_in: float | None = None
    skipped: bool = False
    after: tuple[Any, int] | None = None
    from_head_at: float = 0.0
    rest_until: float = 0.0


class Frontier:
    """Claims rows for one worker process.

    Args:
        names: the names of the tasks that the process knows. Rows of other tasks wait for a worker
            that knows them.
        queues: claim only rows of these queues; None for all.
        worker: claim only while the worker of this name stands in the workers' table, that is,
            while nobody has declared it dead.
        writing: returns a context manager for each statement that writes. That gives a function,
            which is called with the number of rows that the statement wrote.
    """

    def __init__(
        self,
        names: Collection[str],
        queues: Sequence[str] | None = None,
        worker: str | None = None,
        writing: Callable[[], Writing] = lambda: nullcontext(lambda _: None),
    ) -> None:
        self._names = db.members(names)
        self._queues = queues
        self._worker = worker
        self._writing = writing
        self._levels: dict[tuple[str | None, Any], Level] = {}
        # The levels that were read before: a level that is found again keeps its frontier.
        self._known = self._levels
        self._ready: list[Level] = []
        self._read_levels_at = 0.0
        self._last: Any = None

    def take(self, token: str, limit: int) -> list[ClaimedRow]:
        """Claim up to ``limit`` ready rows, the most urgent first.

        One statement claims the rows of one level: no other worker gets the same rows, and a crash
        leaves all of them claimed or none. The claim counts the attempt, unless a relay claims.

        Args:
            token: the value that ``locked_by`` gets.

        Returns:
            The rows, without their dates: Django fetches a date when it is read.
        """
        fresh = elapsed() >= self._read_levels_at
        more = self._read_levels() if fresh else False
        rows = self._advance(token, limit)
        if len(rows) < limit and not fresh:
            more = self._read_levels()
            rows += self._advance(token, limit - len(rows))
        while len(rows) < limit and more:
            more = self._read_levels(further=True)
            rows += self._advance(token, limit - len(rows))
        return rows

    @property
    def due_in(self) -> float | None:
        """Seconds from when the levels were read until another claim may find rows.

        None if no row is known that becomes ready.
        """
        levels = self._levels.values()
        later = [level.due_in for level in levels if level.due_in is not None]
        later += [level.from_head_at - elapsed() for level in levels if level.skipped]
        return max(0.0, min(later)) if later else None

    @property
    def certain(self) -> bool:
        """Whether the last claim found all there was: no level has rows behind its frontier."""
        return not any(level.skipped for level in self._levels.values())

    def _read_levels(self, further: bool = False) -> bool:
        """Read which levels there are, and which of them have a row that is ready.

        Args:
            further: read the levels that follow those that were read last; else the first ones.

        Returns:
            Whether there may be further levels.
        """
        began = elapsed()
        if not further:
            self._known, self._levels, self._ready, self._last = self._levels, {}, [], None
        found = [
            (queue, *values)
            for queue in self._queues or NO_QUEUES
            for values in db.fetch(*_levels_sql(queue, self._last))
        ]
        ready = []
        for queue, priority, is_ready, due_in in found:
            level = self._known.get((queue, priority)) or Level(queue, priority)
            level.ready = bool(is_ready) and level.rest_until <= began
            level.due_in = None if due_in is None else max(0.0, float(due_in))
            level.skipped = bool(is_ready) and not level.ready
            self._levels[queue, priority] = level
            if level.ready:
                ready.append(level)
        # Each statement orders the levels of its queue; those of several queues are sorted here.
        self._ready = _most_urgent_first(ready) if self._queues else ready
        now = elapsed()
        self._read_levels_at = now + REST * (now - began)
        # Of a named queue, one statement reads all levels.
        more = not self._queues and len(found) == LEVELS
        self._last = found[-1][1] if more else None
        return more

    def _advance(self, token: str, limit: int) -> list[ClaimedRow]:
        rows: list[ClaimedRow] = []
        while self._ready and len(rows) < limit:
            level = self._ready[0]
            wanted = limit - len(rows)
            taken = self._claim_from(level, token, wanted)
            rows += taken
            if len(taken) < wanted:
                self._ready.pop(0)
        return rows

    def _claim_from(self, level: Level, token: str, limit: int) -> list[ClaimedRow]:
        # The time before the claim: a process that is frozen while the statement runs must not take
        # its rows for freshly claimed afterwards.
        began = elapsed()
        with self._writing() as wrote:
            at, now = elapsed(), timezone.now()  # `writing` may have paused
            from_head = level.after is None or at >= level.from_head_at
            after = None if from_head else level.after
            found = db.fetch(
                *_claim_sql(level, after, self._names, self._worker, now, token, limit)
            )
            ended = elapsed()
            wrote(len(found))
        if from_head:
            level.from_head_at = ended + REST * (ended - at)
        elif not found:
            level.rest_until = ended + REST * (ended - at)
        level.skipped = not from_head and len(found) < limit
        found.sort(key=lambda row: row[-3:-1])  # RETURNING promises no order
        if len(found) == limit:
            level.after = found[-1][-3], found[-1][-2]
        else:
            level.after = db.moment(now - LATE), 0
        rows = db.instances(row[:-3] for row in found)
        return [
            ClaimedRow(
                row,
                began,
                NO_OPTIONS if values[-1] is None else _options_of(row, values[-1]),
                due=values[-3],
            )
            for row, values in zip(rows, found, strict=True)
        ]


def _options_of(row: Task, options: str) -> dict[str, Any]:
    return read_options(options, row.task_params)


def _most_urgent_first(levels: list[Level]) -> list[Level]:
    sign = 1 if conf.lowest_number_first() else -1

    def urgency(level: Level) -> Any:
        number = isinstance(level.priority, int | float)
        return (not number, sign * level.priority if number else 0)

    return sorted(levels, key=urgency)


def _levels_sql(queue: str | None, beyond: Any = None) -> tuple[str, list[Any]]:
    """SQL for the priorities of free rows, whether one is ready, and seconds until the next is.

    It is a loose index scan (wiki.postgresql.org/wiki/Loose_indexscan): it reads three rows of
    each level, however many the level has.

    Args:
        queue: only rows of this queue; None for all rows.
        beyond: only priorities that are less urgent than this one; None for all.
    """
    free, of_queue = (f"{FREE} AND queue = %s", [queue]) if queue else (FREE, [])
    further, order = (">", "ASC") if conf.lowest_number_first() else ("<", "DESC")
    start, after = (f" AND priority {further} %s", [beyond]) if beyond is not None else ("", [])
    now = timezone.now()
    if db.on_postgresql():
        # LEAST, for a run_at may be infinity.
        due_in = "EXTRACT(EPOCH FROM LEAST(run_at, %s) - %s)"
    else:
        due_in = "(julianday(MIN(run_at, %s)) - julianday(%s)) * 86400"
    tasks, limit = db.TASKS, "" if queue else f"LIMIT {LEVELS}"
    of_level = f"FROM {tasks} WHERE {free} AND {tasks}.priority = level.priority"
    sql = (
        "WITH RECURSIVE level(priority) AS (SELECT * FROM ("
        f"SELECT priority FROM {tasks} WHERE {free}{start} ORDER BY priority {order} LIMIT 1"
        f") AS head UNION ALL SELECT (SELECT {tasks}.priority FROM {tasks} WHERE {free} "
        f"AND {tasks}.priority {further} level.priority "
        f"ORDER BY {tasks}.priority {order} LIMIT 1) "
        "FROM level WHERE level.priority IS NOT NULL) SELECT priority, "
        f"(SELECT run_at <= %s {of_level} ORDER BY run_at, id LIMIT 1), "
        f"(SELECT {due_in} {of_level} AND run_at > %s ORDER BY run_at, id LIMIT 1) "
        f"FROM level WHERE priority IS NOT NULL {limit}"
    )
    present, horizon = db.moment(now), db.moment(now + HORIZON)
    # In the order of the SQL: the first level, the further ones, and the two columns of each level.
    params = [*of_queue, *after, *of_queue, present, *of_queue]
    return sql, [*params, horizon, present, *of_queue, present]


def _claim_sql(
    level: Level,
    after: tuple[Any, int] | None,
    names: Any,
    worker: str | None,
    now: datetime,
    token: str,
    limit: int,
) -> tuple[str, list[Any]]:
    """SQL, and its parameters, that claims rows of a level.

    Its columns are `db.FIELDS`, ``run_at`` as text, the id, and the options of the call or NULL.
    """
    where, params = zip(*_conditions(level, after, names, worker, now), strict=True)
    ready = (
        f"SELECT id FROM {db.TASKS} WHERE {' AND '.join([FREE, *where])} "
        "ORDER BY run_at, id LIMIT %s"
    )
    chosen = [value for values in params for value in values]
    changes = f"locked_by = %s, locked_at = {db.clock()}"
    if not is_published(token):
        changes = f"{changes}, attempts = {db.one_attempt_more()}"
    options = f"(SELECT options FROM {db.OPTIONS} WHERE task_id = {db.TASKS}.id)"
    returned = f"{db.columns()}, CAST({db.TASKS}.run_at AS text), {db.TASKS}.id, {options}"
    if db.on_postgresql():
        # MATERIALIZED: if the planner inlined this, it might run the SELECT with its LIMIT anew for
        # every row that it joins.
        sql = (
            f"WITH ready AS MATERIALIZED ({ready} FOR UPDATE SKIP LOCKED) "
            f"UPDATE {db.TASKS} SET {changes} FROM ready WHERE {db.TASKS}.id = ready.id "
            f"RETURNING {returned}"
        )
        return sql, [*chosen, limit, token]
    sql = f"UPDATE {db.TASKS} SET {changes} WHERE id IN ({ready}) RETURNING {returned}"
    return sql, [token, *chosen, limit]


def _conditions(
    level: Level, after: tuple[Any, int] | None, names: Any, worker: str | None, now: datetime
) -> Iterator[tuple[str, list[Any]]]:
    yield "priority = %s", [level.priority]
    if level.queue:
        yield "queue = %s", [level.queue]
    yield "run_at <= %s", [db.moment(now)]
    if after:
        cast = "::timestamptz" if db.on_postgresql() else ""
        yield f"(run_at, id) > (%s{cast}, %s)", list(after)
    yield db.is_member("task_name", "varchar"), [names]
    yield NOT_PAUSED, []
    if worker:
        yield f"EXISTS (SELECT 1 FROM {db.WORKERS} WHERE name = %s)", [worker]
