"""What the log says of runs: one record for each that has ended, however it has.

The records have the logger of django-background-tasks, which projects have configured. Programs
find what a record says in its attribute ``task``, a dict with ``id``, ``name``, ``attempt``,
``duration`` (seconds, or None) and ``outcome``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from background_task import tasks as upstream
from background_task.models import Task

from bgtasks.clock import elapsed
from bgtasks.queue.ending import Ending
from bgtasks.serialize.tracebacks import whole

# The longest text of an exception in a record's own line, in characters. The traceback that follows
# has all of it.
LONGEST = 1000


def succeeded(row: Task, began: float) -> None:
    """Log that a run has succeeded.

    Args:
        row: the row as it was claimed.
        began: when the run began, by `elapsed`.
    """
    # This is written out, and not done by `_log`, because it is done for every row.
    if upstream.logger.isEnabledFor(logging.INFO):
        attempt, seconds = row.attempts or 1, elapsed() - began
        facts = _facts(row, attempt, seconds, "succeeded")
        text = "%s (attempt %d, %.3f s) succeeded."
        upstream.logger.info(text, named(row), attempt, seconds, extra=facts)


def failed(ending: Ending, seconds: float | None, exc_info: Any) -> None:
    """Log a run that has raised an exception.

    Args:
        exc_info: what to print of the exception; None if it cannot be printed.
    """
    outcome, story, args = _fate(ending, "failed")
    _log(upstream.logger.error, ending.row, outcome, story, seconds, *args, exc_info=exc_info)


def asked_to_be_tried_again(ending: Ending, seconds: float | None) -> None:
    """Log a run that has asked for another attempt, and gets it."""
    text, again = _shortened(whole(ending.error)), after(ending.delay)
    story = "asked to be tried again %s: %s"
    _log(upstream.logger.info, ending.row, "retrying", story, seconds, again, text)


def snoozed(ending: Ending, seconds: float | None) -> None:
    """Log a run that has put its task off."""
    again = after(ending.delay)
    _log(upstream.logger.info, ending.row, "snoozed", "is put off, and runs %s.", seconds, again)


def cancelled(row: Task, reason: str, seconds: float | None) -> None:
    """Log a run that has cancelled its task, or could not begin because that has expired."""
    text = _shortened(reason or "no reason given")
    _log(upstream.logger.info, row, "cancelled", "is cancelled: %s", seconds, text)


def ended_from_outside(ending: Ending) -> None:
    """Log a run that was ended from outside, or lost with its worker."""
    outcome, story, args = _fate(ending, "did not end")
    write = upstream.logger.error if outcome == "failed" else upstream.logger.warning
    _log(write, ending.row, outcome, story, None, *args)


def _fate(ending: Ending, what: str) -> tuple[str, str, list[str]]:
    """What becomes of a task whose run did not succeed: in a word, as a text, and its arguments.

    Args:
        what: what the run did, if the task is tried again.
    """
    text = _shortened(whole(ending.error))
    if ending.delay is None:
        return "failed", "failed: %s", [text]
    return "retrying", f"{what}, and is tried again %s: %s", [after(ending.delay), text]


def named(row: Task) -> str:
    """A row's id, and the name of its task; with the name that its call has given it, if any."""
    given = f' "{row.verbose_name}"' if row.verbose_name else ""
    # Not row.pk, which takes longer.
    return f"Task {row.id} {row.task_name}{given}" if row.id else f"Task {row.task_name}{given}"


def after(delay: timedelta | None) -> str:
    """How soon something is done, in words."""
    seconds = delay.total_seconds() if delay else 0.0
    if not seconds:
        return "at once"
    return f"in {seconds:.3g} s" if seconds < 100 else f"in {timedelta(seconds=round(seconds))}"


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _log(
    write: Callable[..., None],
    row: Task,
    outcome: str,
    story: str,
    seconds: float | None,
    *args: Any,
    exc_info: Any = None,
) -> None:
    attempt = row.attempts or 1
    known = () if seconds is None else (seconds,)
    write(
        f"%s (attempt %d{', %.3f s' * len(known)}) {story}",
        named(row),
        attempt,
        *known,
        *args,
        exc_info=exc_info,
        extra=_facts(row, attempt, seconds, outcome),
    )


def _facts(row: Task, attempt: int, seconds: float | None, outcome: str) -> dict[str, Any]:
    facts = {
        "id": row.id,
        "name": row.task_name,
        "attempt": attempt,
        "duration": seconds,
        "outcome": outcome,
    }
    return {"task": facts}  # one attribute, as each takes time
