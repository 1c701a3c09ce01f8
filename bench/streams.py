"""How much does a web process need for a thousand event streams, and how late is an event?

    .venv/bin/python bench/streams.py                                # on SQLite
    TEST_DATABASE=postgresql .venv/bin/python bench/streams.py       # on PostgreSQL

A real web server of one process and a real worker. A thousand clients, each with a connection of
its own, watch a thousand tasks. Then the tasks end: ten one after the other, and the rest at once.
The time is that from the end of a task's run to the arrival of its event.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "site")]

from tests.harness import preloaded  # noqa: E402
from tests.harness.site import LiveSite  # noqa: E402

# A forked process imports this file first, and with it the settings of another database.
preloaded.CAN_FORK = False

ENQUEUE = """
import json
from bgtasks.watch import watch_url
from signup.tasks import discard_files
rows = [discard_files([], schedule=3600) for _ in range({count})]
print(json.dumps([[row.pk, watch_url(row)] for row in rows]))
"""
RUN = """
from bgtasks.queue import acting
size = acting.batch()
for start in range(0, len(ids), size):
    acting.run_now(ids[start:start + size])
"""
ENDS = """
import json
from bgtasks.models import Outcome
print(json.dumps({o.task_id: o.finished_at.timestamp() for o in Outcome.objects.all()}))
"""
SINGLE = 10


class Client:
    """One event stream."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.ended_at = 0.0

    async def open(self, host: str, port: int, cookie: str) -> None:
        self._reader, self._writer = await asyncio.open_connection(host, port)
        self._writer.write(
            f"GET {self.path} HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookie}\r\n"
            "Accept: text/event-stream\r\n\r\n".encode()
        )
        answer = await self._reader.readuntil(b'"state"')
        assert b" 200 " in answer.splitlines()[0], answer
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while b'"ended": true' not in await self._reader.readline():
            pass
        self.ended_at = time.time()
        self._writer.close()


def usage(pid: int) -> tuple[int, int, float]:
    """Memory (MB), threads, and seconds of processor time of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.M))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(found["VmRSS"]) // 1024, int(found["Threads"]), sum(map(int, fields[11:13])) / 100


def told(what: str, pid: int) -> None:
    memory, threads, _ = usage(pid)
    print(f"| {what} | {memory} MB | {threads} threads |", flush=True)


async def measure(site: LiveSite, count: int, cookie: str) -> None:
    url = urlsplit(site.url)
    tasks = json.loads(site.shell(ENQUEUE.format(count=count)).splitlines()[-1])
    clients = {pk: Client(path) for pk, path in tasks}
    told("no stream", site.web.pid)
    began = time.monotonic()
    opening = asyncio.Semaphore(20)

    async def open_one(client: Client) -> None:
        async with opening:
            await client.open(str(url.hostname), int(url.port or 80), cookie)

    await asyncio.gather(*(open_one(client) for client in clients.values()))
    told(f"{count} streams, open after {time.monotonic() - began:.1f} s", site.web.pid)
    before = usage(site.web.pid)[2]
    await asyncio.sleep(10)
    share = (usage(site.web.pid)[2] - before) / 10
    told(f"after 10 s in which nothing changed, with {share:.0%} of a processor", site.web.pid)
    ids = list(clients)
    for pk in ids[:SINGLE]:
        await run(site, [pk], clients)
    await run(site, ids[SINGLE:], clients)
    told("after all have ended", site.web.pid)
    ends = {int(pk): end for pk, end in json.loads(site.shell(ENDS).splitlines()[-1]).items()}
    for what, some in (("one at a time", ids[:SINGLE]), ("all at once", ids[SINGLE:])):
        late = sorted(clients[pk].ended_at - ends[pk] for pk in some)
        print(
            f"| {what}: {len(late)} endings, from the end to the event | median "
            f"{statistics.median(late) * 1000:.0f} ms | longest {late[-1] * 1000:.0f} ms |"
        )


async def run(site: LiveSite, ids: list[int], clients: dict[int, Client]) -> None:
    await asyncio.to_thread(site.shell, f"ids = {ids}\n{RUN}")
    async with asyncio.timeout(60):
        await asyncio.gather(*(clients[pk].reading for pk in ids))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=1000)
    count = parser.parse_args().streams
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * count + 200)), hard))
    with tempfile.TemporaryDirectory() as folder:
        site = LiveSite(Path(folder))
        try:
            site.start()
            site.staff("boss")
            visitor = site.visitor()
            visitor.log_in("boss")
            cookie = f"sessionid={visitor.cookies['sessionid']}"
            asyncio.run(measure(site, count, cookie))
        finally:
            site.stop()


if __name__ == "__main__":
    main()
