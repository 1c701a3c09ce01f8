"""Keeps the pages of somebody who is logged in out of every cache, also the browser's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import cast

from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import add_never_cache_headers
from django.utils.decorators import sync_and_async_middleware

Handler = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def private_pages(get_response: Handler) -> Handler:
    """Middleware that forbids to store what a user sees, unless the view says otherwise.

    So the "Back" of a browser shows no account after the logout, and no proxy keeps a report.
    """
    if iscoroutinefunction(get_response):

        async def in_async(request: HttpRequest) -> HttpResponseBase:
            return _private(request, await get_response(request))

        return in_async

    def in_sync(request: HttpRequest) -> HttpResponseBase:
        return _private(request, cast("HttpResponseBase", get_response(request)))

    return in_sync


def _private(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    # A session that nobody has read is not read here either: the response does not depend on it.
    # Nor is one whose reading has failed: this may be the event loop, which must not read.
    session = request.session
    used = session.accessed and "_session_cache" in vars(session) and SESSION_KEY in session
    if used and not response.has_header("Cache-Control"):
        add_never_cache_headers(response)
    return response
