"""The list of tasks: those that wait or run, and those that have ended."""

from __future__ import annotations

from django.contrib.admin import ModelAdmin
from django.http import HttpRequest, HttpResponse

from bgtasks.admin import actions, pages, rows
from bgtasks.admin.filtering import FilterForm
from bgtasks.operations import task_list
from bgtasks.operations.states import State
from bgtasks.operations.task_list import Page
from bgtasks.queue import pauses


@pages.page("tasks/", "tasks")
def tasks(request: HttpRequest, console: ModelAdmin) -> HttpResponse:
    form = FilterForm(request.GET)
    is_valid = form.is_valid()
    page = task_list.page(form.wanted(), form.cleaned_data["before"]) if is_valid else Page()
    known = rows.known_tasks()
    return pages.render(
        request,
        console,
        "tasks",
        "Tasks",
        form=form,
        is_valid=is_valid,
        rows=rows.of(page.tasks),
        page=page,
        next_query=page.next is not None and form.query(before=page.next),
        query=form.query() if is_valid else "",
        named=_with_this_id(form.cleaned_data.get("q", "")),
        states=[(state, str(state) in form.given("state")) for state in State],
        names=sorted(known.names),
        queues=_queues(page),
        problems=known.problems,
        actions=actions.ACTIONS.values(),
    )


def _queues(page: Page) -> list[str]:
    """The queues that are known without a search: those of the page, and the paused ones."""
    there = {task.queue or "" for task in page.tasks} | {each.queue for each in pauses.paused()}
    return sorted(there - {""})


def _with_this_id(search: str) -> rows.Row | None:
    """The task whose id is searched for, wherever it is in the list."""
    task = task_list.find(search.removeprefix("#"))
    return rows.of([task])[0] if task else None
