"""The page of workers: who is alive, and what each runs."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import ModelAdmin
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from bgtasks.admin import pages
from bgtasks.admin.times import when
from bgtasks.operations import crew, unserved
from bgtasks.operations.statistics import short


@pages.page("workers/", "workers")
def workers(request: HttpRequest, console: ModelAdmin) -> HttpResponse:
    """The page; with ``?live`` only its part that changes, which its script asks for."""
    return pages.render_live(
        request,
        console,
        "_workers",
        "Workers",
        now=when(timezone.now()),
        command=unserved.COMMAND,
        workers=[_worker(each) for each in crew.members()],
        most=crew.MOST,
    )


def _worker(member: crew.Member) -> dict[str, Any]:
    return {
        "member": member,
        "age": "unknown" if member.age is None else f"{max(0.0, member.age):.1f} s",
        "started": when(member.started),
        "memory": "" if member.memory is None else filesizeformat(member.memory),
        "children": [_child(each) for each in member.children],
    }


def _child(child: crew.Child) -> dict[str, Any]:
    now = timezone.now()
    runs = [(run, short((now - run.since).total_seconds()), when(run.since)) for run in child.runs]
    memory = "" if child.memory is None else filesizeformat(child.memory)
    return {"child": child, "memory": memory, "runs": runs, "more": child.running - len(runs)}
