"""Lets a process handle a number of requests at a time; others wait in line.

Django runs each request in a thread of its own, which opens a database connection of its own. So
without a bound, a crowd would get as many threads and connections as it sends requests.
"""

from __future__ import annotations

import asyncio

from config.body_limit import App, Message, Receive, Refusal, Scope, Send, refuse

SAFE = {"GET", "HEAD", "OPTIONS"}
HEALTH = "/healthz"
HEALTH_AT_ONCE = 2

TOO_BUSY = Refusal(
    503,
    "Too many visitors come at this moment",
    "Go back and try again in a minute.",
    retry_after=60,
)


class InTurn:
    """ASGI middleware that passes on ``at_once`` requests that read, and as many that write.

    Those that write (POST) may wait long for a hash or a decoder, and those that read for a locked
    table. So they have lines of their own, and no page waits behind a form. Nor do static files,
    and the health check of a load balancer, wait behind either: these have lines of their own too.

    A request takes its turn when its body is complete, so that a slow sender keeps no place, and
    leaves it when its answer begins, so that a slow reader keeps none either.

    Args:
        at_once: requests in each line, but of the health check.
        static: the path below which static files are.
        patience: seconds to wait in line. Then the request is refused with 503.
    """

    def __init__(
        self, app: App, *, at_once: int, static: str = "/static/", patience: float = 20
    ) -> None:
        self.app = app
        self.static = static
        self.patience = patience
        self._reading = asyncio.Semaphore(at_once)
        self._writing = asyncio.Semaphore(at_once)
        self._files = asyncio.Semaphore(at_once)
        self._health = asyncio.Semaphore(HEALTH_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        turn = Turn(self._line(scope), self.patience, receive, send)
        try:
            await self.app(scope, turn.wait_after_body, turn.leave_and_send)
        finally:
            turn.leave()
        if turn.refused:
            # Django stops at a disconnect while it reads a body, and sends no answer.
            await refuse(TOO_BUSY, send)

    def _line(self, scope: Scope) -> asyncio.Semaphore:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["method"] not in SAFE:
            return self._writing
        if path == HEALTH:
            return self._health
        return self._files if path.startswith(self.static) else self._reading


class Turn:
    """One request's place in its line: what its application receives and sends."""

    def __init__(
        self, line: asyncio.Semaphore, patience: float, receive: Receive, send: Send
    ) -> None:
        self._line = line
        self._patience = patience
        self._receive = receive
        self._send = send
        self._has_turn = False
        self._complete = False
        self.refused = False

    async def wait_after_body(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or message.get("more_body", False) or self._complete:
            return message
        self._complete = True
        try:
            async with asyncio.timeout(self._patience):
                await self._line.acquire()
        except TimeoutError:
            self.refused = True
            return {"type": "http.disconnect"}
        self._has_turn = True
        return message

    def leave(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._line.release()

    async def leave_and_send(self, message: Message) -> None:
        self.leave()
        await self._send(message)
