"""The screen of ``manage.py tasks watch``: what runs, waits and has ended, drawn anew by `rich`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta

from django.db import DatabaseError, InterfaceError, connections
from django.utils import timezone
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bgtasks.operations.present import Present, present
from bgtasks.operations.states import State
from bgtasks.operations.task_list import Listed
from bgtasks.queue import database as db
from bgtasks.serialize.tracebacks import gist
from bgtasks.tasks.current import Progress

STYLES = {
    State.SUCCEEDED: "green",
    State.FAILED: "bold red",
    State.CANCELLED: "yellow",
    State.RETRYING: "magenta",
    State.WAITING: "blue",
    State.RUNNING: "cyan",
}
# Lines of the screen that are no tasks: headings, the titles of columns and what is between them.
FRAME = 12


def watch(console: Console, every: float, queue: str | None) -> None:
    """Draw the screen until it is interrupted.

    Args:
        every: seconds between two drawings.
        queue: only its tasks; None for all.
    """
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            most = max(1, (console.height - FRAME) // 3)
            live.update(_screen(queue, most), refresh=True)
            time.sleep(every)


def _screen(queue: str | None, most: int) -> RenderableType:
    try:
        return drawn(present(queue, most), queue)
    except (DatabaseError, InterfaceError) as error:
        connections[db.alias()].close()  # the next look opens another
        return Text(f"The database does not answer, and is asked again: {error}", style="bold red")


def drawn(now: Present, queue: str | None = None) -> RenderableType:
    """The screen for what the queue does at a moment."""
    return Group(
        *_heading(now, queue),
        _running(now),
        _table("Waiting", now.waiting, ended=False),
        _table("Ended", now.ended, ended=True),
    )


def _heading(now: Present, queue: str | None) -> Iterator[Text]:
    of = "" if queue is None else f" · queue {queue}" if queue else " · tasks without a queue"
    clock = timezone.localtime().strftime("%H:%M:%S")
    workers = f"{now.workers} worker{'' if now.workers == 1 else 's'}"
    yield Text(f"{clock} · {workers}{of} · Ctrl-C ends this", style="bold")
    for problem in now.unserved:
        yield Text(str(problem), style="bold red")
    if now.paused:
        names = ", ".join(each.queue or "(no queue)" for each in now.paused)
        yield Text(f"Paused: {names}", style="yellow")


def _running(now: Present) -> Table:
    table = _titled("Running", "task", "name", "queue", "for", "progress", "")
    for task in now.running:
        reported = now.progress.get(task.id)
        span = timezone.now() - task.started_at if task.started_at else None
        bar, text = _progress(reported) if reported else (Text(""), "")
        table.add_row(
            str(task.id),
            _short(task.name),
            _short(task.queue or ""),
            _span(span),
            bar,
            _short(text),
        )
    return table


def _progress(reported: Progress) -> tuple[RenderableType, str]:
    """A bar, and how far it is in words. Without a total nobody knows how long the bar is."""
    if not reported.total:
        return Text(""), f"{reported.done:g} {reported.message}"
    bar = ProgressBar(total=reported.total, completed=min(reported.done, reported.total), width=20)
    return bar, f"{reported.done:g} of {reported.total:g} {reported.message}"


def _table(title: str, tasks: Sequence[Listed], ended: bool) -> Table:
    table = _titled(title, "task", "name", "queue", "state", "for", "")
    for task in tasks:
        waited = timezone.now() - task.due_at if task.due_at else None
        failed = task.error and task.state in (State.FAILED, State.RETRYING)
        table.add_row(
            str(task.id),
            _short(task.name),
            _short(task.queue or ""),
            Text(task.state, style=STYLES.get(task.state, "")),
            _span(task.ran if ended else waited),
            _short(gist(task.error) if failed else ""),
        )
    return table


def _titled(title: str, *columns: str) -> Table:
    """A table as wide as the terminal."""
    table = Table(title=title, title_justify="left", box=None, expand=True, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(
            name,
            justify="right" if name in ("task", "for") else "left",
            no_wrap=name not in ("name", "queue", ""),
            ratio=None if name else 1,  # the last column takes what the others leave
        )
    return table


def _short(text: str) -> Text:
    """A text that is cut where its column is too narrow."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def _span(span: timedelta | None) -> str:
    if span is None:
        return ""
    seconds = max(0.0, span.total_seconds())
    return f"{seconds:.3f} s" if seconds < 10 else str(timedelta(seconds=int(seconds)))
