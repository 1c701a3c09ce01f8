from __future__ import annotations

import asyncio
from typing import Any

import pytest

from config.in_turn import InTurn

pytestmark = pytest.mark.any_database


class Crowd:
    """An application whose requests wait until they are let go, behind the middleware."""

    def __init__(self, at_once: int = 1, root_path: str = "", **options: Any) -> None:
        self.inside: list[str] = []
        self.let_go = asyncio.Event()
        self.root_path = root_path
        self.app = InTurn(self.handle, at_once=at_once, **options)

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

        scope = {"type": "http", "method": method, "path": path, "root_path": self.root_path}
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


@pytest.mark.parametrize("path", ["/healthz", "/static/site.css"])
@pytest.mark.parametrize("root_path", ["", "/below"])
def test_the_health_check_and_static_files_wait_behind_no_page(path: str, root_path: str) -> None:
    async def scenario() -> None:
        crowd = Crowd(root_path=root_path)
        tasks = [await crowd.request(f"{root_path}/{number}") for number in range(3)]
        tasks += [await crowd.request(root_path + path)]
        assert crowd.inside == [f"{root_path}/0", root_path + path]
        crowd.let_go.set()
        await asyncio.gather(*tasks)

    asyncio.run(scenario())


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_has_waited_too_long_is_asked_to_come_back(method: str) -> None:
    async def scenario() -> None:
        sent: list[Any] = []

        async def keep(message: Any) -> None:
            sent.append(message)

        crowd = Crowd(patience=0.01)
        first = await crowd.request("/first", method)
        messages = asyncio.Queue[Any]()
        messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        await (await crowd.begin("/second", method, messages, keep))
        assert crowd.inside == ["/first"]
        assert sent[0]["status"] == 503
        assert (b"retry-after", b"60") in sent[0]["headers"]
        assert b"try again in a minute" in sent[1]["body"]
        crowd.let_go.set()
        await first
        await (await crowd.request("/third", method))
        assert crowd.inside == ["/first", "/third"]

    asyncio.run(scenario())


def test_what_is_no_request_is_passed_on() -> None:
    async def scenario() -> None:
        seen: list[Any] = []

        async def note(scope: Any, receive: Any, send: Any) -> None:
            seen.append((scope["type"], receive, send))

        async def nothing(*_: Any) -> Any:
            pass

        await InTurn(note, at_once=1)({"type": "lifespan"}, nothing, nothing)
        assert seen == [("lifespan", nothing, nothing)]

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
