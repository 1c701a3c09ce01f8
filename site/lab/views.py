"""The page of the lab, and what its scripts ask for."""

from __future__ import annotations

import json
import math
import secrets
import time
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from lab import access, charts
from lab.access import Ticket, lab_only
from lab.catalogue import PATTERNS, find
from lab.figures import Metric, of_run
from lab.framing import talks_to
from lab.models import Run, Stage
from lab.page import SHOWN, Findings, findings
from lab.running import REPORT_SALT, VISIT_SALT
from lab.stage.record import RECENT
from lab.verdicts import ENOUGH_RUNS

# Seconds for which the others ask after the page was loaded, and after it has asked what goes on.
# Without JavaScript it does not ask.
WATCHED, POLLED = 60, 6
# Seconds after which a page that is still open does not keep the others asking any more.
OLD = 600
# A report of the browser is a name and a number.
MAX_REPORT = 1024
LONGEST = 120_000.0  # milliseconds
# Seconds after the end of a run until the page shows its figures: the browser reports its own ones
# when the page is hidden, and INP is lost if that comes too soon after the click.
PAUSE = 1.0


@lab_only
@never_cache
@require_GET
def index(request: HttpRequest) -> HttpResponseBase:
    """The page. Each load of it is a new visit, and lets the others ask."""
    stage = Stage.current()
    if stage:
        _watch(stage, WATCHED)
    visit = new_visit()
    origin = request.build_absolute_uri("/").rstrip("/")
    wsgi = wsgi_url(stage, origin)
    context = {
        "stage": stage,
        "starting": stage is None or not stage.ready,
        "rows": rows(wsgi=reaches_wsgi(origin)),
        "latest": latest(request.GET.get("run", "")),
        "ticket": Ticket(visit, origin).signed(),
        "report_to": reverse("lab_visit", args=[signing.dumps(visit, salt=VISIT_SALT)]),
        "visit": visit,
        "enough": ENOUGH_RUNS,
        "others": settings.LAB_OTHERS,
        "wsgi": wsgi,
    }
    response = render(request, "lab/index.html", context)
    return talks_to(response, wsgi)


def new_visit() -> str:
    """A text that names one load of the page, and begins with its time."""
    return f"{int(time.time()):08x}{secrets.token_hex(12)}"


def _is_old(visit: str) -> bool:
    """Whether a page was loaded so long ago that it does not keep the others asking any more."""
    try:
        return int(visit[:8], 16) < time.time() - OLD
    except ValueError:  # nobody was given such an address
        return True


def _watch(stage: Stage, seconds: float) -> None:
    """Let the servers start, if they do not run, and the others ask for so long."""
    until = timezone.now() + timedelta(seconds=seconds)
    if stage.watched_until < until - timedelta(seconds=seconds / 2):
        Stage.objects.filter(pk=stage.pk).update(watched_until=until)


def reaches_wsgi(origin: str) -> bool:
    """Whether the browser of a page of ``origin`` reaches the WSGI server.

    On the machine itself, it reaches what listens there.
    """
    return bool(settings.LAB_WSGI_URL) or access.is_loopback(origin)


def wsgi_url(stage: Stage | None, origin: str) -> str:
    """Where a browser reaches the WSGI server; "" if it does not, and then the site's own runs all.

    Args:
        origin: of the page.
    """
    if settings.LAB_WSGI_URL:
        return str(settings.LAB_WSGI_URL).rstrip("/")
    return stage.wsgi_url if stage and reaches_wsgi(origin) else ""


def rows(*, wsgi: bool) -> list[Findings]:
    """What was measured of each pattern; for ``wsgi`` see `findings`."""
    runs = list(Run.objects.filter(active=None).defer("samples").order_by("id"))
    return [
        findings(pattern, [run for run in runs if run.pattern == pattern.key], wsgi=wsgi)
        for pattern in PATTERNS
    ]


def latest(number: str) -> dict[str, Any] | None:
    """The run that the page has just measured, with its chart; None if the address names none."""
    run = Run.objects.filter(pk=number).first() if number.isdecimal() and len(number) < 19 else None
    if run is None:
        return None
    pattern = find(run.pattern)
    figures = of_run(run)
    return {
        "run": run,
        "way": pattern.way(run.way),
        "pattern": pattern,
        "figures": [
            (metric.label, metric.show(figures[metric])) for metric in SHOWN if metric in figures
        ],
        "chart": charts.waits(
            "How long each of the others waited",
            run.samples.get("points", []),
            figures.get(Metric.DONE, 0) / 1000,
        ),
    }


@lab_only
@never_cache
@require_GET
def live(request: HttpRequest, visit: str) -> HttpResponseBase:
    """What goes on now, for the page that was loaded as this visit."""
    stage, old = Stage.current(), _is_old(visit)
    if stage and not old:
        _watch(stage, POLLED)
        if stage.ready and stage.wsgi_url != request.GET.get("wsgi"):
            # The page was made before the servers were there, or for those that ran before.
            response = HttpResponse()
            response["HX-Refresh"] = "true"
            return response
    run = Run.objects.filter(visit=visit).order_by("-id").first()
    if run and run.active is None and _seen_by_the_browser(run):
        response = HttpResponse()
        response["HX-Redirect"] = f"{reverse('lab')}?run={run.pk}#{run.pattern}"
        return response
    chart = charts.live(stage.recent, RECENT) if stage else ""
    context = {"stage": stage, "run": run, "chart": chart, "old": old}
    return render(request, "lab/_live.html", context)


def _seen_by_the_browser(run: Run) -> bool:
    """Whether the browser has had time to report: a while after the end of the run."""
    end = run.done_at or run.started_at + timedelta(seconds=60)
    return bool(run.problem) or timezone.now() > end + timedelta(seconds=PAUSE)


@lab_only
@never_cache
@require_GET
def run(request: HttpRequest, pk: int) -> HttpResponseBase:
    """The figures of a run as JSON."""
    found = Run.objects.filter(pk=pk).first()
    if found is None:
        raise Http404(f"There is no run {pk}; only the latest runs of each way are kept.")
    return JsonResponse(as_json(found))


def as_json(run: Run) -> dict[str, Any]:
    return {
        "id": run.pk,
        "pattern": run.pattern,
        "way": run.way,
        "server": run.server,
        "ended": run.active is None,
        "problem": run.problem,
        "browser": run.browser,
        "figures": {metric.name: value for metric, value in of_run(run).items()},
        "samples": run.samples,
    }


@require_GET
def light(request: HttpRequest) -> HttpResponse:
    """The small page for which the others ask: one query, a few bytes."""
    return HttpResponse(f"{Stage.objects.count()} lab", content_type="text/plain")


@csrf_exempt
@require_POST
def report(request: HttpRequest, token: str) -> HttpResponse:
    """TTFB and LCP, as the answer's page reports them."""
    return _noted(request, Run.objects.filter(pk=_opened(token, REPORT_SALT)), {"TTFB", "LCP"})


@csrf_exempt
@require_POST
def visit(request: HttpRequest, token: str) -> HttpResponse:
    """INP, as the page reports it on which the button was pressed."""
    runs = Run.objects.filter(visit=_opened(token, VISIT_SALT)).order_by("-id")
    return _noted(request, runs, {"INP"})


def _opened(token: str, salt: str) -> Any:
    try:
        return signing.loads(token, salt=salt, max_age=access.TICKET_AGE)
    except signing.BadSignature:
        raise Http404("This address is not from here, or is too old.") from None


def _noted(request: HttpRequest, runs: QuerySet[Run], names: set[str]) -> HttpResponse:
    if access.too_large(request, MAX_REPORT):
        return HttpResponse(status=413)
    try:
        told = json.loads(request.body)
        name, value = str(told["name"]), float(told["value"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return HttpResponse("Send a figure as JSON: its name and its value.", status=400)
    if name not in names or not (math.isfinite(value) and 0 <= value <= LONGEST):
        return HttpResponse("Send a figure that the lab knows, in milliseconds.", status=400)
    with transaction.atomic():  # TTFB and LCP may come at the same time
        for run in runs.select_for_update()[:1]:
            # Reports may overtake each other. Of one run, a later figure is never less.
            run.browser[name] = max(round(value, 1), run.browser.get(name, 0))
            run.save(update_fields=["browser"])
    return HttpResponse(status=204)
