"""Tables for the tasks that succeeded within some days: pruning drops such a table as a whole.

That is for PostgreSQL, with the setting ``BGTASKS_PARTITION_HISTORY``. Each table inherits from the
one of the outcomes, or of the completed tasks. So whatever reads, changes or deletes rows there
reaches these rows too. Only the code that writes successes, and the code that prunes, has to know
of these tables.

PostgreSQL's declarative partitions would not do: the date would have to be part of every primary
key, and a table that exists can only be attached to a new one that is partitioned.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import ceil
from typing import NamedTuple

from django.core.signals import setting_changed
from django.db import Error, OperationalError, ProgrammingError, transaction
from django.db.models import Model

from bgtasks import conf
from bgtasks.clock import elapsed
from bgtasks.logs import get_logger
from bgtasks.models import CompletedTask, Outcome
from bgtasks.queue import database as db
from bgtasks.queue import sequences

logger = get_logger(__name__)

DAY = timedelta(days=1)
# The days for which successes are kept are divided among so many partitions at most, and two or
# three more are young or about to be dropped. PostgreSQL plans for each of them when it plans a
# statement that reads the history.
MOST = 30
# Seconds after which a process asks again whether the tables of the day are there.
AGAIN = 60.0
# How long DROP TABLE waits for its lock, in milliseconds, and how often it is tried: whoever wants
# the table waits behind it.
LOCK_TIMEOUT = 100
TRIES = 20
# How long CREATE TABLE waits for its lock, in milliseconds. Readers and writers do not wait behind
# it. It is longer than PostgreSQL's `deadlock_timeout`, after which autovacuum gives way.
MAKE_TIMEOUT = 3_000
# The keys of the advisory locks under which the tables are made, and dropped: two workers may begin
# at once.
_MAKING, _DROPPING = 0x6267_7061_7274, 0x6267_7061_7275
# The rows of a table with more bytes than these are not counted: the planner's estimate is taken.
COUNTED = 8_000_000


class Place(NamedTuple):
    """The two tables, as SQL, into which the rows of tasks that ended are written."""

    outcomes: str
    completed: str


MAIN = Place(db.OUTCOMES, db.COMPLETED)


@dataclass(frozen=True)
class Partition:
    """Two tables with the tasks that succeeded from a day on.

    Attributes:
        first: the day.
        place: the tables.
        ours: whether this role owns that of the outcomes. Whoever made it made the other one too.
    """

    first: date
    place: Place
    ours: bool


@dataclass(frozen=True)
class _Found:
    """What was found for a day, and the time, by `elapsed`, at which to look again."""

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
    day = _day_here()
    if _found is None or _found.day != day or elapsed() >= _found.until:
        there = {each.first: each.place for each in partitions() if each.ours}
        found = there.get(_first(day, _length()), MAIN)
        if obstacle() or (found is not MAIN and _not_inherited()):
            found = MAIN
        _found = _Found(day, found, elapsed() + AGAIN)
    return _found.place


def _day_here() -> date:
    """The day in UTC, by this host's clock: to ask the database's for each ending costs more."""
    return datetime.fromtimestamp(time.time(), UTC).date()


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
        if named := referring(model):
            return f"{named[0]} has a foreign key to {model.__name__}"
    return ""


def referring(model: type[Model]) -> list[str]:
    """The models of the project with a foreign key to this one, also with ``related_name="+"``."""
    fields = model._meta.get_fields(include_hidden=True)
    found = [field for field in fields if field.auto_created and not field.concrete]
    return [field.related_model._meta.label for field in found if field.related_model]


def _length() -> int:
    """How many days one partition covers."""
    kept = conf.retention()["succeeded"]
    return 1 if kept is None else max(1, ceil(kept / DAY / MOST))


def _first(day: date, length: int) -> date:
    """The first day of the partition to which a day belongs."""
    return date.fromordinal(day.toordinal() // length * length)


def partitions() -> list[Partition]:
    """Those that exist, the oldest first."""
    outcomes, completed = (_children(parent) for parent in MAIN)
    return [
        Partition(day, Place(outcomes[day][0], completed[day][0]), outcomes[day][1])
        for day in sorted(outcomes.keys() & completed.keys())
    ]


def _children(parent: str) -> dict[date, tuple[str, bool]]:
    """The tables of days that inherit from another one, as SQL, and whether this role owns them."""
    found = {}
    for name, sql, ours in db.fetch(
        "SELECT relname, pg_class.oid::regclass::text, pg_has_role(relowner, 'USAGE') "
        "FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
        "WHERE inhparent = to_regclass(%s)",
        [parent],
    ):
        if match := re.fullmatch(rf"{parent}_(\d{{8}})", name):
            with suppress(ValueError):  # somebody has made a table with such a name
                found[date.fromisoformat(match[1])] = (sql, bool(ours))
    return found


# --- making them


def prepare() -> None:
    """Make the partition of this day and the one after it, if they are to be and are not there.

    If that fails, it is logged, and successes go into the main tables.
    """
    if not conf.partition_history() or obstacle():
        return
    try:
        _make_missing()
    except ProgrammingError as error:
        logger.warning(
            "The tables for the next days could not be made (%s). So tasks that succeed are "
            "written to %s and %s, and are deleted there by statements. BGTASKS_PARTITION_HISTORY "
            "needs a role that owns these two tables and may create tables beside them.",
            str(error).strip(), *MAIN,
        )  # fmt: skip
    except Error as error:
        logger.warning(
            "The tables for the next days could not be made (%s). This is tried again in ten "
            "minutes. Without them, tasks that succeed are written to %s and %s.",
            str(error).strip(), *MAIN,
        )  # fmt: skip


def _make_missing() -> None:
    there = {each.first for each in partitions()}
    first = _first(_today(), _length())
    missing = {first, first + _length() * DAY} - there
    if missing and (reason := _not_inherited()):
        logger.warning(
            "BGTASKS_PARTITION_HISTORY has no effect: %s, and PostgreSQL would not apply that to "
            "the tables for single days. Tasks that succeed are written to %s and %s. Remove it, "
            "or remove the setting.", reason, *MAIN,
        )  # fmt: skip
        return
    for day in sorted(missing):
        make(day)


def _today() -> date:
    """The day in UTC, by the database's clock."""
    day: date = db.fetch("SELECT (STATEMENT_TIMESTAMP() AT TIME ZONE 'UTC')::date")[0][0]
    return day


def _not_inherited() -> str:
    """What the main tables have that tables which inherit from them would not; empty if nothing."""
    tables = "(to_regclass(%s), to_regclass(%s))"
    found = db.fetch(
        "SELECT 'the foreign key ' || conname || ' of ' || conrelid::regclass || ' refers to ' || "
        f"confrelid::regclass FROM pg_constraint WHERE contype = 'f' AND confrelid IN {tables} "
        "UNION ALL SELECT tgrelid::regclass || ' has the trigger ' || tgname FROM pg_trigger "
        f"WHERE NOT tgisinternal AND tgrelid IN {tables} LIMIT 1",
        [*MAIN, *MAIN],
    )
    return found[0][0] if found else ""


def make(day: date) -> None:
    """Make the partition of the tasks that succeed from a day on, unless another process does.

    Raises:
        ProgrammingError: the role may not do so.
        OperationalError: somebody has kept one of the tables locked.
    """
    # No index spans the tables, so nothing but the sequences keeps an id from coming again.
    sequences.lift(db.connection())
    with transaction.atomic(using=db.alias()):
        if not _is_first(_MAKING):
            return
        db.execute(f"SET LOCAL lock_timeout = {MAKE_TIMEOUT}")
        for parent in MAIN:
            schema = db.fetch(
                "SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace "
                "ON pg_namespace.oid = relnamespace WHERE pg_class.oid = to_regclass(%s)",
                [parent],
            )[0][0]
            # Without the parent's foreign key: dropping a table that has one locks the other too.
            db.execute(
                f"CREATE TABLE IF NOT EXISTS {schema}.{parent}_{day:%Y%m%d} "
                f"(LIKE {parent} INCLUDING INDEXES) INHERITS ({parent})"
            )


def _is_first(key: int) -> bool:
    """Take the advisory lock of a key for this transaction; whether no other one has it."""
    return bool(db.fetch(f"SELECT pg_try_advisory_xact_lock({key})")[0][0])


# --- dropping them


def ended(before: datetime) -> list[Partition]:
    """The partitions whose days were all over at a date, and have been over for at least a day."""
    # Yesterday's may still be written: by a worker whose clock is behind, or that last looked for
    # the tables of the day up to a minute ago.
    over = min(before.astimezone(UTC).date(), _today() - DAY)
    return [each for each in partitions() if each.first + _length() * DAY <= over]


def is_old(partition: Partition, before: datetime) -> bool:
    """Whether a partition has only tasks that succeeded before a date."""
    outcomes = partition.place.outcomes
    # Each of these is one look into the index, also where the planner knows nothing of the table.
    [(first, last, latest)] = db.fetch(
        f"SELECT (SELECT MIN(state) FROM {outcomes}), (SELECT MAX(state) FROM {outcomes}), "
        f"(SELECT MAX(finished_at) < %s FROM {outcomes} WHERE state = %s)",
        [db.moment(before), Outcome.State.SUCCEEDED],
    )
    return first is None or (first == last == Outcome.State.SUCCEEDED and latest)


def can_be_dropped(partition: Partition, before: datetime) -> bool:
    """Whether it is old, and this role and this transaction may drop it."""
    # Inside a transaction of the caller, the locks and lock_timeout would last until that ends.
    is_apart = not db.connection().in_atomic_block
    return partition.ours and is_apart and is_old(partition, before)


def drop(partition: Partition, before: datetime) -> Generator[int, None, bool]:
    """Drop a partition that is old, unless another process drops one just now.

    Yields:
        0 after each try in which somebody was reading it, then the number of tasks that it had, if
        there were any. If they are many, that is an estimate.

    Returns:
        Whether it was dropped.

    Raises:
        ProgrammingError: it is gone.
        InternalError: something depends on it.
    """
    count = _size(partition.place.outcomes)
    for _ in range(TRIES):
        try:
            dropped = _drop_now(partition, before)
        except OperationalError as error:
            if not db.is_lock_timeout(error):
                raise
            yield 0
        else:
            if dropped and count:
                yield count
            return dropped
    logger.info(
        "%s is being read by another transaction, and was not dropped. This is tried again at the "
        "next pruning. pg_stat_activity shows transactions that have been open for long.",
        partition.place.outcomes,
    )
    return False


def _drop_now(partition: Partition, before: datetime) -> bool:
    tables = ", ".join(partition.place)
    with transaction.atomic(using=db.alias()):
        if not _is_first(_DROPPING):
            return False
        db.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}")
        db.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
        if not is_old(partition, before):
            return False
        db.execute(f"DROP TABLE {tables}")
        return True


def _size(table: str) -> int:
    """The number of rows of a table; an estimate, if the table is large."""
    # Another process may drop it meanwhile: then there is no row or no size, or an error.
    found = db.fetch(
        "SELECT pg_relation_size(oid), reltuples FROM pg_class WHERE oid = %s::regclass", [table]
    )
    for size, estimate in found:
        if size and size > COUNTED:
            return max(0, int(estimate))
    [(count,)] = db.fetch(f"SELECT COUNT(*) FROM {table}")
    return int(count)
