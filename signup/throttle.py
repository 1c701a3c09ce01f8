"""Limits how often one address may send a form, and answers 429 to the others."""

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
    """Limit the attempts to log in from one address, for all names together."""
    limited: View = ratelimit(key="ip", group="login", rate=rate("LOGIN_RATE"), method="POST")(view)
    return limited


def rate(setting: str) -> Callable[[str, HttpRequest], str]:
    """A rate that is read from the settings at each request, so that it can be changed."""
    return lambda _group, _request: str(getattr(settings, setting))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """The site's page for a 403; a 429 if it is a throttle that refuses."""
    if isinstance(exception, Ratelimited):
        return render(request, "429.html", status=429)
    return permission_denied(request, exception)


def email_key(group: str, request: HttpRequest) -> str:
    """The email address in the form, stripped and in lower case, as the key of a throttle."""
    return request.POST.get("email", "").strip().lower()
