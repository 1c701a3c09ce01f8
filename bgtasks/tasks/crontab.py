"""The times of a crontab line. Pure functions, no database.

cronsim says which minutes of local time a line means. When the clocks are set forward or back, a
local time does not exist, or comes twice. What is done then is decided here, by the rule of
Debian's cron. cronsim has the same rule, but gets it right only where clocks change by whole hours.

In the names here, a "wall" is a local time, as a clock on the wall shows it: a naive datetime.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property, lru_cache
from typing import Any

from cronsim import CronSim, CronSimError
from django.utils import timezone

from bgtasks.exceptions import InvalidCron

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = 5
WRITE = (
    "Write five fields, minute, hour, day of month, month and day of week, for example "
    f'cron="0 9 * * mon-fri", or one of {", ".join(ALIASES)}.'
)


def parse(text: str, name: str) -> Line:
    """Read a crontab line.

    Args:
        text: the line.
        name: the task's name, for the error text.

    Raises:
        InvalidCron: the text is no crontab line, or its time never comes.
    """
    if not isinstance(text, str):
        raise _invalid(text, name, "that is no text")
    return _parse(text, name)


@lru_cache(maxsize=1000)
def _parse(text: str, name: str) -> Line:
    plain = text.strip().lower()
    fields = ALIASES.get(plain, plain).split()
    if plain.startswith("@") and plain not in ALIASES:
        raise _invalid(text, name, f"there is no {plain} here")
    if len(fields) != FIELDS:
        raise _invalid(text, name, f"it has {len(fields)} fields, not {FIELDS}")
    fields[4] = re.sub(r"-sun\b", "-7", fields[4])  # mon-sun: Sunday is 7 too
    line = Line(name, text, " ".join(fields))
    try:
        next(line.walls(datetime(2000, 1, 1)))  # noqa: DTZ001, a local time
    except InvalidCron:
        raise
    except (CronSimError, ValueError) as error:
        raise _invalid(text, name, str(error).lower()) from error
    return line


def check(text: str, name: str, function: Callable[..., Any]) -> None:
    """Check that a crontab line can be read, and that its task can be called without arguments.

    Raises:
        InvalidCron: one of the two is not so.
    """
    parse(text, name)
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise InvalidCron(
            f"Task {name} has cron={text!r}, whose rows carry no arguments, and {error}. Give its "
            "parameters defaults, or have a task without parameters call it."
        ) from error


def _invalid(text: object, name: str, reason: str) -> InvalidCron:
    return InvalidCron(f"cron of task {name} is {text!r}: {reason}. {WRITE}")


@dataclass(frozen=True)
class Line:
    """A crontab line.

    Attributes:
        name: the task's name.
        text: the line as it was written.
        fields: the line as cronsim reads it.
    """

    name: str
    text: str
    fields: str

    @cached_property
    def often(self) -> bool:
        """Whether its minute or its hour begins with ``*``, such as "every ten minutes".

        Such a line runs whenever the clock shows one of its times, also if the clock shows that
        twice. Any other line is for a certain time of day, and runs once each day.
        """
        return any(field.startswith("*") for field in self.fields.split()[:2])

    def after(self, moment: datetime, zone: tzinfo | None = None) -> datetime:
        """The line's first time after a moment.

        Args:
            moment: an aware datetime.
            zone: the time zone that the line is meant in; None: the project's.

        Returns:
            An aware datetime in UTC.

        Raises:
            InvalidCron: there is none within fifty years.
        """
        zone = zone or timezone.get_default_timezone()
        here, found = _wall(moment, zone), list[datetime]()
        # If the clock is set back soon, it will show again what it has shown before the moment: so
        # the search begins that much earlier.
        for wall in self.walls(here - _repeated(moment, zone, fold=0)):
            found += [time for time in self._times(wall, zone) if time > moment]
            if found and wall > here:
                break
        return min(found)

    def latest(self, moment: datetime, zone: tzinfo | None = None) -> datetime:
        """The line's last time at or before a moment.

        Args:
            moment: an aware datetime.
            zone: the time zone that the line is meant in; None: the project's.

        Returns:
            An aware datetime in UTC.

        Raises:
            InvalidCron: there is none within fifty years.
        """
        zone = zone or timezone.get_default_timezone()
        here, found = _wall(moment, zone), list[datetime]()
        # If the clock was set back just before the moment, it has shown already what it will show
        # after it: so the search, which goes backwards, begins that much later.
        for wall in self.walls(here + _repeated(moment, zone, fold=1), back=True):
            found += [time for time in self._times(wall, zone) if time <= moment]
            if found and wall <= here:
                break
        return max(found)

    def walls(self, wall: datetime, back: bool = False) -> Iterator[datetime]:
        """The local times of the line after ``wall``; or those at and before it, going back.

        Raises:
            InvalidCron: there is none within fifty years.
        """
        # The start is naive: cronsim's own handling of time zones is not used, see above. Going
        # back, cronsim yields only times before its start, so it starts a second later.
        start = wall.replace(microsecond=0) + timedelta(seconds=1 if back else 0)
        yield from CronSim(self.fields, start, reverse=back)
        raise _invalid(self.text, self.name, "that never comes")

    def _times(self, wall: datetime, zone: tzinfo) -> list[datetime]:
        """The moments at which the line runs for a local time: none, one or two, in UTC."""
        first, second = _moments(wall, zone)
        if first == second:
            return [first]
        if first < second:  # the clock is set back and shows this time twice
            return [first, second] if self.often else [first]
        if self.often:
            return []
        # The clock is set forward past this time: the line runs at the first time that exists
        # after it.
        while first > second:
            wall += timedelta(minutes=1)
            first, second = _moments(wall, zone)
        return [first]


def _wall(moment: datetime, zone: tzinfo) -> datetime:
    """The local time of a moment."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _moments(wall: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """The moments, in UTC, at which the clock shows a local time the first and the second time.

    As a rule both are the same. If the clock is set back, the second comes later. If the clock is
    set forward past the local time, which then does not exist, the "second" is before the "first".
    """
    first, second = (
        wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)
    )  # fmt: skip
    return first, second


def _repeated(moment: datetime, zone: tzinfo, fold: int) -> timedelta:
    """By how much the clock is set back, if it shows the local time of this moment twice.

    Args:
        fold: 0: only if the moment is the first of the two; 1: only if it is the second.

    Returns:
        Zero if the clock is not set back, or the moment is the other one.
    """
    local = moment.astimezone(zone)
    first, second = _moments(local, zone)
    return second - first if local.fold == fold else timedelta(0)
