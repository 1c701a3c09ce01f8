"""Others who ask the same server for a small page, while somebody does slow work there.

Twenty of them, unless the settings say another number, ask at the same moment, four times a second.
During a run they do so whether or not the last answers have come: a server that stalls for a second
is asked eighty times meanwhile, and each of these waits is counted. If each of the twenty waited
for an answer before asking again, a stall would be counted twenty times only, however long it is
("coordinated omission", described by Gil Tene).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import NamedTuple

import httpx
from django.conf import settings

from lab.stage.asking import Asker, Failed

AT_A_TIME: int = settings.LAB_OTHERS
EVERY = 0.25  # seconds
# So many connections may wait. A request more is not sent, and has failed.
MOST_WAITING = 400
PATIENCE = 60.0  # seconds
# Seconds of which what was seen is kept: a run and the time before it.
KEPT = 90.0


class Seen(NamedTuple):
    """One request: when it was sent (seconds of the epoch), and after how long it was answered."""

    at: float
    ms: float
    server: str


class Asked(NamedTuple):
    """A request that has no answer yet: when it was sent, in seconds of the epoch, and to whom."""

    at: float
    server: str


class Others:
    """They ask one server or several, and what they see is kept for a while.

    Args:
        servers: their names and addresses.
        page: the path of the small page.
        headers: sent with each request.
    """

    def __init__(self, servers: dict[str, str], page: str, headers: dict[str, str]) -> None:
        self.servers = servers
        self._askers = {
            server: Asker(url + page, headers, most_idle=AT_A_TIME)
            for server, url in servers.items()
        }
        self.seen: deque[Seen] = deque()
        self.failed: deque[Seen] = deque()
        self._waiting: dict[asyncio.Task[None], Asked] = {}
        self._headers = headers

    def ask(self, server: str) -> None:
        """Let all of them ask a server, now."""
        now = time.time()
        for _ in range(AT_A_TIME):
            if len(self._waiting) < MOST_WAITING:
                task = asyncio.create_task(self._ask(server))
                self._waiting[task] = Asked(now, server)
                task.add_done_callback(self._waiting.pop)
            else:
                self.failed.append(Seen(now, 0.0, server))
        self._forget(now - KEPT)

    async def post(self, server: str, path: str, ticket: str, many: int) -> list[float]:
        """Let companions ask for a way, all at once; returns their milliseconds."""
        address = self.servers[server] + path
        async with httpx.AsyncClient(
            headers=self._headers, timeout=PATIENCE, trust_env=False
        ) as client:

            async def one() -> float:
                begin = time.perf_counter()
                answer = await client.post(address, data={"ticket": ticket})
                answer.raise_for_status()
                return (time.perf_counter() - begin) * 1000

            return list(await asyncio.gather(*(one() for _ in range(many))))

    def answered_until(self, moment: float, server: str) -> bool:
        """Whether all have their answers who asked before that moment, in seconds of the epoch."""
        return not any(
            asked.server == server and asked.at <= moment for asked in self._waiting.values()
        )

    def all_answered(self) -> bool:
        """Whether nobody waits for an answer, of whichever server."""
        return not self._waiting

    async def _ask(self, server: str) -> None:
        at, begin = time.time(), time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._askers[server].ask()
            found = self.seen
        except (Failed, TimeoutError):
            found = self.failed
        found.append(Seen(at, (time.perf_counter() - begin) * 1000, server))

    def _forget(self, before: float) -> None:
        for kept in (self.seen, self.failed):
            while kept and kept[0].at < before:
                kept.popleft()

    def close(self) -> None:
        for task in self._waiting:
            task.cancel()
        for asker in self._askers.values():
            asker.close()
