"""The view of a task for whoever waits for it: JSON, a fragment of HTML, or a stream of events."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET
from django.views.decorators.vary import vary_on_headers

from bgtasks.operations.snapshots import Snapshot
from bgtasks.watch import events
from bgtasks.watch.access import seen_by
from bgtasks.watch.links import task_id_of

# What `?format=` may say, and the media type that says the same in the header Accept.
TYPES = {"json": "application/json", "html": "text/html", "events": "text/event-stream"}
NO_FORMAT = (
    "A task can be watched as JSON (?format=json, or Accept: application/json), as HTML "
    "(?format=html, text/html) or as a stream of events (?format=events, text/event-stream).\n"
)
NO_STREAMS = (
    "Event streams need an ASGI server, such as uvicorn, and this site runs under WSGI. Ask for "
    "?format=json or ?format=html again from time to time.\n"
)


@require_GET
@never_cache
@vary_on_headers("Accept", "HX-Request")
async def watch(request: HttpRequest, signed: str) -> HttpResponseBase:
    """Where a task stands. 404 for everybody but its creator and staff."""
    user = await request.auser()
    task_id = task_id_of(signed)
    snapshot = await sync_to_async(seen_by)(user, task_id) if task_id is not None else None
    if task_id is None or snapshot is None:
        raise Http404("There is no such task, or it is not yours, or you are not logged in.")
    format_ = _format(request)
    if format_ == "events":
        return _events(request, task_id, snapshot)
    if format_ == "html":
        context = {"task": snapshot, "url": request.path}
        return await sync_to_async(render)(request, "bgtasks/watch.html", context)
    if format_ == "json":
        return JsonResponse(events.as_json(snapshot))
    return HttpResponse(NO_FORMAT, status=406, content_type="text/plain; charset=utf-8")


def _format(request: HttpRequest) -> str | None:
    """The wanted one of `TYPES`; None if it is none of them."""
    if (wanted := request.GET.get("format")) is not None:
        return wanted if wanted in TYPES else None
    if request.headers.get("HX-Request") == "true":  # htmx accepts anything
        return "html"
    preferred = request.get_preferred_type(list(TYPES.values()))
    return next((name for name, type_ in TYPES.items() if type_ == preferred), None)


def _events(request: HttpRequest, task_id: int, snapshot: Snapshot) -> HttpResponseBase:
    if not isinstance(request, ASGIRequest):
        # Under WSGI a stream would keep one of the server's few threads for hours.
        return HttpResponse(NO_STREAMS, status=406, content_type="text/plain; charset=utf-8")
    if request.headers.get("Last-Event-ID") == events.LAST:
        return HttpResponse(status=204)  # a browser does not come again after that
    return StreamingHttpResponse(
        events.stream(task_id, snapshot),
        content_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},  # nginx would collect what is sent
    )
