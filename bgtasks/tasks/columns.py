"""The values that a call or a decorator gives for the columns of a row, checked before it is made.

Each error names the option and the task. What upstream takes is taken, if the database can hold it:
SQLite holds longer texts and higher numbers than PostgreSQL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sized
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from typing import Any

from background_task import tasks as upstream
from background_task.models import Task
from django.core.exceptions import ValidationError
from django.db import connections, router
from django.utils import timezone
from django.utils.functional import Promise

from bgtasks.exceptions import InvalidOption

# The highest priority, and with a minus the lowest. PostgreSQL's column would hold one lower still,
# but not what becomes of that when its sign is changed; see `bgtasks.conf.as_stored`.
HIGHEST_PRIORITY = 2**31 - 1
LONGEST_REPEAT = 2**63 - 1  # seconds, what the column holds
# What a text may have that cannot be stored: NUL on PostgreSQL, half of a surrogate pair anywhere.
NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")
ACTIONS = (
    upstream.TaskSchedule.SCHEDULE,
    upstream.TaskSchedule.RESCHEDULE_EXISTING,
    upstream.TaskSchedule.CHECK_EXISTING,
)


def as_schedule(schedule: Any, name: str = "") -> Any:
    """A ``TaskSchedule`` from any value that the option ``schedule`` takes.

    Unlike upstream's own conversion, it also takes 0 and fractions of seconds as a delay.

    Args:
        name: the task's name, for the error text.

    Raises:
        InvalidOption: the value makes no sense, or a part of it does not.
    """
    where = f"schedule of task {name}" if name else "schedule"
    if isinstance(schedule, upstream.TaskSchedule):
        run_at, priority, action = schedule._run_at, schedule._priority, schedule._action
    else:
        given = schedule if isinstance(schedule, Mapping) else {"run_at": schedule}
        run_at, priority, action = (given.get(key) for key in ("run_at", "priority", "action"))
    if action is not None and action not in ACTIONS:
        action = upstream.TaskSchedule.SCHEDULE  # as upstream does it
    if priority is not None:
        priority = _as_stored_priority(f"The priority in {where}", priority)
    return upstream.TaskSchedule(_delay_or_time(run_at, where), priority, action)


def _delay_or_time(run_at: Any, where: str) -> Any:
    """The time to run at, or the delay.

    Raises:
        InvalidOption: it is neither.
    """
    if isinstance(run_at, datetime):
        check_in_calendar(run_at, where)
        return run_at
    if isinstance(run_at, timedelta | int | float):
        _check_from_now(run_at, where)
        if isinstance(run_at, timedelta):
            return run_at
        # An integer other than 0 is left as it is, for upstream takes it, and others may compare
        # it.
        return timedelta(seconds=run_at) if isinstance(run_at, float) or run_at == 0 else run_at
    if run_at is None or (not run_at and isinstance(run_at, Sized)):
        return None  # an empty text or list is none for upstream
    try:
        return Task._meta.get_field("run_at").to_python(run_at)  # dates, and times as texts
    except (ValidationError, TypeError, ValueError):
        raise InvalidOption(
            f"{where} is {run_at!r}: give seconds, a timedelta, a datetime, a dict or a "
            "TaskSchedule."
        ) from None


def _check_from_now(span: timedelta | float, where: str) -> None:
    """Refuse a delay after which the calendar has no day more, or before which it has none yet.

    Raises:
        InvalidOption: it is such a one, or no number.
    """
    try:
        when = timezone.now() + (span if isinstance(span, timedelta) else timedelta(seconds=span))
    except (OverflowError, ValueError):
        raise InvalidOption(
            f"{where} is {span if isinstance(span, timedelta) else repr(span)}: from now on, that "
            "is beyond the calendar. Give seconds, a timedelta or a datetime within it."
        ) from None
    check_in_calendar(when, where)


def check_options(name: str, options: dict[str, Any]) -> None:
    """Check the options of a call that have a column, and convert them to what the column holds.

    Args:
        name: the task's name, for the error texts.
        options: those that were given; changed in place. The creator is not checked here.

    Raises:
        InvalidOption: one of them makes no sense.
    """
    where = f"a call of {name}"
    if options.get("priority") is not None:
        options["priority"] = _as_stored_priority(f"priority of {where}", options["priority"])
    if options.get("queue") is not None:
        options["queue"] = as_text(options["queue"], where, "queue")
    if options.get("verbose_name") is not None:
        options["verbose_name"] = as_title(options["verbose_name"])
    if "repeat_until" in options:
        options["repeat_until"] = as_moment(options["repeat_until"], where, "repeat_until")


def check_own_options(name: str, options: Mapping[str, Any]) -> None:
    """Check the options of a call that upstream has no such way of giving, more strictly.

    Args:
        name: the task's name, for the error texts.
        options: those that were given.

    Raises:
        InvalidOption: the queue is no text or does not fit into its column, or the priority is no
            whole number or does not.
    """
    where = f"a call of {name}"
    if options.get("priority") is not None:
        as_priority(f"priority of {where}", options["priority"])
    check_text(options.get("queue"), where, "queue")


def _as_stored_priority(where: str, priority: Any) -> int:
    """A priority as upstream stores it: as a whole number that this database can hold.

    Args:
        where: the beginning of the error text.

    Raises:
        InvalidOption: it is no number, or the database cannot hold it.
    """
    most = 2 ** (63 if on_sqlite() else 31) - 1
    try:
        number = int(priority)
    except (TypeError, ValueError, OverflowError):
        number = most + 1
    if not -most - 1 <= number <= most:
        raise InvalidOption(
            f"{where} is {priority!r}: give a whole number from {-most - 1} to {most}."
        )
    return number


def as_priority(where: str, priority: Any) -> int:
    """A priority as the number that the column holds.

    Args:
        where: the beginning of the error text.

    Raises:
        InvalidOption: it is no whole number, or beyond the column.
    """
    try:
        number = int(priority)
    except (TypeError, ValueError, OverflowError):
        number = HIGHEST_PRIORITY + 1
    if abs(number) > HIGHEST_PRIORITY or (number != priority and not isinstance(priority, str)):
        raise InvalidOption(
            f"{where} is {priority!r}: give a whole number from -{HIGHEST_PRIORITY} to "
            f"{HIGHEST_PRIORITY}."
        )
    return number


def check_moment(value: Any, name: str, option: str) -> None:
    """Refuse what is no datetime, nor None.

    Raises:
        InvalidOption: it is such a value.
    """
    if not isinstance(value, datetime | None):
        raise InvalidOption(f"{option} of {name} is {value!r}: give a datetime.")


def as_moment(value: Any, name: str, option: str) -> datetime | None:
    """A time as a datetime, or None; dates, and times as texts, are converted as upstream does it.

    Args:
        name: the task's name, for the error text.
        option: the option's name, for the error text.

    Raises:
        InvalidOption: it is neither.
    """
    if value is None or isinstance(value, datetime):
        return value
    try:
        return Task._meta.get_field("repeat_until").to_python(value)  # type: ignore[no-any-return]
    except (ValidationError, TypeError, ValueError):
        raise InvalidOption(f"{option} of {name} is {value!r}: give a datetime.") from None


def check_in_calendar(value: datetime, where: str) -> None:
    """Refuse a time so near to the end of the calendar that other time zones cannot show it.

    Args:
        where: the option and what it belongs to, for the error text.

    Raises:
        InvalidOption: it is such a one.
    """
    if MINYEAR < value.year < MAXYEAR or timezone.is_naive(value):
        return
    try:
        value.astimezone(UTC)
        timezone.localtime(value)
    except (OverflowError, ValueError):
        raise InvalidOption(
            f"{where} is {value}: in another time zone that is beyond the calendar. "
            "Give a time that is further from its end."
        ) from None


def on_sqlite() -> bool:
    """Whether the tables of the tasks are in SQLite, which holds texts of any length."""
    return bool(connections[router.db_for_write(Task)].vendor == "sqlite")


def plain_text(value: Any) -> str:
    """A value as the text that a database stores of it; that of a text's enum is the text."""
    return str.__str__(value) if isinstance(value, str) else str(value)


def as_title(value: Any) -> str:
    """A ``verbose_name`` as the column can hold it.

    It is built from titles, so it is cut, and no call is refused for it. What cannot be stored is
    replaced by U+FFFD.
    """
    text = NOT_STORABLE.sub("\ufffd", plain_text(value))
    most = int(Task._meta.get_field("verbose_name").max_length or 0)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def as_text(value: Any, name: str, column: str, option: str = "") -> str:
    """The text of a value for a column, as upstream stores it.

    Args:
        name: the task's name, for the error text.
        column: ``queue`` or ``task_name``.
        option: the option's name, for the error text; empty: that of the column.

    Raises:
        InvalidOption: this database cannot hold it.
    """
    text = plain_text(value)
    fits = len(text) <= Task._meta.get_field(column).max_length and not NOT_STORABLE.search(text)
    if not fits and not (on_sqlite() and _is_utf8(text)):
        check_text(text, name, column, option)
    return text


def check_text(value: Any, name: str, column: str, option: str = "") -> None:
    """Refuse a text that is too long for its column, or that not every database can store.

    Args:
        name: the task's name, for the error text.
        column: ``queue``, ``verbose_name`` or ``task_name``.
        option: the option's name, for the error text; empty: that of the column.

    Raises:
        InvalidOption: it is such a one; or a queue that is no text.
    """
    if value is None:
        return
    if column == "queue" and not isinstance(value, str | Promise):
        raise InvalidOption(f"queue of {name} is {value!r}: give its name, a text.")
    text, most, option = str(value), Task._meta.get_field(column).max_length, option or column
    if len(text) > most:
        raise InvalidOption(
            f"{option} of {name[:most]} has {len(text)} characters: give at most {most}. It begins "
            f"with {text[:40]!r}."
        )
    if NOT_STORABLE.search(text):
        raise InvalidOption(
            f"{option} of {name} is {text!r}: not every database can store NUL or half of a "
            "surrogate pair."
        )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def repeat_seconds(name: str, repeat: int | float | timedelta | None) -> int:
    """The interval of a repeating row in whole seconds; 0 if it does not repeat.

    Args:
        name: the task's name, for the error text.
        repeat: seconds, or a timedelta; None or 0: it does not repeat.

    Raises:
        InvalidOption: the interval is no number of whole seconds, negative, or beyond the column.
    """
    value = repeat.total_seconds() if isinstance(repeat, timedelta) else repeat or 0
    number = isinstance(value, int | float) and 0 <= value <= LONGEST_REPEAT
    if not number or value != int(value):
        raise InvalidOption(
            f"repeat of {name} is {repeat!r}: give whole seconds, 1 or more and below 2 ** 63, "
            "or a timedelta of them."
        )
    return int(value)
