"""Cookies by which the throttle tells an account's owner from a stranger who tries its name.

The attempts to log in are counted for each name, wherever they come from. With that count alone, a
stranger could shut out an account's owner by trying. So a browser in which somebody is logged in
gets a cookie, and its attempts at that name are counted apart. The cookie lets nobody in.

It names the user by the primary key, because a header cannot hold the letters of every name. A
change of the password ends all cookies that were given before.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import cast

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.crypto import salted_hmac
from django.utils.decorators import sync_and_async_middleware
from django.utils.functional import LazyObject

from signup.models import User

COOKIE = "known_browser"
SALT = "signup.known_browsers"
MAX_AGE = 365 * 24 * 60 * 60  # seconds

Handler = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def known_browsers(get_response: Handler) -> Handler:
    """Middleware by which each browser becomes known in which somebody is logged in.

    It follows AuthenticationMiddleware. A page that does not ask who is logged in changes nothing.
    """
    if iscoroutinefunction(get_response):

        async def in_async(request: HttpRequest) -> HttpResponseBase:
            return _noted(request, await get_response(request))

        return in_async

    def in_sync(request: HttpRequest) -> HttpResponseBase:
        return _noted(request, cast("HttpResponseBase", get_response(request)))

    return in_sync


def _noted(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    user = request.user
    # A user whom nobody has loaded is not loaded here either: this may be the event loop.
    loaded = not isinstance(user, LazyObject) or "_cached_user" in vars(request)
    if not loaded or not user.is_authenticated or COOKIE in response.cookies:
        return response
    if mark_of(request, user) is None:
        remember(request, response, user)
    return response


def remember(request: HttpRequest, response: HttpResponseBase, user: User) -> None:
    """Have the browser that asked known as one of this user's, for a year from now."""
    mark = mark_of(request, user) or _new_mark(request)
    response.set_signed_cookie(
        COOKIE,
        f"{mark} {user.pk} {_digest(user.get_session_auth_hash())}",
        salt=SALT,
        max_age=MAX_AGE,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def mark_of(request: HttpRequest, user: User) -> str | None:
    """What the browser is counted by, if it is known as one of this user's."""
    cookie = request.get_signed_cookie(COOKIE, "", salt=SALT, max_age=MAX_AGE) or ""
    mark, _, owner = cookie.partition(" ")
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return mark if owner in [f"{user.pk} {_digest(each)}" for each in hashes] else None


def _new_mark(request: HttpRequest) -> str:
    # One for each session. Otherwise whoever finds a browser that was left logged in could delete
    # the cookie again and again, and guess the password by a new mark each time.
    session = request.session.session_key
    if not session:
        return secrets.token_hex(16)
    return salted_hmac(SALT, session, algorithm="sha256").hexdigest()[:32]


def _digest(session_hash: str) -> str:
    """What changes with the password. The cookie does not show the hash of the session itself."""
    return hashlib.sha256(f"{SALT} {session_hash}".encode()).hexdigest()[:16]
