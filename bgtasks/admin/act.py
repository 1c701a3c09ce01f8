"""Acting on tasks: what is to be done is confirmed, and then done a step at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.signing import BadSignature
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html, format_html_join

from bgtasks.admin import filtering, pages, rows, work
from bgtasks.admin.actions import ACTIONS
from bgtasks.admin.work import Work
from bgtasks.models import Operations
from bgtasks.queue.outcomes import id_of

POST = ("GET", "HEAD", "POST")  # whoever comes by GET, after a login, is sent to the list
# How many tasks a selection has at most: more than a page of the list, and fewer than the fields
# that Django takes from one form.
MOST = 500


@pages.page("tasks/act/", "act", permission="act", methods=POST)
def confirm(request: HttpRequest, console: ModelAdmin) -> HttpResponse:
    """Say what would be done, to how many tasks, and ask."""
    if request.method != "POST":
        return redirect(pages.url(console, "tasks"))
    chosen = _chosen(request)
    if isinstance(chosen, str):
        messages.error(request, chosen)
        return _back(request, console, None)
    return _ask(request, console, chosen, chosen.kind.options())


@pages.page("tasks/progress/", "work", permission="act", methods=POST)
def do(request: HttpRequest, console: ModelAdmin) -> HttpResponse:
    """Do a step of what was confirmed; then comes a page that goes on by itself, or the list."""
    if request.method != "POST":
        return redirect(pages.url(console, "tasks"))
    try:
        under_way = work.read(request.POST.get("work", ""), request.user)
    except BadSignature:
        messages.error(request, "This action cannot be continued. Choose the tasks again.")
        return redirect(pages.url(console, "tasks"))
    if is_first := under_way.options is None:
        options = under_way.kind.options(request.POST)
        if not options.is_valid():
            return _ask(request, console, under_way, options)
        under_way.options = options.cleaned_data
    only = under_way.ids[0] if is_first and len(under_way.ids) == 1 else None
    rows.known_tasks()  # whether a task is unique is known where it is declared
    under_way.step(request.user.get_username())
    if is_first or under_way.finished:
        _log(request, console, under_way, only)
    if under_way.finished:
        _report(request, under_way)
        return _back(request, console, under_way)
    return pages.render(
        request,
        console,
        "working",
        f"{under_way.kind.title}: under way",
        work=under_way,
        signed=under_way.signed(request.user),
        percent=int(100 * under_way.share),
        back=_address(console, under_way),
    )


def _chosen(request: HttpRequest) -> Work | str:
    """What is to be done, or why it cannot be, in words."""
    name = request.POST.get("action", "")
    if name not in ACTIONS:
        return "Choose what to do."
    if "all" in request.POST:
        form = filtering.from_query(request.POST.get("query", ""))
        if not form.is_valid():
            return "The filter makes no sense. Correct it first."
        query = form.frozen_query()
        about = filtering.from_query(query).described() or "all tasks"
        return Work(name, about, query=query)
    given = [id_of(text) for text in request.POST.getlist("id")]
    ids = sorted({pk for pk in given if pk is not None}, reverse=True)
    if not ids:
        return "Choose at least one task."
    if len(ids) > MOST:
        return f"Choose {MOST} tasks at most, or everything that matches the filter."
    back = ids[0] if "back" in request.POST else None
    return Work(name, _named(ids), ids=ids, back=back, list_query=_list_query(request))


def _ask(request: HttpRequest, console: ModelAdmin, chosen: Work, options: Any) -> HttpResponse:
    count = chosen.count()
    return pages.render(
        request,
        console,
        "confirm",
        chosen.kind.title,
        work=chosen,
        signed=chosen.signed(request.user),
        count=count,
        left=len(chosen.ids) - count.number,
        options=options,
        back=_address(console, chosen),
    )


def _named(ids: Sequence[int]) -> str:
    more = len(ids) - work.NAMED
    named = ", ".join(map(str, ids[: work.NAMED]))
    return f"{named} and {more} more" if more > 0 else named


def _log(request: HttpRequest, console: ModelAdmin, done: Work, only: int | None) -> None:
    """Write into the admin's own log what was done; what each task went through is in ours."""
    came = f"{done.done} {done.kind.past}, {done.left} left" if done.finished else "begun"
    options = "".join(f"; {name}: {value}" for name, value in (done.options or {}).items())
    text = f"{done.kind.title}: {came} ({done.about}{options})"
    console.log_change(request, Operations(pk=only), text)


def _report(request: HttpRequest, done: Work) -> None:
    """Tell the user what was done, and what was left, with the reasons."""
    count = "1 task was" if done.done == 1 else f"{done.done} tasks were"
    if done.done or not done.left:
        messages.success(request, f"{count} {done.kind.past}.")
    if not done.left:
        return
    count = "1 task was" if done.left == 1 else f"{done.left} tasks were"
    named = format_html_join("", "<li>Task {}: {}.</li>", done.reasons)
    more = done.left - len(done.reasons)
    rest = format_html("<li>And {} more.</li>", more) if more else ""
    messages.warning(request, format_html("{} left as before:<ul>{}{}</ul>", count, named, rest))


def _back(request: HttpRequest, console: ModelAdmin, done: Work | None) -> HttpResponse:
    if done is None:
        return redirect(f"{pages.url(console, 'tasks')}?{_list_query(request)}")
    return redirect(_address(console, done))


def _list_query(request: HttpRequest) -> str:
    return filtering.from_query(request.POST.get("query", "")).query()


def _address(console: ModelAdmin, done: Work) -> str:
    """The page where an action was begun."""
    if done.back is not None and not (done.action == "delete" and done.done):
        return pages.url(console, "change", done.back)
    return f"{pages.url(console, 'tasks')}?{done.query or done.list_query}"
