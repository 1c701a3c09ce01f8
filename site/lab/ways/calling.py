"""A service is called two hundred times, and each call takes a while."""

from __future__ import annotations

from django.http import HttpResponse

from lab import sizes, tasks
from lab.answers import LabRequest, answer


def by_threads(request: LabRequest) -> HttpResponse:
    rows = tasks.call.map([request.stage.call_url] * sizes.CALLS)
    return answer(request, f"{len(rows)} calls will be made in a moment.", *rows)


def by_coroutines(request: LabRequest) -> HttpResponse:
    rows = tasks.acall.map([request.stage.call_url] * sizes.CALLS)
    return answer(request, f"{len(rows)} calls will be made in a moment.", *rows)
