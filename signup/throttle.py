"""How often one address may try, and what it is told when that was too often."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.defaults import permission_denied
from django_ratelimit.decorators import ratelimit
from django_ratelimit.exceptions import Ratelimited

View = Callable[..., HttpResponseBase]


def login(view: View) -> View:
    """Limit attempts to log in, whatever name they try."""
    limited: View = ratelimit(key="ip", group="login", rate=rate("LOGIN_RATE"), method="POST")(view)
    return limited


def rate(setting: str) -> Callable[[str, HttpRequest], str]:
    """A rate that is read from the settings at each request, so that it can be changed."""
    return lambda _group, _request: str(getattr(settings, setting))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """The site's page for 403; for one who came too often, 429."""
    if isinstance(exception, Ratelimited):
        return render(request, "429.html", status=429)
    return permission_denied(request, exception)


def email_key(group: str, request: HttpRequest) -> str:
    """The address in the form, as one mailbox however it is written."""
    return request.POST.get("email", "").strip().lower()
