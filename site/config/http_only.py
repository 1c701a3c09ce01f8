"""Refuses what is no HTTP request in a word, where Django would raise an exception."""

from __future__ import annotations

from config.body_limit import App, Receive, Scope, Send


class HttpOnly:
    """ASGI middleware that passes HTTP on, and closes websockets before they are accepted.

    The visitor is answered 403 then. What else a server may ask, such as the lifespan protocol, is
    passed on: an exception is the answer that the specification has for "not supported".
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()  # the client's wish to connect
            await send({"type": "websocket.close", "code": 1000})
        else:
            await self.app(scope, receive, send)
