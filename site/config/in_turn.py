"""Lets a process handle a number of requests at a time; others wait in line.

Django runs each request in a thread of its own, which opens a database connection of its own. So
without a bound, a crowd would get as many threads and connections as it sends requests.
"""

from __future__ import annotations

import asyncio

from config.body_limit import App, Message, Receive, Scope, Send

SAFE = {"GET", "HEAD", "OPTIONS"}


class InTurn:
    """ASGI middleware that passes on ``at_once`` requests that read, and as many that write.

    Those that write (POST) may wait long for a hash or a decoder. They have a line of their own, so
    that no page waits behind them.

    A request takes its turn when its body is complete, so that a slow sender keeps no place, and
    leaves it when its answer begins, so that a slow reader keeps none either.
    """

    def __init__(self, app: App, *, at_once: int) -> None:
        self.app = app
        self._reading = asyncio.Semaphore(at_once)
        self._writing = asyncio.Semaphore(at_once)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        turns = self._reading if scope["method"] in SAFE else self._writing
        has_turn = False

        async def wait_after_body() -> Message:
            nonlocal has_turn
            message = await receive()
            complete = message["type"] == "http.request" and not message.get("more_body", False)
            if complete and not has_turn:
                await turns.acquire()
                has_turn = True
            return message

        def leave() -> None:
            nonlocal has_turn
            if has_turn:
                has_turn = False
                turns.release()

        async def leave_and_send(message: Message) -> None:
            leave()
            await send(message)

        try:
            await self.app(scope, wait_after_body, leave_and_send)
        finally:
            leave()
