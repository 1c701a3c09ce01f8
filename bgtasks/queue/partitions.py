"""Tables for the tasks that succeeded within some days: pruning drops such a table as a whole.

That is for PostgreSQL, with the setting ``BGTASKS_PARTITION_HISTORY``. Each table inherits from the
one of the outcomes, or of the completed tasks. So whatever reads, changes or deletes rows there
reaches these rows too, and only who writes successes has to know of the tables.

PostgreSQL's declarative partitions would not do: the date would have to be part of every primary
key, and a table that exists cannot become partitioned without being copied.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import ceil
from typing import NamedTuple

from django.core.signals import setting_changed
from django.db import InternalError, OperationalError, ProgrammingError, transaction
from django.db.models import Model

from bgtasks import conf
from bgtasks.clock import elapsed
from bgtasks.logs import get_logger
from bgtasks.models import CompletedTask, Outcome
from bgtasks.queue import database as db
from bgtasks.queue import sequences

logger = get_logger(__name__)

DAY = timedelta(days=1)
# A statement that reads the history plans for each table: with thirty, that takes a millisecond.
MOST = 30
# Seconds after which a process asks again whether the tables of the day are there.
AGAIN = 60.0
# Whoever wants one of the tables waits behind a DROP TABLE that waits for its lock: so not longer
# than this, in milliseconds, and so often. In a worker half a second passes between two tries.
LOCK_TIMEOUT = 100
TRIES = 20
# To count more rows than this could take longer than a worker gives a statement.
MANY = 100_000
# The key of the advisory lock under which the tables are made: two workers may begin at once.
_MAKING = 0x6267_7061_7274


class Place(NamedTuple):
    """The two tables, as SQL, into which the rows of tasks that ended are written."""

    outcomes: str
    completed: str


MAIN = Place(db.OUTCOMES, db.COMPLETED)


@dataclass(frozen=True)
class Partition:
    """Two tables with the tasks that succeeded from a day on."""

    first: date
    place: Place


@dataclass(frozen=True)
class _Found:
    """What was found for a day, and until when, by `elapsed`, that is not asked again."""

    day: date
    place: Place
    until: float


_found: _Found | None = None


def _forget(**_: object) -> None:
    global _found
    _found = None


setting_changed.connect(_forget)


def place() -> Place:
    """Where a task that succeeds now is written: the tables of the day, or the main ones."""
    global _found
    if not conf.partition_history() or not db.on_postgresql():
        return MAIN
    day = _today()
    if _found is None or _found.day != day or elapsed() >= _found.until:
        there = {each.first: each.place for each in partitions()}
        found = MAIN if obstacle() else there.get(_first(day, _length()), MAIN)
        _found = _Found(day, found, elapsed() + AGAIN)
    return _found.place


def obstacle() -> str:
    """Why there can be no partitions though the setting asks for them; empty if they can be."""
    kept = conf.retention()["succeeded"]
    if not db.on_postgresql():
        return "the task tables are not in PostgreSQL"
    if kept is None:
        return "BGTASKS_RETENTION keeps tasks that succeeded for ever"
    if kept < DAY:
        return "BGTASKS_RETENTION keeps tasks that succeeded for less than a day"
    for model in (Outcome, CompletedTask):
        if is_referred_to(model):
            return f"a model refers to {model.__name__} by a foreign key"
    return ""


def is_referred_to(model: type[Model]) -> bool:
    """Whether a model of the project refers to this one, also without a name for the way back."""
    fields = model._meta.get_fields(include_hidden=True)
    return any(field.auto_created and not field.concrete for field in fields)


def _today() -> date:
    return datetime.fromtimestamp(time.time(), UTC).date()


def _length() -> int:
    """How many days one partition covers."""
    kept = conf.retention()["succeeded"]
    return 1 if kept is None else max(1, ceil(kept / DAY / MOST))


def _first(day: date, length: int) -> date:
    """The first day of the partition to which a day belongs."""
    return date.fromordinal(day.toordinal() // length * length)


def partitions() -> list[Partition]:
    """Those that exist, the oldest first."""
    tables = {
        parent: {
            match[1]: name
            for relname, name in _children(parent)
            if (match := re.fullmatch(rf"{parent}_(\d{{8}})", relname))
        }
        for parent in MAIN
    }
    outcomes, completed = tables.values()
    return [
        Partition(date.fromisoformat(day), Place(outcomes[day], completed[day]))
        for day in sorted(outcomes.keys() & completed.keys())
    ]


def _children(parent: str) -> list[tuple[str, str]]:
    """The names of this role's tables that inherit from another one, and the same as SQL."""
    return db.fetch(
        "SELECT relname, pg_class.oid::regclass::text FROM pg_inherits "
        "JOIN pg_class ON pg_class.oid = inhrelid "
        "WHERE inhparent = to_regclass(%s) AND pg_has_role(relowner, 'USAGE')",
        [parent],
    )


def prepare() -> None:
    """Make the partition of this day and the one after it, if they are to be and are not there.

    If the database refuses, that is logged, and successes go into the main tables.
    """
    if not conf.partition_history() or obstacle():
        return
    there = {each.first for each in partitions()}
    first = _first(_today(), _length())
    for day in (first, first + _length() * DAY):
        if day not in there:
            try:
                make(day)
            except (OperationalError, ProgrammingError) as error:
                if isinstance(error, OperationalError) and not db.is_lock_timeout(error):
                    raise
                logger.warning(
                    "The tables for the tasks that succeed from %s on could not be made (%s). "
                    "Unless a later try makes them, these tasks go into %s and %s, and are pruned "
                    "one by one. BGTASKS_PARTITION_HISTORY needs a role that owns these two "
                    "tables and may create tables beside them.", day, str(error).strip(), *MAIN,
                )  # fmt: skip
                return


def make(day: date) -> None:
    """Make the partition of the tasks that succeed from a day on.

    Raises:
        ProgrammingError: the role may not do so.
        OperationalError: somebody has kept one of the tables locked.
    """
    # No index spans the tables, so nothing but the sequences keeps an id from coming again.
    sequences.lift(db.connection())
    with transaction.atomic(using=db.alias()):
        db.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}")
        db.execute(f"SELECT pg_advisory_xact_lock({_MAKING})")
        for parent in MAIN:
            [(schema,)] = db.fetch(
                "SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace "
                "ON pg_namespace.oid = relnamespace WHERE pg_class.oid = to_regclass(%s)",
                [parent],
            )
            # Without the parent's foreign key: dropping a table that has one locks the other too.
            db.execute(
                f"CREATE TABLE IF NOT EXISTS {schema}.{parent}_{day:%Y%m%d} "
                f"(LIKE {parent} INCLUDING INDEXES) INHERITS ({parent})"
            )


def old(before: datetime) -> list[Partition]:
    """The partitions that have only tasks that succeeded before a date."""
    # Yesterday's may still be written: by a worker whose clock is behind, or that has looked a
    # minute ago.
    last = _today() - (1 + _length()) * DAY
    ended = [each for each in partitions() if each.first <= last]
    return [each for each in ended if _has_only_old(each, before)]


def _has_only_old(partition: Partition, before: datetime) -> bool:
    state = Outcome.State.SUCCEEDED
    others = [each for each in Outcome.State if each != state]
    [(kept,)] = db.fetch(
        f"SELECT EXISTS (SELECT 1 FROM {partition.place.outcomes} WHERE state = %s AND "
        f"finished_at >= %s) OR EXISTS (SELECT 1 FROM {partition.place.outcomes} "
        "WHERE state = ANY(%s))",
        [state, before, others],
    )
    return not kept


def drop(partition: Partition, before: datetime) -> Iterator[int]:
    """Drop a partition, if all of its tasks succeeded before a date.

    Yields:
        0 after each try in which somebody was reading it, then the number of tasks that it had,
        which is about right if they are many.
    """
    count = _size(partition.place.outcomes)
    for _ in range(TRIES):
        try:
            dropped = _drop_now(partition, before)
        except InternalError as error:
            tables = ", ".join(partition.place)
            logger.warning("%s are old, and could not be dropped: %s", tables, str(error).strip())
            return
        except OperationalError as error:
            if not db.is_lock_timeout(error):
                raise
            yield 0
        else:
            yield count if dropped else 0
            return
    logger.info("%s is being read, so it is dropped at the next pruning.", partition.place.outcomes)


def _size(table: str) -> int:
    """How many rows a table has: by the planner's estimate, if that says that they are many."""
    [(estimate,)] = db.fetch("SELECT reltuples FROM pg_class WHERE oid = to_regclass(%s)", [table])
    if estimate >= MANY:
        return int(estimate)
    [(count,)] = db.fetch(f"SELECT COUNT(*) FROM {table}")
    return int(count)


def _drop_now(partition: Partition, before: datetime) -> bool:
    with transaction.atomic(using=db.alias()):
        db.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}")
        db.execute(f"LOCK TABLE {', '.join(partition.place)} IN ACCESS EXCLUSIVE MODE")
        if not _has_only_old(partition, before):
            return False
        db.execute(f"DROP TABLE {', '.join(partition.place)}")
        return True
