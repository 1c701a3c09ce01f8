"""The command ``manage.py tasks``: look at tasks and act on them, as the admin does."""

from __future__ import annotations

import argparse
import getpass
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from bgtasks.management import stats
from bgtasks.operations import arguments, history, matching, statistics, task_list
from bgtasks.operations.history import History
from bgtasks.operations.states import State
from bgtasks.operations.task_list import Filter, Listed
from bgtasks.queue import acting, pauses, repeat, retrying
from bgtasks.queue.id_marks import Span
from bgtasks.queue.outcomes import id_of
from bgtasks.serialize.tracebacks import gist

WATCH = "Show what runs, waits and has ended, as it changes."
QUEUE = "The name of the queue; an empty text for the tasks without one."
FAILED = {State.FAILED, State.RETRYING}
ACTS_ON = {"retry": matching.RETRIABLE, "cancel": matching.CANCELLABLE}


def task_id(text: str) -> int:
    """An argument that is the id of a task."""
    if (found := id_of(text)) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no id of a task: the ids are numbers")
    return found


def moment(text: str) -> datetime:
    """An argument that is a time, in the project's time zone unless it names another."""
    try:
        found = parse_datetime(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time, such as '2026-11-26 14:30'")
    return timezone.make_aware(found) if timezone.is_naive(found) else found


def interval(text: str) -> float:
    """An argument that is a number of seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:  # also if it is no number at all
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0.1 to 3600")
    return seconds


def _user() -> str:
    """The name of who runs the command, for the log of actions."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        return ""


def _add(
    commands: Any, name: str, text: str, *more: Callable[[argparse.ArgumentParser], None]
) -> Any:
    """Add an action, with its help and the arguments that `more` adds."""
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--json", action="store_true", help="Write JSON.")
    for add_arguments in more:
        add_arguments(parser)
    return parser


def _filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state", action="append", choices=[*State], type=str, help="May be given several times."
    )
    parser.add_argument("--name", help="The name of the task.")
    parser.add_argument("--queue", help=QUEUE)
    parser.add_argument("--worker", help="The name of the worker that has or had it.")
    parser.add_argument("--error", help="Part of what it raised last, such as its class.")
    parser.add_argument("--text", help="Part of its arguments, as JSON.")
    parser.add_argument("--since", type=moment, help="Due at this time or later.")
    parser.add_argument("--until", type=moment, help="Due before this time.")


def _chosen(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", type=task_id, metavar="ID")
    parser.add_argument("--all", action="store_true", help="All that the filters match.")


def _filter(options: dict[str, Any]) -> Filter:
    return Filter(
        states=frozenset(map(State, options["state"] or ())),
        name=options["name"],
        queue=options["queue"],
        worker=options["worker"],
        error=options["error"],
        text=options["text"],
        after=options["since"],
        before=options["until"],
    )


def _batches(options: dict[str, Any]) -> Iterator[list[int]]:
    """The ids that are named, or of what the filters match, a batch at a time.

    Raises:
        CommandError: neither is given, or both.
    """
    ids, filtered = options["ids"], _filter(options) != Filter()
    if bool(ids) == options["all"] or (filtered and not options["all"]):
        raise CommandError(
            "Name the ids of tasks; or give --all, and filters such as --name, for all that match."
        )
    if options["all"]:
        batches = matching.batches(_filter(options), ACTS_ON[options["action"]])
    else:
        size = acting.batch()
        batches = (ids[start : start + size] for start in range(0, len(ids), size))
    for batch in batches:
        yield batch
        acting.leave_room()


def _queue(name: str) -> str:
    return f"Queue {name}" if name else "What has no queue"


def _when(moment: datetime | None) -> str:
    if moment and moment.year >= repeat.HELD.year:
        return "when it is resumed"
    return timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def _enqueued(span: Span) -> str:
    after, by = _when(span.after), _when(span.by)
    if after and by:
        return by if after == by else f"between {after} and {by}"
    return f"after {after}" if after else f"by {by}" if by else ""


def _line(task: Listed) -> str:
    call = f"{task.name}({arguments.shortened(arguments.shown(task.name, task.params))})"
    facts = [f"{task.id:>8}", f"{task.state:<9}", f"{_when(task.due_at):<19}", call]
    if task.queue:
        facts.append(f"[{task.queue}]")
    if task.error and task.state in FAILED:
        facts.append(f"- {gist(task.error)}")
    return "  ".join(facts)


def _facts(found: History) -> Iterator[tuple[str, Any]]:
    """What is known of a task, as pairs of a word and a value; without what is not known."""
    task = found.task
    reported = found.progress
    for name, value in (
        ("task", f"{task.id} {task.name}"),
        ("state", task.state),
        ("arguments", arguments.shown(task.name, task.params)),
        ("queue", task.queue),
        ("priority", task.priority),
        ("attempts", task.attempts),
        ("enqueued", _enqueued(found.enqueued)),
        ("due", _when(task.due_at)),
        ("started", _when(task.started_at)),
        ("ended", _when(task.finished_at)),
        ("waited", task.waited),
        ("ran", task.ran),
        ("worker", task.claim),
        (
            "progress",
            reported and f"{reported.done:g} of {reported.total or '?'} {reported.message}",
        ),
        ("result", found.result),
        ("enqueued by", found.parent),
        ("has enqueued", ", ".join(map(str, found.children))),
        ("retry of", found.retried_from),
        ("retried as", found.retried_as),
    ):
        if value not in (None, ""):
            yield name, value
    for action in found.actions:
        by = f" by {action.by}" if action.by else ""
        yield "log", f"{_when(action.at)} {action.get_kind_display()} {action.detail}{by}"


def _as_json(task: Listed) -> dict[str, Any]:
    params = arguments.as_json(task.name, task.params)
    spans = {"waited": _seconds(task.waited), "ran": _seconds(task.ran)}
    return {**asdict(task), "params": params, **spans}


def _seconds(span: timedelta | None) -> float | None:
    return span.total_seconds() if span is not None else None


def _history_as_json(found: History) -> dict[str, Any]:
    return {
        **_as_json(found.task),
        "enqueued_after": found.enqueued.after,
        "enqueued_by": found.enqueued.by,
        "result": found.result,
        "progress": found.progress and found.progress._asdict(),
        "attempts_made": [
            {
                "number": each.number,
                "state": each.state,
                "started_at": each.started_at,
                "ended_at": each.ended_at,
                "error": each.error,
            }
            for each in found.attempts
        ],
        "actions": [
            {"at": each.at, "kind": each.kind, "by": each.by, "detail": each.detail}
            for each in found.actions
        ],
        "parent": found.parent,
        "children": list(found.children),
        "retried_from": found.retried_from,
        "retried_as": found.retried_as,
    }


class Command(BaseCommand):
    help = "List tasks, show one, retry or cancel some, pause and resume queues, show statistics."

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        add = partial(_add, commands)
        listing = add("list", "List tasks, the newest first.", _filters)
        listing.add_argument("--limit", type=int, default=task_list.PAGE, help="How many at most.")
        listing.add_argument("--before", type=task_id, help="Only tasks with a lower id.")
        add("show", "Show all that is known of one task.").add_argument("id", type=task_id)
        retry = add("retry", "Enqueue failed or cancelled tasks again.", _filters, _chosen)
        cancel = add("cancel", "Cancel tasks that have not ended.", _filters, _chosen)
        cancel.add_argument("--running", action="store_true", help="Also those that run.")
        for changing in (retry, cancel):
            changing.add_argument("--by", default=_user(), help="Who does it, for the log.")
        watch = commands.add_parser("watch", help=WATCH, description=WATCH)
        watch.add_argument("--queue", help=QUEUE)
        watch.add_argument(
            "--interval", type=interval, default=1.0, help="Seconds between two looks: %(default)s."
        )
        for name, text in (
            ("pause", "Have workers leave the tasks of a queue."),
            ("resume", "Have workers run the tasks of a queue again."),
        ):
            add(name, text).add_argument("queue", help=QUEUE)
        figures = add("stats", "Show what waits and runs, how much has run, and how long it took.")
        figures.add_argument(
            "--range",
            choices=[*statistics.RANGES],
            default="hour",
            help="Of how long the runs of each task are shown: hour.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['action']}")(options)

    def _list(self, options: dict[str, Any]) -> None:
        page = task_list.page(_filter(options), options["before"], options["limit"])
        if options["json"]:
            self._write_json({"tasks": [_as_json(task) for task in page.tasks], "next": page.next})
            return
        for task in page.tasks:
            self.stdout.write(_line(task))
        if page.next is not None:
            self.stdout.write(f"There may be more: --before {page.next}")

    def _show(self, options: dict[str, Any]) -> None:
        found = history.of(options["id"])
        if found is None:
            raise CommandError(f"There is no task {options['id']}, or not any more.")
        if options["json"]:
            self._write_json(_history_as_json(found))
            return
        for name, value in _facts(found):
            self.stdout.write(f"{name + ':':<14} {value}")
        for attempt in found.attempts:
            self.stdout.write(f"\nAttempt {attempt.number} {attempt.get_state_display()}:")
            self.stdout.write(attempt.error.rstrip())

    def _retry(self, options: dict[str, Any]) -> None:
        parts = [retrying.retry(batch, options["by"]) for batch in _batches(options)]
        ids = dict(pair for part in parts for pair in part.ids.items())
        refused = dict(pair for part in parts for pair in part.refused.items())
        for pk, reason in () if options["json"] else refused.items():
            self.stderr.write(f"Task {pk} is not retried: {reason}.")
        facts = {"retried": ids, "refused": refused}
        self._say(options, facts, f"Tasks retried: {len(ids)}.")

    def _cancel(self, options: dict[str, Any]) -> None:
        cancelled: list[int] = []
        for batch in _batches(options):
            cancelled += acting.cancel(batch, options["by"], terminate=options["running"])
        self._say(options, {"cancelled": cancelled}, f"Tasks cancelled: {len(cancelled)}.")

    def _pause(self, options: dict[str, Any]) -> None:
        new = pauses.pause(options["queue"], _user())
        text = "is paused: workers leave its tasks" if new else "was paused already"
        self._say(options, {"paused": new}, f"{_queue(options['queue'])} {text}.")

    def _resume(self, options: dict[str, Any]) -> None:
        was = pauses.resume(options["queue"])
        text = "is resumed" if was else "was not paused"
        self._say(options, {"resumed": was}, f"{_queue(options['queue'])} {text}.")

    def _stats(self, options: dict[str, Any]) -> None:
        wanted = statistics.RANGES[options["range"]]
        if options["json"]:
            self._write_json(stats.as_json(wanted))
            return
        for line in stats.lines(wanted):
            self.stdout.write(line)

    def _watch(self, options: dict[str, Any]) -> None:
        try:
            from rich.console import Console

            from bgtasks.management import screen
        except ImportError as error:
            raise CommandError(
                f"`tasks watch` draws with rich, which is not installed ({error}). "
                "Run: pip install rich"
            ) from error
        console = Console()
        if not console.is_terminal:
            raise CommandError("`tasks watch` needs a terminal. `tasks list` writes to a file too.")
        # Whoever has started this may have had it ignore Ctrl-C, as a shell does in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            screen.watch(console, options["interval"], options["queue"])

    def _say(self, options: dict[str, Any], facts: dict[str, Any], text: str) -> None:
        if options["json"]:
            self._write_json(facts)
        else:
            self.stdout.write(text)

    def _write_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, default=str))
