"""A workbook with many lines is written."""

from __future__ import annotations

from django.http import HttpResponse

from lab import tasks, work
from lab.answers import LabRequest, answer


def in_the_view(request: LabRequest) -> HttpResponse:
    work.build_report()
    return answer(request, "Your report has been built.")


def in_the_background(request: LabRequest) -> HttpResponse:
    task = tasks.build_report()
    return answer(request, "Your report will be built in a moment.", task)
