"""Refuses request bodies that no form of this site could need.

Django's ASGI handler spools a whole body to disk before a view or an upload handler
sees any of it, so without a limit one request can fill the disk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

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
<title>This upload is far too large</title>
<h1>This upload is far too large</h1>
<p>Nothing was saved. Go back and choose a smaller file; the form says how large it may be.</p>
<p><a href="/">To the start page</a></p>
</html>
"""


class BodyLimit:
    """ASGI middleware that answers 413 to a request whose body exceeds ``max_bytes``.

    If ``Content-Length`` says so, the request is refused before anything is read. A body whose
    length is not announced is counted as it arrives, and cut off.
    """

    def __init__(self, app: App, *, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif announced_length(scope) > self.max_bytes:
            await self.refuse(send)
        else:
            await self.count(scope, receive, send)

    async def count(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0
        cut_off = False

        async def counted() -> Message:
            nonlocal received, cut_off
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                cut_off = True
                return {"type": "http.disconnect"}
            return message

        await self.app(scope, counted, send)
        if cut_off:
            # Django stops at a disconnect while it reads a body, and sends no answer.
            await self.refuse(send)

    async def refuse(self, send: Send) -> None:
        body = PAGE.encode()
        headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def announced_length(scope: Scope) -> int:
    """The request's ``Content-Length`` in bytes; 0 if it has none or no number."""
    value = dict(scope["headers"]).get(b"content-length", b"0")
    return int(value) if value.isdigit() else 0
