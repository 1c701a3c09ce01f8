"""What has failed of late, grouped by what was raised and where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

from django.utils import timezone

from bgtasks.models import Attempt
from bgtasks.queue import database as db
from bgtasks.serialize import tracebacks

# Runs that failed longer ago are left out, and so are all but the last so many.
SINCE = timedelta(days=1)
MOST = 500
# How many characters of a traceback are read: its end, which names what was raised, and where.
TAIL = 2_000
# How many groups there are at most.
GROUPS = 20

_FRAME = re.compile(
    r'^\s*(?:\| )?File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>.+)$', re.M
)
# A file of a library, and not of the project.
_LIBRARY = re.compile(r"/(?:site|dist)-packages/|/lib/python3|[/\\]Lib[/\\]|^<")


@dataclass(frozen=True)
class Failures:
    """Runs that failed with the same class of exception at the same place.

    Attributes:
        error: the class of the exception; or what is kept of the run, if it raised nothing.
        message: what the last one said.
        place: the file and the line of the last frame in the project's code; "" if there is none.
        function: the function of that frame.
        count: how many runs.
        last: when the last one ended.
        task_id: the id of its task.
    """

    error: str
    message: str
    place: str
    function: str
    count: int
    last: datetime
    task_id: int


def recent() -> list[Failures]:
    """The failed runs of the last day, the most frequent first."""
    groups: dict[tuple[str, str], Failures] = {}
    read = lru_cache(maxsize=MOST)(_read)  # many runs fail with the same words
    for task_id, ended_at, text in _attempts():
        error, message, place, function = read(text)
        found = Failures(error, message, place, function, 1, ended_at, task_id)
        known = groups.setdefault((error, place), found)
        if known is not found:
            groups[error, place] = replace(known, count=known.count + 1)
    return sorted(groups.values(), key=lambda group: group.count, reverse=True)[:GROUPS]


def _attempts() -> Iterator[tuple[int, datetime, str]]:
    """The ids of the tasks, the ends and the texts of the last failed runs, the last one first."""
    tail = f"RIGHT(error, {TAIL})" if db.on_postgresql() else f"SUBSTR(error, -{TAIL})"
    rows = (
        Attempt.objects.using(db.alias())
        .filter(ended_at__gte=timezone.now() - SINCE)
        .exclude(state=Attempt.State.STOPPED)
        .extra(select={"tail": tail}, where=[f"NOT COALESCE({db.has_odd_date(Attempt)}, 1 = 0)"])  # noqa: S610
        .order_by("-ended_at")
    )
    for task_id, ended_at, text in rows.values_list("task_id", "ended_at", "tail")[:MOST]:
        # The first line of what was cut is none of the traceback's.
        yield task_id, ended_at, text if len(text) < TAIL else text.partition("\n")[2] or text


def _read(text: str) -> tuple[str, str, str, str]:
    return *_raised(text), *_place(text)


def _raised(text: str) -> tuple[str, str]:
    """The class of what was raised, and its message."""
    line = tracebacks.gist(text)
    error, colon, message = line.partition(": ")
    if " " in error:  # no exception, but a sentence of ours
        return line.partition(":")[0][:80], line
    return (error if colon else line.removesuffix(":")), message


def _place(text: str) -> tuple[str, str]:
    """The file and the line of the last frame of the project's own code, and its function."""
    frames = list(_FRAME.finditer(text))
    own = [frame for frame in frames if not _LIBRARY.search(frame["file"])] or frames
    if not own:
        return "", ""
    return f"{own[-1]['file']}:{own[-1]['line']}", own[-1]["name"]
