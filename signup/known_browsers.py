"""Cookies by which the throttle tells an account's owner from a stranger who tries its name.

The attempts to log in are counted for each name, wherever they come from. With that count alone, a
stranger could shut out an account's owner by trying. So a browser that has logged in once gets a
cookie, and its attempts at that name are counted apart. The cookie lets nobody in.
"""

from __future__ import annotations

import secrets
import unicodedata

from django.conf import settings
from django.core.signing import BadSignature
from django.http import HttpRequest, HttpResponseBase

from signup.models import User

COOKIE = "known_browser"
SALT = "signup.known_browsers"
MAX_AGE = 365 * 24 * 60 * 60  # seconds


def remember(request: HttpRequest, response: HttpResponseBase, user: User) -> None:
    """Have the browser that asked known as one of this user's."""
    name = normalized(user.get_username())
    mark = mark_of(request, name) or secrets.token_urlsafe(16)
    response.set_signed_cookie(
        COOKIE,
        f"{mark} {name}",
        salt=SALT,
        max_age=MAX_AGE,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def mark_of(request: HttpRequest, name: str) -> str | None:
    """What the browser is counted by, if it is known as one of the user with this name."""
    try:
        cookie = request.get_signed_cookie(COOKIE, "", salt=SALT, max_age=MAX_AGE)
    except BadSignature:
        return None
    mark, _, owner = (cookie or "").partition(" ")
    return mark if mark and owner == name else None


def normalized(name: str) -> str:
    """A name as the login compares it: in lower case, and as one of several ways to write it."""
    return unicodedata.normalize("NFKC", name.strip()).lower()
