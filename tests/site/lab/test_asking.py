"""The client of the others: it keeps its connections, and notices what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from lab.stage.asking import Asker, Failed

pytestmark = pytest.mark.any_database

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nlab"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nlab"


class Server:
    """Answers every request with the next of its replies; an empty one closes the connection."""

    def __init__(self, replies: list[bytes]) -> None:
        self.replies = replies
        self.connections = 0
        self.requests: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while self.replies:
            try:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            except EOFError:
                break
            if not (reply := self.replies.pop(0)):
                break
            writer.write(reply)
        writer.close()


@asynccontextmanager
async def served(*replies: bytes, most_idle: int = 5) -> AsyncIterator[tuple[Asker, Server]]:
    server = Server(list(replies))
    async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        asker = Asker(f"http://127.0.0.1:{port}/light/", {"X-Forwarded-Proto": "https"}, most_idle)
        try:
            yield asker, server
        finally:
            asker.close()


def in_a_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def bounded() -> None:
            async with asyncio.timeout(30):
                await test()

        asyncio.run(bounded())

    run.__name__ = test.__name__
    return run


@in_a_loop
async def test_one_connection_serves_one_request_after_the_other() -> None:
    async with served(OK, OK, OK) as (asker, server):
        for _ in range(3):
            await asker.ask()
    assert server.connections == 1
    assert server.requests[0].startswith(b"GET /light/ HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nX-Forwarded-Proto: https\r\n" in server.requests[0]


@in_a_loop
async def test_a_connection_that_the_server_ends_is_replaced() -> None:
    async with served(LAST, OK) as (asker, server):
        await asker.ask()
        await asker.ask()
    assert server.connections == 2


@in_a_loop
async def test_no_more_connections_stay_open_than_are_needed() -> None:
    async with served(OK, OK, most_idle=0) as (asker, server):
        await asker.ask()
        await asker.ask()
    assert server.connections == 2


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\nlab",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"",
        b"\r\n\r\n",
    ],
    ids=["error", "no length", "closed", "no HTTP"],
)
def test_no_answer_is_a_failure(reply: bytes) -> None:
    @in_a_loop
    async def test() -> None:
        async with served(reply) as (asker, _):
            with pytest.raises(Failed):
                await asker.ask()

    test()


@in_a_loop
async def test_nobody_who_listens_is_a_failure() -> None:
    async with served() as (asker, _):
        pass
    with pytest.raises(Failed):
        await asker.ask()
