"""Workers under random violence, and what must be true afterwards.

    python -m tests.chaos.chaos --seconds 300

Supervisors and their children are killed, frozen past their lease and woken, stopped, and told
to end, while tasks keep arriving; on PostgreSQL connections are cut as well.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests import settings
from tests.harness import needs
from tests.harness.deployment import Deployment, deployments
from tests.harness.process import Process, children, kill_tree
from tests.harness.waiting import eventually

LEASE = 2.0
# As the tests' settings have it: enough attempts that chance does not fail a task.
SETTINGS = {"BGTASKS_LEASE": LEASE, "BGTASKS_GRACE": 1, "MAX_ATTEMPTS": 25}
ENQUEUE = """
import random
pick = random.Random({seed})
for n in range({start}, {start} + {count}):
    kind = pick.random()
    if kind < 0.7:
        tasks.slow(n, 0)
    elif kind < 0.9:
        tasks.slow(n, pick.uniform(0.01, 0.2))
    elif kind < 0.95:
        tasks.coroutine(n, 0.01)
    else:
        tasks.slow(n, 0.5)
"""


@dataclass
class Chaos:
    """One run.

    Args:
        project: where; its database is empty.
        seed: of everything random here.
    """

    project: Deployment
    seed: int
    workers: list[Process] = field(default_factory=list)
    frozen: list[tuple[float, list[int]]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    enqueued: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def run(self, seconds: float, tasks: int) -> None:
        """Enqueue so many tasks while things die for so long, then let all of them end."""
        self.enqueue(tasks // 2)
        for _ in range(2):
            self.start()
        with self.analytics():
            self.strike_on(seconds, tasks)
        self.enqueue(tasks - self.enqueued)
        self.finish(tasks)

    @contextmanager
    def analytics(self) -> Iterator[None]:
        """A long report holds a snapshot: on PostgreSQL, deleted rows stay as dead ones."""
        if not self.project.database.on_postgresql:
            yield
            return
        url = self.project.database.url
        with psycopg.connect(url, application_name="analytics") as snapshot:
            snapshot.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            snapshot.execute("SELECT count(*) FROM background_task")
            yield
            snapshot.execute("SELECT count(*) FROM background_task")

    def strike_on(self, seconds: float, tasks: int) -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self.strike()
            self.thaw()
            if self.random.random() < 0.05 and self.enqueued < tasks:
                self.enqueue(min(tasks - self.enqueued, tasks // 10))
            time.sleep(self.random.uniform(0.05, 0.4))

    def enqueue(self, count: int) -> None:
        # What is frozen in the middle of a write keeps SQLite's one lock, and we wake nobody
        # while we enqueue.
        self.thaw(everything=True)
        code = ENQUEUE.format(seed=self.seed + self.enqueued, start=self.enqueued, count=count)
        self.project.run(code)
        self.enqueued += count

    def start(self) -> None:
        # Now and then on what looks like another host, where only the lease tells of its death.
        folder = self.project.folder / f"host{self.random.randrange(3)}"
        folder.mkdir(exist_ok=True)
        worker = self.project.worker("--processes", "2", "--threads", "2", TMPDIR=str(folder))
        self.workers.append(worker)

    def strike(self) -> None:
        """Do one bad thing to one worker, if it lives: another process may have its number now."""
        deeds: list[tuple[int, Callable[[Process], None]]] = [
            (6, self.kill_child),
            (2, self.kill_host),
            (1, self.kill_supervisor),
            (2, self.stop_child),
            (2, self.freeze_host),
            (2, self.tell_to_end),
            (2 if self.project.database.on_postgresql else 0, self.cut_connections),
        ]
        (deed,) = self.random.choices([d for _, d in deeds], [weight for weight, _ in deeds])
        worker = self.random.choice(self.workers)
        self.done[deed.__name__] += 1
        if worker.alive:
            deed(worker)
        else:
            self.replace(worker)

    def child_of(self, worker: Process) -> list[int]:
        found = children(worker.pid)
        return [self.random.choice(found)] if found else []

    def send(self, pids: list[int], signum: signal.Signals) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signum)

    def replace(self, worker: Process) -> None:
        self.workers.remove(worker)
        self.start()

    def kill_child(self, worker: Process) -> None:
        self.send(self.child_of(worker), signal.SIGKILL)

    def stop_child(self, worker: Process) -> None:
        self.send(self.child_of(worker), signal.SIGSTOP)

    def kill_supervisor(self, worker: Process) -> None:
        self.send([worker.pid], signal.SIGKILL)
        self.replace(worker)

    def kill_host(self, worker: Process) -> None:
        kill_tree(worker.pid)
        self.replace(worker)

    def freeze_host(self, worker: Process) -> None:
        pids = [worker.pid, *children(worker.pid)]
        self.send(pids, signal.SIGSTOP)
        self.frozen.append((time.monotonic() + LEASE * self.random.uniform(0.5, 2), pids))

    def tell_to_end(self, worker: Process) -> None:
        self.send([worker.pid], signal.SIGTERM)
        self.replace(worker)

    def cut_connections(self, worker: Process) -> None:
        self.project.database.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{self.project.database.name}' AND pid <> pg_backend_pid() "
            "AND application_name <> 'analytics' AND random() < 0.5"
        )

    def thaw(self, everything: bool = False) -> None:
        now = time.monotonic()
        for moment, pids in list(self.frozen):
            if everything or now > moment:
                self.send(pids, signal.SIGCONT)
                self.frozen.remove((moment, pids))

    def finish(self, tasks: int) -> None:
        """Bring forward what backs off, and wait until every task has its outcome."""

        def all_ended() -> bool:
            self.project.hurry()
            return len(self.project.rows("bgtasks_outcome")) >= tasks

        eventually(all_ended, f"{tasks} outcomes", timeout=120)
        for worker in self.workers:
            assert worker.stop() == 0, worker.output

    # --- what must be true

    def check(self, tasks: int) -> str:
        """Every task has one outcome; every second run is explained. Returns a summary."""
        outcomes = self.project.rows("bgtasks_outcome")
        completed = {row["id"]: row for row in self.project.completed()}
        assert self.project.rows() == [], "rows are left"
        assert len(outcomes) == len(completed) == tasks
        assert {outcome["completed_id"] for outcome in outcomes} == set(completed)
        stories: dict[int, list[dict]] = {}
        for attempt in self.project.attempts():
            stories.setdefault(attempt["task_id"], []).append(attempt)
        begins = Counter(line[1] for line in self.project.ledger("begin"))
        for outcome in outcomes:
            row = completed[outcome["completed_id"]]
            key = str(json.loads(row["task_params"])[0][0])
            self.check_task(key, outcome, row, stories.get(outcome["task_id"], []), begins[key])
        assert self.project.rows("bgtasks_worker", "name NOT IN ('')") == [] or self.ghosts()
        return (
            f"{tasks} tasks, {sum(begins.values())} runs, {dict(self.done)}, attempts "
            f"{dict(Counter(a['state'] for s in stories.values() for a in s))}, outcomes "
            f"{dict(Counter(outcome['state'] for outcome in outcomes))}"
        )

    def ghosts(self) -> bool:
        """Workers killed last leave a row: there was nobody left to bury them."""
        return len(self.project.rows("bgtasks_worker")) <= self.done["kill_host"] + 3

    def check_task(
        self, key: str, outcome: dict, row: dict, attempts: list[dict], begins: int
    ) -> None:
        told = f"task {key}: {begins} runs, {outcome}, {attempts}"
        succeeded = outcome["state"] == "succeeded"
        assert row["failed_at"] is None if succeeded else row["failed_at"], told
        # Each run but the last is explained by an attempt, and each attempt names its reason.
        assert begins <= len(attempts) + succeeded, f"a run that nobody explains: {told}"
        assert begins >= 1, told
        numbers = [attempt["number"] for attempt in attempts]
        assert len(set(numbers)) == len(numbers), f"an attempt recorded twice: {told}"
        assert outcome["attempts"] == len(attempts) + succeeded, f"an attempt is missing: {told}"
        for attempt in attempts:
            assert attempt["error"], told
            if attempt["state"] == "failed":  # no task fails by itself here
                assert "OperationalError" in attempt["error"], told
        if not succeeded:
            assert "cost 3 workers" in row["last_error"], told


def main() -> None:
    parser = argparse.ArgumentParser(description="Workers under random violence.")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    if settings.DATABASE == "postgresql" and (problem := needs.postgresql_problem()):
        sys.exit(f"Left out: it needs {problem}")
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        maker = deployments(Path(name))
        project = next(maker)(Path(name), **SETTINGS)
        try:
            chaos = Chaos(project, given.seed)
            chaos.run(given.seconds, given.tasks)
            print(chaos.check(given.tasks))
        finally:
            project.close()
            next(maker, None)


if __name__ == "__main__":
    sys.exit(main())
