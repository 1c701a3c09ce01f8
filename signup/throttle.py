"""Limits how often an address, a user or a name may send a form, and answers 429 to the others."""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.conf import settings
from django.contrib.auth.forms import UsernameField
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.defaults import permission_denied
from django_ratelimit.core import is_ratelimited
from django_ratelimit.decorators import ratelimit
from django_ratelimit.exceptions import Ratelimited

from signup import known_browsers
from signup.models import User

View = Callable[..., HttpResponseBase]
Key = str | Callable[[str, HttpRequest], str]


def login(view: View) -> View:
    """Limit the attempts to log in: from one address, and for one name from all addresses.

    A browser in which the user was logged in before is counted apart; see `known_browsers`.
    """

    @wraps(view)
    def limited(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method != "POST":
            return view(request, *args, **kwargs)
        if _exceeded(request, "login", "ip", "LOGIN_RATE") or _name_exceeded(request):
            return render(request, "429.html", {"login": True}, status=429)
        response = view(request, *args, **kwargs)
        if request.user.is_authenticated:
            known_browsers.remember(request, response, request.user)
        return response

    return limited


def _name_exceeded(request: HttpRequest) -> bool:
    """Count an attempt at a user's name, and say whether there were too many.

    An unknown name is not counted, because there is nothing to be guessed.
    """
    user = named_user(request.POST.get("username", ""))
    if user is None:
        return False
    mark = known_browsers.mark_of(request, user)
    key = f"browser {mark}" if mark else f"user {user.pk}"
    exceeded = _exceeded(request, "login-name", lambda *_: key, "LOGIN_NAME_RATE")
    if not exceeded or mark or user.email:
        return exceeded
    # A new browser's owner without an address of email has no other way in: nobody can send them
    # the link to choose a new password.
    return _exceeded(request, f"login-no-email {user.pk}", "ip", "LOGIN_NO_EMAIL_RATE")


def named_user(name: str) -> User | None:
    """The user whom a text names in the form of the login, which cleans it up like this."""
    try:
        cleaned = UsernameField(max_length=User._meta.get_field("username").max_length).clean(name)
    except ValidationError:
        return None
    return User.objects.named(cleaned).first()


def _exceeded(request: HttpRequest, group: str, key: Key, setting: str) -> bool:
    """Count a request, and say whether there were more of its group and key than the rate says."""
    return bool(
        is_ratelimited(
            request, group=group, key=key, rate=rate(setting), method="POST", increment=True
        )
    )


def password_change(view: View) -> View:
    """Limit how often one user may guess the old password, and have passwords hashed."""
    limit = ratelimit(
        key="user", group="password-change", rate=rate("PASSWORD_CHANGE_RATE"), method="POST"
    )
    return cast("View", limit(view))


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
