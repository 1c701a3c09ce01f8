"""What runs by itself: tasks with a cron line, and repeating rows, with their next times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from background_task.models import Task
from django.utils import timezone

from bgtasks.exceptions import InvalidCron
from bgtasks.models import Outcome
from bgtasks.operations.states import OF_QUEUED
from bgtasks.queue import cron_slots, repeat
from bgtasks.queue import database as db
from bgtasks.queue.indexes import REPEATING
from bgtasks.tasks import crontab, policies, registry

# How many next times are shown.
NEXT = 5
# How many cron tasks and how many repeating ones are shown at most.
MOST = 200
# Among how many of the tasks that ended last the last run of a repeating one is looked for.
AMONG = 5_000


@dataclass(frozen=True)
class LastRun:
    """The last run of a schedule.

    Attributes:
        id: the id of its task.
        state: where that stands, as `bgtasks.operations.states.State` names it.
        at: when it ended, or is or was due.
    """

    id: int
    state: str
    at: datetime | None


@dataclass(frozen=True)
class Schedule:
    """A task that runs again and again.

    Attributes:
        name: the task's.
        rule: its cron line; or every how many seconds it repeats, in words.
        next: its next times, aware, in the project's zone.
        id: of a repeating row; None for a cron task.
        last: its last run; None if that is not known.
        problem: why it does not run, as a sentence; "" if it does.
        paused: since when it is paused; None if it is not.
    """

    name: str
    rule: str
    next: Sequence[datetime] = ()
    id: int | None = None
    last: LastRun | None = None
    problem: str = ""
    paused: datetime | None = None


@dataclass
class Timetable:
    """All schedules.

    Attributes:
        cron: the tasks with a cron line that this process knows, by name.
        repeating: the repeating rows, in the order of their ids.
        more: whether there are more repeating rows, which are left out.
        problems: of task modules that cannot be imported here: then their cron tasks are missing.
    """

    cron: list[Schedule] = field(default_factory=list)
    repeating: list[Schedule] = field(default_factory=list)
    more: bool = False
    problems: list[str] = field(default_factory=list)


def read() -> Timetable:
    """The timetable, of the tasks that this process knows and of the rows that repeat."""
    problems = [str(error) for error in registry.import_task_modules()]
    repeating = _repeating()
    return Timetable(_cron(), repeating[:MOST], len(repeating) > MOST, problems)


def cron_tasks() -> dict[str, str]:
    """The cron lines of the tasks that this process knows, by their names."""
    lines = {name: policies.of(name).cron for name in sorted(registry.names())}
    return {name: line for name, line in lines.items() if line}


def _cron() -> list[Schedule]:
    lines = dict(list(cron_tasks().items())[:MOST])
    last = _states(cron_slots.last_tasks(lines)) if lines else {}
    now, paused = datetime.now(UTC), cron_slots.paused()
    return [
        replace(_cron_schedule(name, text, now), last=last.get(name), paused=paused.get(name))
        for name, text in lines.items()
    ]


def _cron_schedule(name: str, text: str, now: datetime) -> Schedule:
    try:
        return Schedule(name, text, list(_next_times(crontab.parse(text, name), now)))
    except InvalidCron as error:
        return Schedule(name, text, problem=str(error))


def _next_times(line: crontab.Line, moment: datetime) -> Iterator[datetime]:
    for _ in range(NEXT):
        moment = line.after(moment)
        yield moment.astimezone(timezone.get_default_timezone())


def _states(ids: Mapping[str, int]) -> dict[str, LastRun]:
    """Where tasks stand; the ids by any key."""
    chosen = [db.members(ids.values())]
    queued = db.fetch(
        f"SELECT id, {OF_QUEUED}, {_seconds('run_at')} FROM {db.TASKS} "
        f"WHERE failed_at IS NULL AND {db.is_member('id', 'bigint')}",
        [db.moment(timezone.now()), *chosen],
    )
    ended = db.fetch(
        f"SELECT task_id, state, {_seconds('finished_at')} FROM {db.OUTCOMES} "
        f"WHERE {db.is_member('task_id', 'bigint')} AND {db.is_current()}",
        chosen,
    )
    found = {pk: LastRun(pk, state, _ago(age)) for pk, state, age in [*queued, *ended]}
    return {key: found[pk] for key, pk in ids.items() if pk in found}


def _seconds(column: str) -> str:
    return db.age(db.date_or_null(column))


def _ago(age: Any) -> datetime | None:
    """The moment that is so many seconds ago; None if the age is none that Python can hold."""
    try:
        return timezone.now() - timedelta(seconds=float(age))
    except (TypeError, ValueError, OverflowError):
        return None


def _repeating() -> list[Schedule]:
    rows = list(
        Task.objects.using(db.alias())
        .extra(where=[REPEATING, f"NOT COALESCE({db.has_odd_date(Task)}, 1 = 0)"])  # noqa: S610
        .filter(failed_at=None)
        .order_by("pk")
        .only(
            *("pk", "task_name", "task_params", "task_hash"),
            *("run_at", "repeat", "repeat_until"),
        )[: MOST + 1]
    )
    paused = repeat.paused(rows)
    last = _last_of(row.task_hash for row in rows) if rows else {}
    return [
        Schedule(
            row.task_name,
            _every(row.repeat),
            [] if row.pk in paused else list(_repetitions(row)),
            row.pk,
            last.get(row.task_hash),
            paused=paused.get(row.pk),
        )
        for row in rows
    ]


def _every(seconds: int) -> str:
    """How often a row repeats, in words, such as "every 5 minutes"."""
    units = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
    size, unit = next(pair for pair in units if seconds % pair[0] == 0)
    count = seconds // size
    return f"every {unit}" if count == 1 else f"every {count:,} {unit}s"


def _repetitions(row: Task) -> Iterator[datetime]:
    """The next times of a repeating row; the first one is past if the row is late."""
    moment, zone = row.run_at, timezone.get_default_timezone()
    for _ in range(NEXT):
        if row.repeat_until and moment > row.repeat_until:
            return
        aware = moment if timezone.is_aware(moment) else timezone.make_aware(moment)
        yield aware.astimezone(zone)
        try:
            moment += timedelta(seconds=row.repeat)
        except OverflowError:
            return


def _last_of(hashes: Iterable[str]) -> dict[str, LastRun]:
    """The last run of each of these calls, if it is among the `AMONG` tasks that came last."""
    latest = f"SELECT * FROM {db.OUTCOMES} ORDER BY task_id DESC LIMIT {AMONG}"
    sql = (
        f"SELECT task_hash, task_id, state, {_seconds('latest.finished_at')} "
        f"FROM ({latest}) AS latest JOIN {db.COMPLETED} ON {db.COMPLETED}.id = completed_id "
        f"WHERE {db.is_member('task_hash', 'varchar')} AND repeat > 0 ORDER BY task_id"
    )
    rows = db.fetch(sql, [db.members(set(hashes))])
    return {key: LastRun(pk, Outcome.State(state), _ago(age)) for key, pk, state, age in rows}
