"""One task: its arguments and result, its attempts, and what was done to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.admin import ModelAdmin
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from bgtasks.admin import actions, filtering, pages, rows, times, traces
from bgtasks.admin.times import When
from bgtasks.models import Attempt, CompletedTask, Outcome, Task
from bgtasks.operations import history
from bgtasks.operations.history import History
from bgtasks.operations.states import ENDED, State
from bgtasks.serialize.tracebacks import gist


# The name is the one that the entries of the admin's own log link to.
@pages.page("tasks/<int:task_id>/", "change")
def task(request: HttpRequest, console: ModelAdmin, task_id: int) -> HttpResponse:
    found = history.of(task_id)
    if found is None:
        raise Http404(f"There is no task {task_id}, or not any more.")
    (row,) = rows.of([found.task])
    creator = found.creator
    return pages.render(
        request,
        console,
        "task",
        f"Task {found.task.id}",
        history=found,
        row=row,
        task=found.task,
        has_result=found.task.state is State.SUCCEEDED,
        result=_pretty(found.result),
        creator=creator,
        creator_filter=creator and filtering.creator_text(creator),
        time_line=_time_line(found),
        attempts=[(each, traces.parts(each.error)) for each in reversed(found.attempts)],
        error=_last_error(found),
        children=found.children[: history.MOST_CHILDREN],
        more_children=len(found.children) > history.MOST_CHILDREN,
        links=list(_links(request, console, found)),
        actions=actions.for_one(found.task.state),
    )


def _pretty(result: str | None) -> str:
    """A result as its JSON, in lines; the text itself if that is none."""
    if result is None:
        return "None"
    try:
        return json.dumps(json.loads(result), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return result


def _last_error(found: History) -> list[traces.Part]:
    """What is kept of the end of a task, if no attempt has it: it was cancelled, for example."""
    text = found.task.error
    if found.task.state is State.SUCCEEDED or any(each.error == text for each in found.attempts):
        return []
    return traces.parts(text)


@dataclass(frozen=True)
class Event:
    """Something that happened to a task.

    Attributes:
        at: when.
        what: in words.
        by: the worker, or who has done it.
        other_id: the id of another task that it is about.
    """

    at: datetime
    what: str
    by: str = ""
    other_id: int | None = None

    @property
    def when(self) -> When | None:
        return times.when(self.at)


def _time_line(found: History) -> list[Event]:
    """What happened to a task, the first thing first."""
    since = list(_events(found))
    return sorted([*_until_due(found, since), *since], key=lambda event: _aware(event.at))


def _events(found: History) -> Iterator[Event]:
    task, worker = found.task, found.task.claim.partition(".")[0]
    for attempt in found.attempts:
        by = attempt.claim.partition(".")[0]
        if attempt.started_at:
            yield Event(attempt.started_at, f"attempt {attempt.number} began", by)
        about = f"attempt {attempt.number} {attempt.get_state_display()}: {gist(attempt.error)}"
        yield Event(attempt.ended_at, about, by)
    is_told = any(attempt.started_at == task.started_at for attempt in found.attempts)
    if task.started_at and not is_told:
        verb = "began" if task.state in ENDED else "claimed"
        yield Event(task.started_at, f"attempt {task.attempts} {verb}", worker)
    if task.finished_at:
        yield Event(task.finished_at, str(task.state))
    for action in found.actions:
        about = f"{action.get_kind_display()} {action.detail}".strip().lower()
        about = f"{about}, as" if action.other_id else about
        yield Event(action.at, about, action.by or "a program", action.other_id)


def _until_due(found: History, since: list[Event]) -> Iterator[Event]:
    """That a task was enqueued and is due.

    Args:
        since: what else has happened to it.
    """
    after, by = found.enqueued.after, found.enqueued.by
    if found.origin:
        about = "enqueued, as a retry of"
        yield Event(found.origin.at, about, found.origin.by, found.origin.task_id)
    elif after:
        # It was enqueued before anything else happened to it.
        later = [*(event.at for event in since), by or timezone.now()]
        span = max(timedelta(0), min(map(_aware, later)) - _aware(after))
        yield Event(after, f"enqueued, or up to {times.duration(span)} later")
    elif by:
        yield Event(by, "enqueued, or earlier")
    if found.task.due_at:
        yield Event(found.task.due_at, "due")


def _aware(moment: datetime) -> datetime:
    return timezone.make_aware(moment) if timezone.is_naive(moment) else moment


def _links(request: HttpRequest, console: ModelAdmin, found: History) -> Iterator[tuple[str, str]]:
    """Titles and addresses of the single rows behind the task, those that the user may see."""
    objects: list[tuple[str, Any, Any]] = []
    if isinstance(found.row, Task):
        objects.append(("row", Task, found.row.pk))
    elif found.row is not None:
        objects.append(("completed row", CompletedTask, found.row.pk))
        objects.append(("outcome", Outcome, found.task.id))
    objects += [(f"attempt {each.number}", Attempt, each.pk) for each in found.attempts]
    site = console.admin_site
    for title, model, pk in objects:
        if not site.is_registered(model):
            continue
        if not site.get_model_admin(model).has_view_permission(request):
            continue
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
        try:
            yield title, reverse(name, args=[pk], current_app=site.name)
        except NoReverseMatch:
            continue
