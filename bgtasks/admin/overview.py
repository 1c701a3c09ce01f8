"""The overview: how the queues are, what has run, how long it took, and what has failed."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from bgtasks.admin import charts, pages
from bgtasks.admin.times import when
from bgtasks.models import PausedQueue
from bgtasks.operations import failures, queues, statistics, unserved
from bgtasks.operations.statistics import Range, Runs, short
from bgtasks.queue import pauses

# How many tasks a table of the slowest, or of the most failing, has.
MOST = 10
# How many characters the name of a queue can have.
LONGEST = 190


@pages.page("", pages.OVERVIEW)
def overview(request: HttpRequest, console: ModelAdmin) -> HttpResponse:
    """The page; with ``?live`` only its part that changes, which its script asks for."""
    wanted = statistics.RANGES.get(request.GET.get("range", ""), statistics.RANGES["hour"])
    return pages.render_live(
        request,
        console,
        "_overview",
        "Overview",
        {"range": wanted.name},
        ranges=statistics.RANGES,
        range=wanted,
        now=when(timezone.now()),
        unserved=unserved.unserved(),
        queues=[_queue(each) for each in queues.states()],
        failures=[(each, when(each.last)) for each in failures.recent()],
        most_failures=failures.MOST,
        **_statistics(wanted),
    )


@pages.page("pause/", "pause", permission="pause", methods=("GET", "HEAD", "POST"))
def pause(request: HttpRequest, console: ModelAdmin) -> HttpResponse:
    """Pause or resume a queue. Whoever comes by GET, after a login, is sent to the overview."""
    if request.method == "POST":
        queue, by = request.POST.get("queue", ""), request.user.get_username()
        if len(queue) > LONGEST:
            messages.error(request, "There is no queue of that name: it is too long.")
        elif "resume" in request.POST:
            _say(request, console, queue, "resumed" if pauses.resume(queue) else "")
        else:
            _say(request, console, queue, "paused" if pauses.pause(queue, by) else "")
    return redirect(pages.url(console, pages.OVERVIEW))


def _say(request: HttpRequest, console: ModelAdmin, queue: str, done: str) -> None:
    """Tell the user, and the admin's log, what was done; "": somebody else had done it before."""
    name = f"Queue {queue}" if queue else "What has no queue"
    if not done:
        messages.info(request, f"{name} was not changed: somebody else was faster.")
        return
    console.log_change(request, PausedQueue(queue=queue), f"{name} was {done}.")
    messages.success(request, f"{name} is {done}.")


def _queue(state: queues.QueueState) -> dict[str, Any]:
    return {
        "state": state,
        "oldest": short(state.oldest),
        "ended_today": f"{state.ended_today:,}",
        "failed_today": f"{state.failed_today:,}",
        "per_minute": f"{state.per_minute:,.3g}"
        if state.per_minute < 1000
        else f"{state.per_minute:,.0f}",
        "paused": when(state.pause.at) if state.pause else None,
    }


def _statistics(wanted: Range) -> dict[str, Any]:
    """The charts and the tables of a range of time."""
    points = statistics.series(wanted)
    shape = "%a %H:%M" if wanted.name == "week" else "%H:%M"
    times = [
        f"{timezone.localtime(at, timezone.get_current_timezone()):{shape}}" for at, _ in points
    ]
    runs = [each for _, each in points]
    tasks = statistics.by_task(wanted)
    slowest = sorted(tasks.items(), key=lambda item: item[1].ran.p95 or 0, reverse=True)
    failing = sorted(tasks.items(), key=lambda item: item[1].failures, reverse=True)
    return {
        "charts": [_throughput(times, runs), _waited(times, runs), _ran(times, runs)],
        "slowest": [_task(name, each) for name, each in slowest[:MOST] if each.ran.count],
        "failing": [_task(name, each) for name, each in failing[:MOST] if each.failures],
    }


def _task(name: str, runs: Runs) -> dict[str, Any]:
    spans = {
        f"{what}_{percent}": short(durations.percentile(percent))
        for what, durations in (("waited", runs.waited), ("ran", runs.ran))
        for percent in (50, 95, 99)
    }
    counts = {"count": f"{runs.count:,}", "failures": f"{runs.failures:,}"}
    return {"name": name, "runs": runs, **counts, **spans}


def _throughput(times: list[str], runs: list[Runs]) -> charts.Chart:
    columns = [
        charts.Column("Succeeded", "succeeded", [each.succeeded for each in runs]),
        charts.Column("Failed, to be retried", "retried", [each.retried for each in runs]),
        charts.Column("Failed", "failed", [each.failed for each in runs]),
        charts.Column("Cancelled", "cancelled", [each.cancelled for each in runs]),
    ]
    return charts.bars("throughput", "Runs that ended", times, columns, "Runs that ended")


def _waited(times: list[str], runs: list[Runs]) -> charts.Chart:
    return _percentiles("waited", "Waiting time", times, [each.waited for each in runs])


def _ran(times: list[str], runs: list[Runs]) -> charts.Chart:
    return _percentiles("ran", "Running time", times, [each.ran for each in runs])


def _percentiles(
    name: str, title: str, times: list[str], durations: list[statistics.Durations]
) -> charts.Chart:
    columns = [
        charts.Column(
            f"p{percent}", f"p{percent}", [each.percentile(percent) for each in durations]
        )
        for percent in (50, 95, 99)
    ]
    return charts.lines(name, title, times, columns, short)
