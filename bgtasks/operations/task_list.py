"""One list of all tasks: those that wait or run, and those that have ended.

The id of a task stays the same from its enqueuing to its pruning, so the list is in the order of
the ids, the newest first, and a page begins where the last one ended: whatever is enqueued or ends
between two pages, no task is left out or shown twice.

No index serves every filter. So a page is looked for in windows: ranges of ids that grow as long
as little is found. After `BUDGET` seconds the page says how far it was looked for, and the next
one goes on from there: no page takes long, however many tasks there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from bgtasks.clock import elapsed
from bgtasks.models import Creator
from bgtasks.operations.states import ENDED, OF_QUEUED, QUEUED, State
from bgtasks.queue import creators, outcomes
from bgtasks.queue import database as db
from bgtasks.tasks import sensitive

CREATORS = Creator._meta.db_table
# Seconds after which no further window is looked at, and the ids of the first window. A window has
# `GROWTH` times the ids of the one before if that gave less than half a page, or fewer if it would
# last longer than what is left of the seconds.
BUDGET = 0.15
FIRST_WINDOW, GROWTH = 1_000, 4
PAGE = 50


@dataclass(frozen=True)
class Filter:
    """Which tasks to list; what is not given does not matter.

    Attributes:
        states: those of the tasks; empty: all.
        name: the task's name.
        queue: its queue; "" for tasks without one.
        worker: the name of the worker that has or had it.
        error: the class of what it raised last, with or without its module.
        text: part of its arguments, as their JSON has it.
        search: part of its name or of its arguments.
        creator: the id of the content type, and the key, of who enqueued it.
        after, before: when it was due: at this time or later, and before this time.
    """

    states: frozenset[State] = frozenset()
    name: str | None = None
    queue: str | None = None
    worker: str | None = None
    error: str | None = None
    text: str | None = None
    search: str | None = None
    creator: tuple[int, Any] | None = None
    after: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True)
class Listed:
    """A task in the list.

    Attributes:
        id: the task's id.
        params: its arguments, as their JSON has them.
        attempts: how many runs there were, with the one under way.
        due_at: when it was or is due; None if that is not known, or no date of Python's.
        started_at: when the run under way, or the last one, began.
        finished_at: when it ended.
        claim: who has or had it; empty: nobody.
        error: what is kept of the last failure: a traceback as a rule.
    """

    id: int
    state: State
    name: str
    params: str
    queue: str | None
    priority: Any
    attempts: int
    due_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    claim: str
    error: str

    @property
    def waited(self) -> timedelta | None:
        """From when it was due until it began."""
        return self.started_at - self.due_at if self.started_at and self.due_at else None

    @property
    def ran(self) -> timedelta | None:
        """From when its last run began until it ended."""
        return self.finished_at - self.started_at if self.finished_at and self.started_at else None


@dataclass
class Page:
    """A part of the list.

    Attributes:
        tasks: the newest first.
        next: before which id the next page begins; None if there is none.
        incomplete: there may be tasks after `next`, though this page is not full: they were not
            looked for.
    """

    tasks: list[Listed] = field(default_factory=list)
    next: int | None = None
    incomplete: bool = False


def page(wanted: Filter = Filter(), before: int | None = None, size: int = PAGE) -> Page:
    """A page of the list.

    Args:
        before: only tasks with a lower id; None: from the newest task on.
        size: how many tasks at most.
    """
    rows, following, incomplete = _search(wanted, before, size, _FACTS)
    return Page([_listed(row) for row in rows], following, incomplete)


def ids(
    wanted: Filter = Filter(), before: int | None = None, size: int = PAGE
) -> tuple[list[int], int | None]:
    """The ids of a page of the list, and before which id the next page begins; see `page`."""
    rows, following, _ = _search(wanted, before, size, _ID)
    return [pk for pk, *_ in rows], following


def _search(
    wanted: Filter, before: int | None, size: int, columns: Columns
) -> tuple[list[Row], int | None, bool]:
    lowest, highest = bounds()
    high = highest + 1 if before is None else min(before, highest + 1)
    window = FIRST_WINDOW
    until = (now := elapsed()) + BUDGET
    found: list[Row] = []
    while high > lowest:
        low = max(lowest, high - window)
        began, new = now, _between(wanted, low, high, size + 1 - len(found), columns)
        found += new
        high = low
        if len(found) > size:
            return found[:size], found[size - 1][0], False
        now = elapsed()
        if now > until and high > lowest:
            return found, high, True
        if len(new) < size / 2:
            in_time = int(window * (until - now) / max(1e-6, now - began))
            window = max(FIRST_WINDOW, min(GROWTH * window, in_time))
    return found, None, False


def bounds() -> tuple[int, int]:
    """The lowest and the highest id of a task."""
    ((*ids,),) = db.fetch(
        f"SELECT (SELECT MIN(id) FROM {db.TASKS}), (SELECT MAX(id) FROM {db.TASKS}), "
        f"(SELECT MIN(task_id) FROM {db.OUTCOMES}), (SELECT MAX(task_id) FROM {db.OUTCOMES})"
    )
    there = [pk for pk in ids if pk is not None]
    return (min(there), max(there)) if there else (0, -1)


def find(task_id: int | str) -> Listed | None:
    """The task of an id; None if there is none, or not any more."""
    if (pk := outcomes.id_of(task_id)) is None:
        return None
    return next(map(_listed, _between(Filter(), pk, pk + 1, 1, _FACTS)), None)


def states_of(ids: Iterable[int]) -> dict[int, State]:
    """The states of those of the tasks that there are."""
    chosen, among = db.members(ids), db.is_member("{}", "bigint")
    rows = db.fetch(
        f"SELECT id, {OF_QUEUED} FROM {db.TASKS} "
        f"WHERE failed_at IS NULL AND {among.format('id')} UNION ALL "
        f"SELECT task_id, state FROM {db.OUTCOMES} "
        f"WHERE {among.format('task_id')} AND {db.is_current()}",
        [db.moment(timezone.now()), chosen, chosen],
    )
    return {pk: State(state) for pk, state in rows}


Row = tuple[Any, ...]


@dataclass(frozen=True)
class Columns:
    """What is read of the rows; the id comes first.

    Attributes:
        queued: makes the SQL for those of the task table, and its parameters.
        ended: makes the SQL for those of the outcomes and the completed ones.
    """

    queued: Callable[[], tuple[str, list[Any]]]
    ended: Callable[[], str]


_COMMON = ("task_name", "task_params", "queue", "priority")


def _facts_of_queued() -> tuple[str, list[Any]]:
    dates = ", ".join(map(db.date_or_null, ("run_at", "locked_at")))
    return (
        f"id, {OF_QUEUED}, {', '.join(_COMMON)}, attempts, {dates}, NULL, locked_by, last_error",
        [db.moment(timezone.now())],
    )


def _facts_of_ended() -> str:
    ended, completed = db.OUTCOMES, db.COMPLETED
    dates = (db.date_or_null(f"{ended}.{name}") for name in ("due_at", "started_at", "finished_at"))
    common = (f"{completed}.{name}" for name in _COMMON)
    return (
        f"{ended}.task_id, {ended}.state, {', '.join(common)}, {ended}.attempts, "
        f"{', '.join(dates)}, {completed}.locked_by, {completed}.last_error"
    )


_FACTS = Columns(_facts_of_queued, _facts_of_ended)
_ID = Columns(lambda: ("id", []), lambda: f"{db.OUTCOMES}.task_id")


def _between(wanted: Filter, low: int, high: int, most: int, columns: Columns) -> list[Row]:
    states = wanted.states or frozenset(State)
    rows: list[Row] = []
    if not states.isdisjoint(QUEUED):
        rows += _queued(wanted, states, low, high, most, columns)
    if not states.isdisjoint(ENDED):
        rows += _ended(wanted, states, low, high, most, columns)
    # While an ending is being recorded, a task may be found in both tables.
    by_id = {row[0]: row for row in rows}
    return sorted(by_id.values(), key=lambda row: -row[0])[:most]


def _queued(
    wanted: Filter, states: frozenset[State], low: int, high: int, most: int, columns: Columns
) -> list[Row]:
    tasks, now = db.TASKS, db.moment(timezone.now())
    conditions: list[tuple[str, list[Any]]] = [
        (f"{tasks}.id >= %s AND {tasks}.id < %s AND failed_at IS NULL", [low, high]),
        *_conditions(wanted, tasks, f"{tasks}.id", f"{tasks}.run_at"),
    ]
    if not states.issuperset(QUEUED):
        members = [str(state) for state in QUEUED if state in states]
        places = ", ".join(["%s"] * len(members))
        conditions.append((f"({OF_QUEUED}) IN ({places})", [now, *members]))
    where, params = zip(*conditions, strict=True)
    what, given = columns.queued()
    sql = f"SELECT {what} FROM {tasks} WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT %s"
    return db.fetch(sql, [*given, *(value for values in params for value in values), most])


def _ended(
    wanted: Filter, states: frozenset[State], low: int, high: int, most: int, columns: Columns
) -> list[Row]:
    ended, completed = db.OUTCOMES, db.COMPLETED
    conditions: list[tuple[str, list[Any]]] = [
        (f"{ended}.task_id >= %s AND {ended}.task_id < %s", [low, high]),
        *_conditions(wanted, completed, f"{ended}.task_id", f"{ended}.due_at"),
    ]
    if not states.issuperset(ENDED):
        members = [str(state) for state in ENDED if state in states]
        places = ", ".join(["%s"] * len(members))
        conditions.append((f"{db.unindexed(f'{ended}.state')} IN ({places})", members))
    where, params = zip(*conditions, strict=True)
    sql = (
        f"SELECT {columns.ended()} FROM {ended} JOIN {completed} ON {completed}.id = completed_id "
        f"WHERE {' AND '.join(where)} AND {db.is_current()} ORDER BY {ended}.task_id DESC LIMIT %s"
    )
    return db.fetch(sql, [*(value for values in params for value in values), most])


def _conditions(wanted: Filter, table: str, pk: str, due: str) -> Iterator[tuple[str, list[Any]]]:
    """SQL conditions, each with its parameters, for what both tables have.

    Args:
        table: which has the columns of a row.
        pk: the column with the task's id.
        due: the column with the date when it was due.
    """
    if wanted.worker is not None:
        held, params = db.held_by(f"{wanted.worker}.")
        yield f"{table}.{held}", params
    if wanted.search is not None:
        text = _escaped(wanted.search)
        in_arguments, params = _in_arguments(table, text)
        yield f"({_contains(f'{table}.task_name')} OR {in_arguments})", [text, *params]
    if wanted.text is not None:
        yield _in_arguments(table, _escaped(wanted.text))
    if wanted.creator is not None:
        yield _created_by(table, pk, *wanted.creator)
    for sql, value in (
        (f"{table}.task_name = %s", wanted.name),
        (f"COALESCE({table}.queue, '') = %s", wanted.queue),
        (_contains(f"{table}.last_error"), wanted.error and _escaped(wanted.error)),
        (f"{due} >= %s", wanted.after and db.moment(wanted.after)),
        (f"{due} < %s", wanted.before and db.moment(wanted.before)),
    ):
        if value is not None:
            yield sql, [value]


def _in_arguments(table: str, text: str) -> tuple[str, list[Any]]:
    """That a text is in the arguments; those of tasks with sensitive ones are left out."""
    hidden = sensitive.names()
    places = ", ".join(["%s"] * len(hidden))
    shown = f" AND {table}.task_name NOT IN ({places})" if hidden else ""
    return f"({_contains(f'{table}.task_params')}{shown})", [text, *hidden]


def _created_by(table: str, pk: str, content_type: int, key: Any) -> tuple[str, list[Any]]:
    by = f"{table}.creator_content_type_id = %s AND {table}.creator_object_id"
    if creators.fits(key):
        return f"{by} = %s", [content_type, key]
    kept = f"SELECT 1 FROM {CREATORS} AS kept WHERE kept.task_id = {pk} AND kept.object_id = %s"
    return f"{by} IS NULL AND EXISTS ({kept})", [content_type, str(key)]


def _contains(column: str) -> str:
    like = "ILIKE" if db.on_postgresql() else "LIKE"
    return f"{column} {like} %s ESCAPE '~'"


def _escaped(text: str) -> str:
    for wild in "~%_":
        text = text.replace(wild, f"~{wild}")
    return f"%{text}%"


def _listed(row: Row) -> Listed:
    pk, state, name, params, queue, priority, attempts, *dates, claim, error = row
    due, started, finished = map(db.read_date, dates)
    return Listed(
        pk, State(state), name, str(params), queue, priority, attempts, due, started, finished,
        claim or "", error or "",
    )  # fmt: skip
