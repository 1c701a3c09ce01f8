from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from config.asgi import application
from config.body_limit import BodyLimit


class Request:
    """One ASGI request: what the client sends, and what it gets."""

    def __init__(self, *chunks: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.headers = headers or []
        self.messages = self._messages(chunks)
        self.sent: list[Any] = []
        self.read = 0

    def _messages(self, chunks: tuple[bytes, ...]) -> Iterator[dict[str, Any]]:
        for number, chunk in enumerate(chunks, start=1):
            yield {"type": "http.request", "body": chunk, "more_body": number < len(chunks)}

    async def receive(self) -> dict[str, Any]:
        message = next(self.messages, {"type": "http.disconnect"})
        self.read += len(message.get("body", b""))
        return message

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def to(self, app: Any, path: str = "/signup/") -> int:
        scope = {
            "type": "http", "method": "POST", "path": path, "headers": self.headers,
            "query_string": b"", "http_version": "1.1", "scheme": "http",
            "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
        }  # fmt: skip
        asyncio.run(app(scope, self.receive, self.send))
        return int(self.sent[0]["status"])


async def reads_all(scope: Any, receive: Any, send: Any) -> None:
    while (message := await receive())["type"] == "http.request":
        if not message["more_body"]:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok"})
            return


LIMITED = BodyLimit(reads_all, max_bytes=10)


def test_a_body_within_the_limit_passes() -> None:
    assert Request(b"12345", b"67890").to(LIMITED) == 200


def test_an_announced_body_is_refused_before_it_is_read() -> None:
    request = Request(b"x" * 11, headers=[(b"content-length", b"11")])
    assert request.to(LIMITED) == 413
    assert request.read == 0


def test_an_unannounced_body_is_cut_off_at_the_limit() -> None:
    request = Request(*[b"12345"] * 100)
    assert request.to(LIMITED) == 413
    assert request.read == 15


def test_the_site_refuses_a_body_that_would_fill_its_disk() -> None:
    chunks = [bytes(1024**2)] * 100
    headers = [(b"host", b"testserver"), (b"content-type", b"multipart/form-data; boundary=x")]
    request = Request(*chunks, headers=headers)
    assert request.to(application) == 413
    assert request.read <= 26 * 1024**2
    assert b"far too large" in request.sent[1]["body"]
