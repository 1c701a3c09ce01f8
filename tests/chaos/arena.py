"""A project under load, and the processes that run its tasks, which may be struck."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness.deployment import Deployment
from tests.harness.fleets import Fleet
from tests.harness.forwarder import Forwarder
from tests.harness.private_broker import PrivateBroker
from tests.harness.private_postgresql import PrivateServer
from tests.harness.process import Process, children, kill_tree, thaw
from tests.harness.waiting import eventually

# Short, and still longer than the shortest limit for a silent database.
LEASE = 3.0
# Enough attempts that chance does not fail a task.
SETTINGS = {"BGTASKS_LEASE": LEASE, "BGTASKS_GRACE": 1, "MAX_ATTEMPTS": 25}
LOAD = """
import random, time
from pathlib import Path
from django.db import DatabaseError, InterfaceError, connections, transaction
pick = random.Random({seed})

def enqueue(key):
    kind = pick.random()
    if kind < 0.6:
        tasks.slow(key, 0)
    elif kind < 0.7:
        tasks.write_once(key, pick.choice([0, 0, 0.05]))
    elif kind < 0.9:
        tasks.slow(key, pick.uniform(0.01, 0.2))
    elif kind < 0.95:
        tasks.coroutine(key, 0.01)
    else:
        tasks.slow(key, 0.5)

n = 0
with open({keys!r}, "a", buffering=1) as committed:
    while not Path({stop!r}).exists():
        batch = range(n, n + 10)
        n += 10
        try:
            with transaction.atomic():
                for key in batch:
                    enqueue(key)
        except (DatabaseError, InterfaceError):  # whether it has committed is not known
            connections.close_all()
        else:
            committed.writelines(f"{{key}}\\n" for key in batch)
        time.sleep({pause})
"""


# Seconds until a process sees that its clock was set. To look each time would slow it down.
CLOCK_SEEN = 1
# Tasks that are enqueued in a second for a fleet, which is slower: otherwise a busy machine would
# have a backlog, and what is urgent would wait behind the messages that are sent already.
FLEET_RATE = 15.0


@dataclass
class Member:
    """A process that takes part, with its children.

    Attributes:
        kind: what `Arena.start` starts.
        cable: what leads it to the database, if that can be pulled.
        clock: the file that says how far its clock is off, if it may be.
    """

    kind: str
    process: Process
    cable: Forwarder | None = None
    clock: Path | None = None

    @property
    def pids(self) -> list[int]:
        return [self.process.pid, *children(self.process.pid)]


@dataclass
class Arena:
    """One run.

    Args:
        fleet: the project and its engine.
        seed: of everything random here.
        server: the project's PostgreSQL, which nobody else uses; None for SQLite.

    Attributes:
        broker: what leads to the fleet's broker.
        broker_server: that broker, if nobody else uses it.
        long: whether faults have their full length, and are not short enough for a test.
        rate: how many tasks are enqueued in a second.
    """

    fleet: Fleet
    seed: int
    server: PrivateServer | None = None
    broker: Forwarder | None = None
    broker_server: PrivateBroker | None = None
    long: bool = False
    rate: float = 60.0
    with_cables: bool = False
    with_clocks: bool = False
    members: list[Member] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    strikes: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.project: Deployment = self.fleet.project
        if self.fleet.engine != "builtin":
            self.rate = FLEET_RATE
        self._stop = self.project.folder / "stop"
        self.keys = self.project.folder / "committed"

    # --- processes

    @property
    def kinds(self) -> list[str]:
        return ["worker", "worker"] if self.fleet.engine == "builtin" else ["relay", "celery"]

    def start_all(self) -> None:
        for kind in self.kinds:
            self.start(kind)
        for member in self.members:
            member.process.wait_for("ready")

    def start(self, kind: str) -> None:
        """Start a process; `kind` is "worker", "relay" or "celery"."""
        more: dict[str, str] = {}
        cable, clock = None, None
        if self.with_cables and self.server:
            cable = Forwarder(self.server.port)
            more["DATABASE_URL"] = self.server.at(cable.port)
        if self.with_clocks:
            clock = self.project.folder / f"clock-{len(self.project.workers)}"
            more |= fake_clock(clock)
            self.set_clock(clock)
        self.members.append(Member(kind, self._start(kind, more), cable, clock))
        have_one_right(self.members)

    def _start(self, kind: str, more: dict[str, str]) -> Process:
        if kind == "celery":
            arguments = ["--concurrency", "2", "--queues", self.fleet.queues]
            quiet = ["--without-gossip", "--without-mingle", "--loglevel", "INFO"]
            return self.fleet.celery("worker", *arguments, *quiet, **more)
        # Now and then on what looks like another host, where only the lease tells of its death.
        folder = self.project.folder / f"host{self.random.randrange(3)}"
        folder.mkdir(exist_ok=True)
        size = ["--processes", "2", "--threads", "2"] if kind == "worker" else []
        return self.project.worker(*size, TMPDIR=str(folder), **self.fleet.environment, **more)

    def set_clock(self, clock: Path) -> None:
        """Set a clock an hour ahead, an hour back, or right."""
        clock.write_text(self.random.choice(["+3600", "-3600", "+0"]))

    def any_member(self) -> Member:
        """One that lives."""
        for member in [each for each in self.members if not each.process.alive]:
            self.replace(member)
        return self.random.choice(self.members)

    def replace(self, member: Member) -> None:
        """Start another one of the same kind, as whoever operates it would."""
        self.members.remove(member)
        self.start(member.kind)

    def kill(self, member: Member) -> None:
        kill_tree(member.process.pid)
        self.replace(member)

    # --- the load

    def load(self) -> None:
        """Enqueue tasks until `finish`, past the cables."""
        code = LOAD.format(
            seed=self.seed, keys=str(self.keys), stop=str(self._stop), pause=10 / self.rate
        )
        self._loader = self.project.python(code)

    def recovered(self) -> None:
        """Note how long it takes, from now on, until a task that is enqueued now has ended."""
        began = time.monotonic()
        key = f"probe-{len(self.recoveries)}"
        eventually(lambda: self._enqueue(key), "the database takes a task")
        eventually(lambda: self.project.ledger("work", key), self._what_is_left, timeout=90)
        self.recoveries.append(time.monotonic() - began)

    def _enqueue(self, key: str) -> bool:
        try:
            self.project.run(f"tasks.work({key!r}, priority=100)")
        except AssertionError:  # the database is not back yet
            return False
        return True

    # --- the end

    def finish(self) -> None:
        """Enqueue no more, bring forward what backs off, and wait until nothing is left."""
        self._stop.touch()
        assert self._loader.wait() == 0, self._loader.output
        for member in list(self.members):
            thaw(member.pids)
            if member.clock:  # by one that is an hour back, nothing of the rest would be due
                member.clock.write_text("+0")
            if not member.process.alive:
                self.replace(member)

        left = len(self.project.rows())
        while left:  # a long run may leave a backlog: it is waited for as long as it grows shorter
            left = self._wait_until_below(left if self.long else 1)
        for member in self.members:
            assert member.process.stop() == 0, member.process.output

    def _wait_until_below(self, count: int) -> int:
        """Wait until fewer rows are left than so many; returns how many."""
        # Nothing is enqueued for later here. On SQLite, what does not get the lock snoozes.
        attempts = int(self.project.database.on_postgresql)

        def fewer() -> bool:
            self.project.hurry(attempts)
            return len(self.project.rows()) < count

        eventually(fewer, self._what_is_left, timeout=180)
        return len(self.project.rows())

    def _what_is_left(self) -> str:
        for member in self.members:
            if member.process.alive:  # its settings have it say where its threads are
                os.kill(member.process.pid, signal.SIGABRT)
                member.process.wait()
        outputs = "\n".join(member.process.output[-3000:] for member in self.members)
        return f"left: {self.project.rows()[:5]}\n{self.project.rows('bgtasks_worker')}\n{outputs}"


# Where Debian has it, or where it would be.
FAKETIME = next(
    Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), Path("/usr/lib/libfaketimeMT.so.1")
)


def have_one_right(members: Sequence[Member]) -> None:
    """Set one clock right, unless one is: if all are an hour back, nothing is due yet.

    It is one of those that decide what is due.
    """
    clocks = [each.clock for each in members if each.clock and each.kind != "celery"]
    if clocks and not any(each.read_text() == "+0" for each in clocks):
        clocks[-1].write_text("+0")


def fake_clock(clock: Path) -> dict[str, str]:
    """An environment in which the clock is off by what a file says; intervals stay right."""
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": str(CLOCK_SEEN),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
