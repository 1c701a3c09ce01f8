"""The view of the site from which Prometheus reads the metrics."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from bgtasks import conf
from bgtasks.metrics.collector import exposition

REFUSED = (
    "The metrics are for staff, and for whoever sends the token of the setting "
    "BGTASKS_METRICS_TOKEN: `Authorization: Bearer ...`.\n"
)


@require_safe
@never_cache
def view(request: HttpRequest) -> HttpResponse:
    """The metrics, for staff and for whoever has the token."""
    if not _may_read(request):
        return HttpResponse(
            REFUSED,
            status=401,
            content_type="text/plain; charset=utf-8",
            headers={"WWW-Authenticate": "Bearer"},
        )
    text, content_type = exposition(request.headers.get("Accept", ""))
    return HttpResponse(text, content_type=content_type)


def _may_read(request: HttpRequest) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    token = conf.metrics_token()
    if token and scheme.lower() == "bearer" and constant_time_compare(given.strip(), token):
        return True
    user = getattr(request, "user", None)
    return bool(user and user.is_active and getattr(user, "is_staff", False))
