"""Times and durations as the pages show them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.humanize.templatetags.humanize import naturaltime
from django.utils import timezone

from bgtasks.queue.repeat import HELD

# A space at which no line is broken: a number stays with its unit.
NO_BREAK = "\xa0"


@dataclass(frozen=True)
class When:
    """A moment; the template ``_when.html`` shows it.

    Attributes:
        iso: for programs.
        exact: to the second, in the project's time zone.
        relative: to now, such as "5 minutes ago".
    """

    iso: str
    exact: str
    relative: str


def when(moment: datetime | None) -> When | None:
    """A moment for a template; None for None."""
    if moment is None:
        return None
    if moment.year >= HELD.year:
        return When(moment.isoformat(), "while it is paused", "when it is resumed")
    try:
        local = timezone.localtime(moment) if timezone.is_aware(moment) else moment
        relative = naturaltime(moment)
    except (OverflowError, ValueError):  # at the ends of Python's calendar
        local, relative = moment, str(moment)
    return When(moment.isoformat(), f"{local:%Y-%m-%d %H:%M:%S %Z}".rstrip(), relative)


def duration(span: timedelta | None) -> str:
    """How long something took, to the millisecond; empty for None.

    What clocks that differ make negative is shown as zero.
    """
    if span is None:
        return ""
    milliseconds = max(0, round(span / timedelta(milliseconds=1)))
    seconds, milliseconds = divmod(milliseconds, 1_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    while parts and not parts[0][0]:
        del parts[0]
    longer = [f"{number}{NO_BREAK}{unit}" for number, unit in parts]
    return " ".join([*longer, f"{seconds}.{milliseconds:03}{NO_BREAK}s"])
