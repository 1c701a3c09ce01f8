"""A run from its request to its answer: one at a time, with a stage, by somebody with a ticket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from asgiref.sync import sync_to_async
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.db import IntegrityError, transaction
from django.http import HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from bgtasks import AsyncResult
from lab import access
from lab.access import Ticket
from lab.answers import LabRequest
from lab.framing import framed
from lab.models import KEPT_RUNS, LONGEST_RUN, Run, Stage

logger = logging.getLogger(__name__)

REPORT_SALT, VISIT_SALT = "lab.report", "lab.visit"


class Refused(Exception):
    """The request is not served; the text says why, and what to do."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def measured(pattern: str, way: str, view: Callable[..., Any]) -> Callable[..., Any]:
    """A view that runs a way, and notes when its answer was there."""
    if iscoroutinefunction(view):

        @wraps(view)
        async def in_async(request: LabRequest) -> HttpResponse:
            try:
                await sync_to_async(begin)(request, pattern, way)
                response: HttpResponse = await view(request)
                await sync_to_async(answered)(request)
            except asyncio.CancelledError:
                await sync_to_async(left)(request)
                raise
            except Exception as error:
                return await sync_to_async(explained)(request, error)
            return framed(response, request.origin)

        return csrf_exempt(require_POST(in_async))

    @wraps(view)
    def in_sync(request: LabRequest) -> HttpResponse:
        try:
            begin(request, pattern, way)
            response: HttpResponse = view(request)
            answered(request)
        except Exception as error:
            return explained(request, error)
        return framed(response, request.origin)

    return csrf_exempt(require_POST(in_sync))


def begin(request: LabRequest, pattern: str, way: str) -> None:
    """Start a run, or let one of the others take part in the one that goes on.

    Raises:
        Refused: no stage, or another run goes on.
        PermissionDenied: no valid ticket.
    """
    started = timezone.now()
    request.run, request.task_ids, request.origin = None, [], ""
    ticket = _ticket(request)
    stage = Stage.current()
    if stage is None or not stage.ready:
        raise Refused(503, "The lab's servers do not run yet. Load the lab again.")
    request.stage = stage
    if ticket.visit:
        server = "ASGI" if isinstance(request, ASGIRequest) else "WSGI"
        request.run = _start(
            Run(pattern=pattern, way=way, server=server, visit=ticket.visit, started_at=started)
        )
    request.report_to = report_address(request.run) if request.run else ""


def _ticket(request: LabRequest) -> Ticket:
    if access.too_large(request, access.MAX_BYTES):
        raise Refused(413, "The lab takes no data. Load the lab again, and press a button.")
    text = request.POST.get("ticket", "")
    # Also the page with an old ticket shows what this answers.
    request.origin = access.read_ticket(text, max_age=None).origin
    return access.read_ticket(text, max_age=access.TICKET_AGE)


def _start(run: Run) -> Run:
    """Save a run, unless another goes on, and delete the oldest ones of its way.

    Raises:
        Refused: another run goes on.
    """
    give_up_overdue()
    try:
        with transaction.atomic():
            run.save(force_insert=True)
    except IntegrityError:
        raise Refused(
            409,
            "Another run is in progress, and only one is measured at a time: wait a few seconds.",
        ) from None
    of_this_way = Run.objects.filter(pattern=run.pattern, way=run.way)
    old = of_this_way.order_by("-id").values_list("id", flat=True)[KEPT_RUNS:]
    Run.objects.filter(id__in=list(old)).delete()
    return run


def give_up_overdue() -> None:
    """End the run that has not ended in time, and cancel the tasks that still wait for it."""
    overdue = timezone.now() - timedelta(seconds=LONGEST_RUN)
    for run in Run.objects.filter(active=True, started_at__lt=overdue):
        problem = f"The run did not end within {LONGEST_RUN:.0f} seconds, and was cancelled."
        if Run.objects.filter(pk=run.pk, active=True).update(active=None, problem=problem):
            for task in run.tasks:
                AsyncResult(task).revoke()


def answered(request: LabRequest) -> None:
    """Note that the answer is there, and the work too, unless tasks do it."""
    if request.run is None:
        return
    now = timezone.now()
    Run.objects.filter(pk=request.run.pk, active=True).update(
        answered_at=now,
        done_at=None if request.task_ids else now,
        tasks=request.task_ids,
    )


def left(request: LabRequest) -> None:
    """End the run of a visitor who has not waited for the answer."""
    run: Run | None = getattr(request, "run", None)  # it may not have begun
    if run is not None:
        problem = "The visitor has left before the answer came."
        Run.objects.filter(pk=run.pk).update(active=None, problem=problem)


def explained(request: LabRequest, error: BaseException) -> HttpResponse:
    """End the run, if there is one, and answer with what went wrong, also in the frame."""
    text, status = str(error), error.status if isinstance(error, Refused) else 403
    if not isinstance(error, (Refused, PermissionDenied)):
        logger.error("The lab could not run %s.", request.path, exc_info=error)
        text, status = f"The view has raised {type(error).__name__}: {error}", 500
    if request.run is not None:
        Run.objects.filter(pk=request.run.pk).update(active=None, problem=text)
    context = {"text": text, "lab": request.origin + reverse("lab")}
    page = render_to_string("lab/refused.html", context)
    return framed(HttpResponse(page, status=status), request.origin)


def report_address(run: Run) -> str:
    """Where the browser reports what it has measured of a run."""
    return reverse("lab_report", args=[signing.dumps(run.pk, salt=REPORT_SALT)])
