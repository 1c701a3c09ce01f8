"""The values that a call or a decorator gives for the columns of a row, checked before it is made.

Each error names the option and the task. What upstream takes is taken, and left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from typing import Any

from background_task import tasks as upstream
from background_task.models import Task
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.functional import Promise

from bgtasks.exceptions import LONGEST, InvalidOption, seconds

# The highest priority, and with a minus the lowest. PostgreSQL's column would hold one lower still,
# but not what becomes of that when its sign is changed; see `bgtasks.conf.as_stored`.
HIGHEST_PRIORITY = 2**31 - 1
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
        raise InvalidOption(
            f"The action in {where} is {action!r}. Give TaskSchedule.SCHEDULE, "
            "RESCHEDULE_EXISTING or CHECK_EXISTING."
        )
    if priority is not None:
        priority = as_priority(f"The priority in {where}", priority)
    return upstream.TaskSchedule(_delay_or_time(run_at, where), priority, action)


def _delay_or_time(run_at: Any, where: str) -> Any:
    """The time to run at, or the delay.

    Raises:
        InvalidOption: it is neither.
    """
    if run_at is None:
        return None
    if isinstance(run_at, datetime):
        check_in_calendar(run_at, where)
        return run_at
    if isinstance(run_at, timedelta):
        seconds(abs(run_at.total_seconds()), where)  # a time that is past means now
        return run_at
    if isinstance(run_at, int | float):
        seconds(abs(run_at), where)
        # An integer other than 0 is left as it is, for upstream takes it, and others may compare
        # it.
        return timedelta(seconds=run_at) if isinstance(run_at, float) or run_at == 0 else run_at
    try:
        return Task._meta.get_field("run_at").to_python(run_at)  # dates, and times as texts
    except (ValidationError, TypeError, ValueError):
        raise InvalidOption(
            f"{where} is {run_at!r}: give seconds, a timedelta, a datetime, a dict or a "
            "TaskSchedule."
        ) from None


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
        options["priority"] = as_priority(f"priority of {where}", options["priority"])
    for column in ("queue", "verbose_name"):
        check_text(options.get(column), where, column)
    if "repeat_until" in options:
        options["repeat_until"] = as_moment(options["repeat_until"], where, "repeat_until")


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
    if not _is_storable(text):
        raise InvalidOption(
            f"{option} of {name} is {text!r}: not every database can store NUL or half of a "
            "surrogate pair."
        )


def _is_storable(text: str) -> bool:
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False


def repeat_seconds(name: str, repeat: int | float | timedelta | None) -> int:
    """The interval of a repeating row in whole seconds; 0 if it does not repeat.

    Args:
        name: the task's name, for the error text.
        repeat: seconds, or a timedelta; None or 0: it does not repeat.

    Raises:
        InvalidOption: the interval is no number of whole seconds, negative, or over a hundred
            years.
    """
    value = repeat.total_seconds() if isinstance(repeat, timedelta) else repeat or 0
    number = isinstance(value, int | float) and 0 <= value <= LONGEST.total_seconds()
    if not number or value != int(value):
        raise InvalidOption(
            f"repeat of {name} is {repeat!r}: give whole seconds, from 1 to a hundred years, or a "
            "timedelta of them."
        )
    return int(value)
