from __future__ import annotations

import asyncio
import os
import re
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from socket import create_connection
from typing import Any

import pytest

from config.asgi import application
from config.body_limit import BodyLimit, Deadline
from tests import settings
from tests.harness.process import Process

pytestmark = pytest.mark.any_database


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

    def scope(self, path: str) -> dict[str, Any]:
        return {
            "type": "http", "method": "POST", "path": path, "headers": self.headers,
            "query_string": b"", "http_version": "1.1", "scheme": "http",
            "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
        }  # fmt: skip

    def to(self, app: Any, path: str = "/signup/") -> int:
        asyncio.run(app(self.scope(path), self.receive, self.send))
        return self.status

    @property
    def status(self) -> int:
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


class Trickle(Request):
    """A request whose body arrives piece by piece, when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces = asyncio.Queue[Any]()

    def send_piece(self, body: bytes, more_body: bool = True) -> None:
        self.pieces.put_nowait({"type": "http.request", "body": body, "more_body": more_body})

    async def receive(self) -> Any:
        return await self.pieces.get()

    async def begin(self, app: Any) -> asyncio.Task[None]:
        task = asyncio.create_task(app(self.scope("/signup/"), self.receive, self.send))
        await settle()
        return task


async def settle() -> None:
    """Let everything go on that needs no more than passes of the event loop."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def scenario() -> None:
        request = Trickle()
        request.send_piece(b"1")
        await (await request.begin(BodyLimit(reads_all, max_bytes=10, patience=0.01)))
        assert request.status == 408
        assert b"took too long" in request.sent[1]["body"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("pieces", "given_up_at"),
    [
        ([], 30),
        ([(second, 1000) for second in range(600)], 629),  # for ever, if it goes on
        ([(second, 500) for second in range(600)], 59),
        ([(second, 1) for second in range(600)], 30),
        ([(1, 20_000_000)], 31),
        ([(1, 20_000_000), *((second, 1) for second in range(2, 600))], 31),
        ([(29, 20_000), (48, 20_000)], 70),
    ],
)
def test_a_body_that_arrives_steadily_has_the_time_it_needs_and_others_have_not(
    pieces: list[tuple[int, int]], given_up_at: int
) -> None:
    deadline = Deadline(now=0, patience=30, slowest=1000)
    for second, arrived in pieces:
        if second < deadline.at:
            deadline.put_off(second, arrived)
    assert round(deadline.at) == given_up_at


def test_the_largest_picture_of_a_slow_phone_has_the_time_it_needs() -> None:
    limit = application.app
    assert isinstance(limit, BodyLimit)
    deadline = Deadline(0, limit.patience, limit.slowest)
    for second in range(10 * 1024**2 // 8192):
        assert second < deadline.at
        deadline.put_off(second, 8192)
    assert deadline.at - second == 60


def test_a_request_whose_body_has_arrived_is_not_hurried() -> None:
    async def thinks(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == b"1"
        gone = asyncio.ensure_future(receive())  # as Django does while its view runs
        await settle()
        assert not gone.done()
        gone.cancel()
        await reads_all(scope, finished, send)

    async def finished() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def scenario() -> None:
        request = Trickle()
        request.send_piece(b"1", more_body=False)
        await (await request.begin(BodyLimit(thinks, max_bytes=10, patience=0)))
        assert request.status == 200

    asyncio.run(scenario())


def test_of_too_many_bodies_at_once_the_small_ones_pass() -> None:
    async def scenario() -> None:
        limited = BodyLimit(reads_all, max_bytes=100, max_held=15, small=4)
        first, second, small, third = (Trickle() for _ in range(4))
        first.send_piece(b"1234567890")
        task = await first.begin(limited)
        second.send_piece(b"1234567890")
        await (await second.begin(limited))
        assert second.status == 503
        small.send_piece(b"1234", more_body=False)
        await (await small.begin(limited))
        assert small.status == 200

        first.send_piece(b"", more_body=False)
        await task
        third.send_piece(b"1234567890", more_body=False)
        await (await third.begin(limited))
        assert (first.status, third.status) == (200, 200)

    asyncio.run(scenario())


class TestOnARealServer:
    @pytest.fixture
    def address(self, tmp_path: Path) -> Iterator[tuple[str, int]]:
        """A server of the site that has little patience."""
        env = os.environ | settings.SETTINGS_IN_ENVIRONMENT
        env |= {"DJANGO_SETTINGS_MODULE": "config.settings", "TMPDIR": str(tmp_path)}
        server = Process(
            "-m", "uvicorn", "--app-dir", "site", "tests.harness.impatient:application",
            "--port", "0", "--lifespan", "off", env=env,
        )  # fmt: skip
        try:
            [port] = re.findall(r"http://127.0.0.1:(\d+)", server.wait_for("Uvicorn running on"))
            yield "127.0.0.1", int(port)
        finally:
            server.stop()

    def test_connections_that_send_a_byte_at_a_time_are_closed(
        self, address: tuple[str, int]
    ) -> None:
        head = b"POST /signup/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n\r\n"
        with ExitStack() as stack:
            slow = [stack.enter_context(create_connection(address, 60)) for _ in range(40)]
            for connection in slow:
                connection.sendall(head + bytes(100_000))
            answers = [answer_to_trickle(connection) for connection in slow]
        assert [answer.split(b"\r\n")[0] for answer in answers] == [
            b"HTTP/1.1 408 Request Timeout"
        ] * len(slow)


def answer_to_trickle(connection: socket.socket) -> bytes:
    """Send a byte whenever a moment has passed without an answer; returns what came in the end."""
    for _ in range(3_000):
        if select.select([connection], [], [], 0.01)[0]:
            break
        with suppress(ConnectionError):  # it has closed in this very moment
            connection.send(b"x")
    else:
        raise AssertionError("the server goes on to wait for the rest of the body")
    answer = b""
    try:
        while piece := connection.recv(65_536):
            answer += piece
    except ConnectionResetError:  # the server closed while our last byte was on its way
        pass
    return answer
