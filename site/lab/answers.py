"""What a way has in its hands: the request, the stage, and the page that it answers with."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from lab.models import Run, Stage


class LabRequest(HttpRequest):
    """A request for a way.

    Attributes:
        origin: of the page that shows the answer; "" if it is not known.
        stage: the servers and files to work with.
        run: what is measured; None for one of the others who ask for the same.
        task_ids: of the tasks that do the work, if they do.
        report_to: where the browser reports its figures.
    """

    origin: str
    stage: Stage
    run: Run | None
    task_ids: list[int]
    report_to: str


def answer(request: LabRequest, text: str, *tasks: Any) -> HttpResponse:
    """The page that the visitor has waited for.

    Args:
        text: what it says, as its largest part.
        tasks: rows or results of the background tasks that do the work.
    """
    request.task_ids = [task.id for task in tasks]
    context = {"text": text, "run": request.run, "report_to": request.report_to}
    return HttpResponse(render_to_string("lab/answer.html", context))
