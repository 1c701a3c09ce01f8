"""Who may enter the lab, and what a request must have with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase

SALT = "lab"
# Seconds for which a page that was opened can start runs.
TICKET_AGE = 60 * 60
# A ticket and the field names around it; nothing else is taken.
MAX_BYTES = 4096

View = Callable[..., HttpResponseBase]


class Ticket(NamedTuple):
    """Proof that the lab has let somebody in, signed.

    The lab's WSGI server has another origin than the page, so Django's CSRF protection would refuse
    the page's forms there. The page gives tickets to those who may read it, and the lab's own
    process gives one to the companions.

    Attributes:
        visit: the text that names one load of the page; "" for a companion.
        origin: of the page, in which the answer is shown.
    """

    visit: str
    origin: str

    def signed(self) -> str:
        return signing.dumps(list(self), salt=SALT)


def read_ticket(text: str, max_age: int | None) -> Ticket:
    """Read what `Ticket.signed` has written.

    Args:
        max_age: seconds since then; None for any.

    Raises:
        PermissionDenied: it was not written here, or is too old.
    """
    try:
        return Ticket(*signing.loads(text, salt=SALT, max_age=max_age))
    except signing.BadSignature:  # one that has expired, too
        raise PermissionDenied(
            "This page of the lab is too old, or not from here. Load the lab again."
        ) from None


def lab_only(view: View) -> View:
    """Let only those in who may see the lab: everybody in development, otherwise staff."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not settings.DEBUG and not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        if not settings.DEBUG and not getattr(request.user, "is_staff", False):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return guarded


def too_large(request: HttpRequest, most: int) -> bool:
    """Whether a body has more bytes than that, or does not say how many it has."""
    return int(request.META.get("CONTENT_LENGTH") or most + 1) > most


def is_loopback(url: str) -> bool:
    """Whether an address names this machine, by a name that cannot name another."""
    return urlsplit(url).hostname in {"127.0.0.1", "localhost", "::1"}
