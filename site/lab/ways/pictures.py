"""A picture of 12 megapixels is resized."""

from __future__ import annotations

from django.http import HttpResponse

from lab import tasks, work
from lab.answers import LabRequest, answer


def in_the_view(request: LabRequest) -> HttpResponse:
    work.resize(request.stage.picture)
    return answer(request, "Your picture has been resized.")


def in_the_background(request: LabRequest) -> HttpResponse:
    task = tasks.resize(request.stage.picture)
    return answer(request, "Your picture will be resized in a moment.", task)
