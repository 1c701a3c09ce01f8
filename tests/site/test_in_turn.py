from __future__ import annotations

import asyncio
from typing import Any

from config.in_turn import InTurn


class Crowd:
    """An application whose requests wait until they are let go, behind the middleware."""

    def __init__(self, at_once: int = 1) -> None:
        self.inside: list[str] = []
        self.let_go = asyncio.Event()
        self.app = InTurn(self.handle, at_once=at_once)

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.disconnect":
            return
        self.inside.append(scope["path"])
        await self.let_go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def request(self, path: str, method: str = "GET") -> asyncio.Task[None]:
        """Send a whole request, and go on when all that can be done for it was done."""
        messages = asyncio.Queue[Any]()
        messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        return await self.begin(path, method, messages)

    async def begin(
        self, path: str, method: str, messages: asyncio.Queue[Any], send: Any = None
    ) -> asyncio.Task[None]:
        async def ignore(message: Any) -> None:
            pass

        scope = {"type": "http", "method": method, "path": path}
        task = asyncio.create_task(self.app(scope, messages.get, send or ignore))
        await self.settle()
        return task

    async def settle(self) -> None:
        for _ in range(20):  # passes of the event loop, in which nothing takes time
            await asyncio.sleep(0)


def test_so_many_are_handled_at_a_time_and_the_others_wait_for_theirs() -> None:
    async def scenario() -> None:
        crowd = Crowd(at_once=2)
        tasks = [await crowd.request(f"/{number}") for number in range(5)]
        assert crowd.inside == ["/0", "/1"]
        crowd.let_go.set()
        await asyncio.gather(*tasks)
        assert crowd.inside == ["/0", "/1", "/2", "/3", "/4"]

    asyncio.run(scenario())


def test_pages_do_not_wait_behind_forms() -> None:
    async def scenario() -> None:
        crowd = Crowd()
        tasks = [await crowd.request(f"/login/{number}", "POST") for number in range(3)]
        tasks += [await crowd.request("/")]
        assert crowd.inside == ["/login/0", "/"]
        crowd.let_go.set()
        await asyncio.gather(*tasks)

    asyncio.run(scenario())


def test_who_sends_slowly_keeps_no_place() -> None:
    async def scenario() -> None:
        crowd = Crowd()
        messages = asyncio.Queue[Any]()
        messages.put_nowait({"type": "http.request", "body": b"a", "more_body": True})
        slow = await crowd.begin("/slow", "POST", messages)
        quick = await crowd.request("/quick", "POST")
        assert crowd.inside == ["/quick"]
        messages.put_nowait({"type": "http.disconnect"})
        await slow
        crowd.let_go.set()
        await quick

    asyncio.run(scenario())


def test_who_reads_slowly_keeps_no_place() -> None:
    async def scenario() -> None:
        crowd = Crowd()
        crowd.let_go.set()
        read = asyncio.Event()

        async def slow(message: Any) -> None:
            await read.wait()

        messages = asyncio.Queue[Any]()
        messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        reader = await crowd.begin("/slow", "GET", messages, slow)
        await (await crowd.request("/quick"))
        assert not reader.done()
        read.set()
        await reader

    asyncio.run(scenario())


def test_a_request_that_fails_leaves_its_place() -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise RuntimeError

    async def scenario() -> None:
        crowd = Crowd()
        crowd.app.app = fail
        tasks = [await crowd.request("/") for _ in range(3)]
        failures = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(failure) for failure in failures] == [RuntimeError] * 3

    asyncio.run(scenario())
