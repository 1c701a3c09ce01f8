"""Tasks under load while one kind of thing goes wrong, and what must be true afterwards.

    python -m tests.chaos.chaos --seconds 60             # all cells
    python -m tests.chaos.chaos --only freeze --seed 7
    python -m tests.chaos.chaos --soak --seconds 1800    # all of it at random

With ``--write``, the results are written into docs/operating/reliability.md.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.chaos.arena import FAKETIME, SETTINGS, Arena
from tests.chaos.cells import CELLS, ENGINES, Cell, Soak
from tests.chaos.checks import Books
from tests.harness import needs
from tests.harness.databases import Database
from tests.harness.deployment import Deployment
from tests.harness.fleets import Fleet, need
from tests.harness.forwarder import Forwarder
from tests.harness.private_broker import private_broker
from tests.harness.private_postgresql import PrivateDatabase, private_postgresql

PAGE = Path(__file__).parents[2] / "docs" / "operating" / "reliability.md"
HEAD = (
    "| what went wrong | to what | faults | tasks | runs more | failed "
    "| recovery: median, longest |",
    "|---|---|---:|---:|---:|---:|---|",
)
NAMES = {
    "builtin": "our workers",
    "celery-rabbitmq": "Celery on RabbitMQ",
    "celery-redis": "Celery on Redis",
}
BEGIN, END = "<!-- chaos: begin -->\n", "<!-- chaos: end -->\n"


@dataclass(frozen=True)
class Result:
    """What came of one run."""

    cell: Cell
    engine: str
    database: str
    strikes: int
    tasks: int
    again: int
    failed: int
    recoveries: list[float]
    seconds: float

    def __str__(self) -> str:
        median, longest = statistics.median(self.recoveries), max(self.recoveries)
        place = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}[self.database]
        by = NAMES[self.engine]
        long = f", for {self.seconds / 60:.0f} minutes" if self.cell.name == "soak" else ""
        return (
            f"| {self.cell.title}{long} | {by}, {place} | {self.strikes} | {self.tasks:,} | "
            f"{self.again:,} | {self.failed} | {median:.1f} s, {longest:.1f} s |"
        )


def run(
    cell: Cell, engine: str, database: str, folder: Path, seed: int, seconds: float = 0.0
) -> Result:  # fmt: skip
    """Strike for so long, and at least `Cell.least` times, while tasks keep coming; then check."""
    with ExitStack() as stack:
        arena = stack.enter_context(_arena(cell, engine, database, folder, seed, bool(seconds)))
        cell.prepare(arena, stack)
        arena.start_all()
        arena.load()
        ends_at = time.monotonic() + seconds
        while arena.strikes < cell.least or time.monotonic() < ends_at:
            cell.strike(arena)
            arena.strikes += 1
            arena.recovered()
            time.sleep(cell.rest)
        arena.finish()
        cell.check(arena)
        books = Books(arena.project, set(arena.keys.read_text().split()))
        books.check()
        again = sum(books.again.values())
        return Result(
            cell, engine, database, arena.strikes, books.tasks, again, books.failed,
            arena.recoveries, seconds,
        )  # fmt: skip


@contextmanager
def _arena(
    cell: Cell, engine: str, database: str, folder: Path, seed: int, long: bool
) -> Iterator[Arena]:
    with ExitStack() as stack:
        place: Any
        server = None
        if database == "postgresql":
            server = stack.enter_context(private_postgresql())
            place = PrivateDatabase(server)
        else:
            place = Database(stack.enter_context(_small_disk(folder)) if _fills(cell) else folder)
        project = Deployment(folder, place, **SETTINGS)
        stack.callback(project.close)
        migrated = project.manage("migrate", "--verbosity", "0")
        assert migrated.returncode == 0, migrated.stderr
        broker, url = None, ""
        broker_server = None
        if engine != "builtin":
            kind = engine.partition("-")[2]
            if cell.restarts_broker:
                broker_server = stack.enter_context(private_broker(kind))
            broker, url = _through(broker_server.url if broker_server else need(kind))
        yield Arena(Fleet(project, engine, url), seed, server, broker, broker_server, long)


def _fills(cell: Cell) -> bool:
    return cell.name in ("disk", "soak")


def _through(url: str) -> tuple[Forwarder, str]:
    """A way to a broker that can be cut, and the URL of that."""
    parts = urlsplit(url)
    forwarder = Forwarder(parts.port or 0)
    user = parts.netloc.rpartition("@")[0]
    place = f"127.0.0.1:{forwarder.port}"
    return forwarder, parts._replace(netloc=f"{user}@{place}" if user else place).geturl()


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 32 MB."""
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        needs.missing(f"a disk of its own ({mounted.stderr.strip()})")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def combinations(cells: Iterable[Cell]) -> Iterator[tuple[Cell, str, str]]:
    """Each cell with each engine and database to which it may happen."""
    for cell in cells:
        for engine in cell.engines:
            for database in cell.databases:
                if engine == "builtin" or database == "postgresql":
                    yield cell, engine, database


def problem(cell: Cell) -> str:
    """What this machine lacks for a cell."""
    if cell.name == "clocks" and not FAKETIME.exists():
        return "libfaketime (on Debian: apt-get install faketime)"
    return ""


def write(results: list[Result]) -> None:
    """Write the results into the page, each in the place of an earlier one of the same kind."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    table, _, after = rest.partition(END)
    lines = {_kind(line): line for line in table.splitlines() if line not in HEAD}
    lines |= {_kind(str(each)): str(each) for each in results}
    whole = "".join(f"{line}\n" for line in (*HEAD, *lines.values()))
    PAGE.write_text(before + BEGIN + whole + END + after)


def _kind(line: str) -> tuple[str, ...]:
    """What went wrong, and to what."""
    return tuple(line.split("|")[1:3])


def main() -> None:
    parser = argparse.ArgumentParser(description="Tasks under load while things go wrong.")
    parser.add_argument("--seconds", type=float, default=60, help="for each cell and engine")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--only", nargs="*", choices=CELLS, help="these cells")
    parser.add_argument("--soak", action="store_true", help="all of them at random")
    parser.add_argument("--engine", choices=ENGINES)
    parser.add_argument("--database", choices=("postgresql", "sqlite"))
    parser.add_argument("--write", action="store_true", help="write the results into the page")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    results = []
    named = [CELLS[name] for name in given.only or CELLS]
    for cell, engine, database in combinations([Soak()] if given.soak else named):
        if given.engine not in (None, engine) or given.database not in (None, database):
            continue
        if lacking := problem(cell):
            print(f"{cell.name}: left out, for it needs {lacking}", flush=True)
            continue
        with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as name:
            result = run(cell, engine, database, Path(name), given.seed, given.seconds)
        print(result, flush=True)
        results.append(result)
    if given.write:
        write(results)


if __name__ == "__main__":
    sys.exit(main())
