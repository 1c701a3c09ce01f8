"""Limits how often an address, a user or a name may send a form, and answers 429 to the others."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.defaults import permission_denied
from django_ratelimit.decorators import ratelimit
from django_ratelimit.exceptions import Ratelimited

from signup import known_browsers

View = Callable[..., HttpResponseBase]


def login(view: View) -> View:
    """Limit the attempts to log in: from one address, and for one name from all addresses.

    For its name, a browser that has logged in before is counted apart; see `known_browsers`.
    """
    by_name = _limited(login_key, "login-name", "LOGIN_NAME_RATE")(view)
    by_address = _limited("ip", "login", "LOGIN_RATE")(by_name)

    @wraps(view)
    def remembering(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = by_address(request, *args, **kwargs)
        if request.method == "POST" and request.user.is_authenticated:
            known_browsers.remember(request, response, request.user)
        return response

    return remembering


def password_change(view: View) -> View:
    """Limit how often one user may guess the old password, and have passwords hashed."""
    return _limited("user", "password-change", "PASSWORD_CHANGE_RATE")(view)


def _limited(
    key: str | Callable[[str, HttpRequest], str], group: str, setting: str
) -> Callable[[View], View]:
    decorator: Callable[[View], View]
    decorator = ratelimit(key=key, group=group, rate=rate(setting), method="POST")
    return decorator


def rate(setting: str) -> Callable[[str, HttpRequest], str]:
    """A rate that is read from the settings at each request, so that it can be changed."""
    return lambda _group, _request: str(getattr(settings, setting))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """The site's page for a 403; a 429 if it is a throttle that refuses."""
    if isinstance(exception, Ratelimited):
        return render(request, "429.html", status=429)
    return permission_denied(request, exception)


def login_key(group: str, request: HttpRequest) -> str:
    """The name in the form as the key of a throttle; for a known browser, its mark."""
    name = known_browsers.normalized(request.POST.get("username", ""))
    mark = known_browsers.mark_of(request, name)
    return f"browser {mark}" if mark else f"name {name}"


def email_key(group: str, request: HttpRequest) -> str:
    """The email address in the form, stripped and in lower case, as the key of a throttle."""
    return request.POST.get("email", "").strip().lower()
