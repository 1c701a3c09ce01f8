"""The times of a crontab line. Pure, no database.

Which minutes a line means, cronsim says, by the clock on the wall. What becomes of them when that
clock is changed is decided here, by the rule of Debian's cron, which is cronsim's too; cronsim
itself is right only where clocks change by whole hours.
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
    """Read a line.

    Args:
        name: the task's.

    Raises:
        InvalidCron: it is none, or its time never comes.
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
        next(line.walls(datetime(2000, 1, 1)))  # noqa: DTZ001, on the wall
    except InvalidCron:
        raise
    except (CronSimError, ValueError) as error:
        raise _invalid(text, name, str(error).lower()) from error
    return line


def check(text: str, name: str, function: Callable[..., Any]) -> None:
    """Check that a line can be read, and its task be called as it will be: without arguments.

    Raises:
        InvalidCron: it cannot.
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
        name: the task's.
        text: as it was written.
        fields: as cronsim reads it.
    """

    name: str
    text: str
    fields: str

    @cached_property
    def often(self) -> bool:
        """Whether it follows the clock, whatever that shows: ``*`` as its minute or its hour.

        Others are for a certain time of day, and have it once a day.
        """
        return any(field.startswith("*") for field in self.fields.split()[:2])

    def after(self, moment: datetime, zone: tzinfo | None = None) -> datetime:
        """The first time after a moment, in UTC; in the project's time zone, or another."""
        zone = zone or timezone.get_default_timezone()
        here, found = _wall(moment, zone), list[datetime]()
        # What the clock has shown already it shows again, if it is set back soon.
        for wall in self.walls(here - _repeated(moment, zone, fold=0)):
            found += [time for time in self._times(wall, zone) if time > moment]
            if found and wall > here:
                break
        return min(found)

    def latest(self, moment: datetime, zone: tzinfo | None = None) -> datetime:
        """The last time at or before a moment, in UTC; in the project's time zone, or another."""
        zone = zone or timezone.get_default_timezone()
        here, found = _wall(moment, zone), list[datetime]()
        # What the clock shows later it has shown before, if it was set back just now.
        for wall in self.walls(here + _repeated(moment, zone, fold=1), back=True):
            found += [time for time in self._times(wall, zone) if time <= moment]
            if found and wall <= here:
                break
        return max(found)

    def walls(self, wall: datetime, back: bool = False) -> Iterator[datetime]:
        """What the clock on the wall shows after ``wall``; or before and at it, going back.

        Raises:
            InvalidCron: nothing within fifty years.
        """
        # Not from cronsim's own zones, see above. It begins a second off where it is told to.
        start = wall.replace(microsecond=0) + timedelta(seconds=1 if back else 0)
        yield from CronSim(self.fields, start, reverse=back)
        raise _invalid(self.text, self.name, "that never comes")

    def _times(self, wall: datetime, zone: tzinfo) -> list[datetime]:
        """The moments that are meant by what the clock on the wall shows."""
        first, second = _moments(wall, zone)
        if first == second:
            return [first]
        if first < second:  # the clock is set back and shows it twice
            return [first, second] if self.often else [first]
        if self.often:
            return []
        while first > second:  # it is set forward past it: as soon as it has been
            wall += timedelta(minutes=1)
            first, second = _moments(wall, zone)
        return [first]


def _wall(moment: datetime, zone: tzinfo) -> datetime:
    """What the clock on the wall shows."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _moments(wall: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """When the clock shows something the first and the second time: the same, as a rule.

    Where it never does, for it is set forward, the "second" is before the "first".
    """
    first, second = (
        wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)
    )  # fmt: skip
    return first, second


def _repeated(moment: datetime, zone: tzinfo, fold: int) -> timedelta:
    """By how much the clock is set back, if it shows the same twice and this is time ``fold``."""
    local = moment.astimezone(zone)
    first, second = _moments(local, zone)
    return second - first if local.fold == fold else timedelta(0)
