"""The page of schedules: cron and repeating tasks, and when each runs next."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from bgtasks.admin import pages
from bgtasks.admin.times import when
from bgtasks.models import Action, CronSlot, Operations
from bgtasks.operations import timetable
from bgtasks.operations.timetable import Schedule
from bgtasks.queue import acting, cron_slots, repeat
from bgtasks.queue.outcomes import id_of
from bgtasks.tasks import registry

NO_SUCH = "There is no task of that name with a cron line, or not any more."


@pages.page("schedules/", "schedules")
def schedules(request: HttpRequest, console: ModelAdmin) -> HttpResponse:
    found = timetable.read()
    return pages.render(
        request,
        console,
        "schedules",
        "Schedules",
        cron=[_schedule(each) for each in found.cron],
        repeating=[_schedule(each) for each in found.repeating],
        more=found.more,
        problems=found.problems,
        zone=timezone.get_default_timezone_name(),
        among=timetable.AMONG,
    )


def _schedule(schedule: Schedule) -> dict[str, Any]:
    return {
        "schedule": schedule,
        "next": [(f"{at:%a %d %b %Y %H:%M:%S}", at.isoformat()) for at in schedule.next],
        "last": when(schedule.last.at) if schedule.last else None,
        "paused": when(schedule.paused) if schedule.paused else None,
    }


@pages.page("schedules/run/", "run", permission="act", methods=("GET", "HEAD", "POST"))
def run(request: HttpRequest, console: ModelAdmin) -> HttpResponse:
    """Run a schedule's task now. Whoever comes by GET is sent to the schedules."""
    if request.method == "POST":
        if name := request.POST.get("name", ""):
            _run_cron(request, console, name)
        else:
            _run_repeating(request, console, request.POST.get("id", ""))
    return redirect(pages.url(console, "schedules"))


@pages.page(
    "schedules/pause/", "pause_schedule", permission="pause", methods=("GET", "HEAD", "POST")
)
def pause(request: HttpRequest, console: ModelAdmin) -> HttpResponse:
    """Pause or resume a schedule. Whoever comes by GET is sent to the schedules."""
    if request.method == "POST":
        is_over = "resume" in request.POST
        if name := request.POST.get("name", ""):
            _pause_cron(request, console, name, is_over)
        else:
            _pause_repeating(request, console, request.POST.get("id", ""), is_over)
    return redirect(pages.url(console, "schedules"))


def _pause_cron(request: HttpRequest, console: ModelAdmin, name: str, is_over: bool) -> None:
    for error in registry.import_task_modules():
        messages.warning(request, str(error))
    if name not in timetable.cron_tasks():
        messages.error(request, NO_SUCH)
    elif cron_slots.resume(name) if is_over else cron_slots.pause(name):
        text = f"The cron line of {name} was {'resumed' if is_over else 'paused'}."
        console.log_change(request, CronSlot(name=name), text)
        messages.success(request, text)
    else:
        messages.info(request, f"{name} was not changed: somebody else was faster.")


def _pause_repeating(request: HttpRequest, console: ModelAdmin, text: str, is_over: bool) -> None:
    pk = id_of(text)
    if pk is None or not (repeat.resume(pk) if is_over else repeat.pause(pk)):
        messages.error(
            request, "That was not changed: the task runs just now, or somebody else was faster."
        )
        return
    _say(request, console, pk, f"Task {pk} was {'resumed' if is_over else 'paused'}.")


def _run_cron(request: HttpRequest, console: ModelAdmin, name: str) -> None:
    for error in registry.import_task_modules():
        messages.warning(request, str(error))
    if name not in timetable.cron_tasks():
        messages.error(request, NO_SUCH)
        return
    row = registry.find(name)()
    acting.log([row.pk], Action.Kind.RUN_NOW, request.user.get_username(), "beside its cron line")
    _say(request, console, row.pk, f"Task {row.pk} was enqueued: {name}.")


def _run_repeating(request: HttpRequest, console: ModelAdmin, text: str) -> None:
    pk = id_of(text)
    if pk is None or not acting.run_now([pk], request.user.get_username()):
        messages.error(request, "That task does not wait any more: it runs, or has ended.")
        return
    _say(request, console, pk, f"Task {pk} runs now. Its time table stays as it is.")


def _say(request: HttpRequest, console: ModelAdmin, pk: int, text: str) -> None:
    """Tell the user, and the admin's log."""
    console.log_change(request, Operations(pk=pk), text)
    messages.success(request, text)
