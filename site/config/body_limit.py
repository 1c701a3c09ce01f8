"""Refuses request bodies that no form of this site could need, or that take too long to arrive.

Django's ASGI handler spools a whole body to disk before a view or an upload handler
sees any of it. So without limits one request can fill the disk, or a few dozen that send their
bodies a byte at a time can hold a gigabyte of it for as long as they like.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<h1>{title}</h1>
<p>Nothing was saved. {advice}</p>
<p><a href="/">To the start page</a></p>
</html>
"""


class Refusal(NamedTuple):
    """An answer to a request that is not taken.

    Attributes:
        status: of HTTP.
        title, advice: texts for the visitor.
        retry_after: seconds; 0 if it would not help to wait.
    """

    status: int
    title: str
    advice: str
    retry_after: int = 0


TOO_LARGE = Refusal(
    413,
    "This upload is far too large",
    "Go back and choose a smaller file; the form says how large it may be.",
)
TOO_SLOW = Refusal(
    408,
    "This upload took too long",
    "Go back and try again, with a smaller file or a better connection.",
)
TOO_MANY = Refusal(
    503,
    "Too many uploads arrive at this moment",
    "Go back and try again in a minute.",
    retry_after=60,
)


class Deadline:
    """When a body that arrives too slowly is given up.

    It has some seconds, and earns one more with so many bytes, but never gets further ahead than it
    was at the start: a fast beginning does not earn time in which to send nothing.

    Args:
        now: seconds, by any clock.
        patience: seconds.
        slowest: bytes a second that are enough for ever.
    """

    def __init__(self, now: float, patience: float, slowest: float) -> None:
        self.patience = patience
        self.slowest = slowest
        self.at = now + patience

    def put_off(self, now: float, arrived: int) -> None:
        """Count bytes that have arrived."""
        self.at = min(self.at + arrived / self.slowest, now + self.patience)


class BodyLimit:
    """ASGI middleware that does not take a body which is too large, too slow, or one too many.

    If ``Content-Length`` says that it is too large, the request is refused before anything is read.
    A body whose length is not announced is counted as it arrives, and cut off.

    Args:
        max_bytes: of one body. Refused with 413.
        patience, slowest: seconds, and bytes a second; see `Deadline`. Refused with 408.
        max_held: bytes of all bodies that arrive or are handled in this process. If there are
            more, those of over ``small`` bytes are refused with 503.
        small: bytes. Every form but those with files is smaller.
    """

    def __init__(
        self,
        app: App,
        *,
        max_bytes: int,
        patience: float = 60,
        slowest: float = 8 * 1024,
        max_held: int = 256 * 1024**2,
        small: int = 64 * 1024,
    ) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.patience = patience
        self.slowest = slowest
        self.max_held = max_held
        self.small = small
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif announced_length(scope) > self.max_bytes:
            await refuse(TOO_LARGE, send)
        else:
            await self._watch(scope, receive, send)

    async def _watch(self, scope: Scope, receive: Receive, send: Send) -> None:
        clock = asyncio.get_running_loop().time
        deadline = Deadline(clock(), self.patience, self.slowest)
        received, complete = 0, False
        refusal: Refusal | None = None

        async def watched() -> Message:
            nonlocal received, complete, refusal
            if complete:  # the application waits for the client to go away
                return await receive()
            try:
                async with asyncio.timeout_at(deadline.at):
                    message = await receive()
            except TimeoutError:
                refusal = TOO_SLOW
                return {"type": "http.disconnect"}
            complete = not message.get("more_body", False)
            arrived = len(message.get("body", b""))
            deadline.put_off(clock(), arrived)
            received += arrived
            self._held += arrived
            refusal = self._refusal(received)
            return {"type": "http.disconnect"} if refusal else message

        try:
            await self.app(scope, watched, send)
        finally:
            self._held -= received
        if refusal:
            # Django stops at a disconnect while it reads a body, and sends no answer.
            await refuse(refusal, send)

    def _refusal(self, received: int) -> Refusal | None:
        """Why a body of which so many bytes have arrived is not taken; None if it is."""
        if received > self.max_bytes:
            return TOO_LARGE
        return TOO_MANY if received > self.small and self._held > self.max_held else None


async def refuse(refusal: Refusal, send: Send) -> None:
    body = PAGE.format(title=refusal.title, advice=refusal.advice).encode()
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if refusal.retry_after:
        headers.append((b"retry-after", str(refusal.retry_after).encode()))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def announced_length(scope: Scope) -> int:
    """The request's ``Content-Length`` in bytes; 0 if it has none or no number."""
    value = dict(scope["headers"]).get(b"content-length", b"0")
    return int(value) if value.isdigit() else 0
