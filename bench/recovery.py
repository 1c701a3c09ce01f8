"""How long a task waits for its next run when what ran it dies. Default settings.

    python bench/recovery.py [--rounds 20]

Two workers stand ready, on SQLite and, where it can be reached, on PostgreSQL. A task that never
ends is running at one of them; then

- its child process is killed with SIGKILL: the supervisor notices, gives the row back and starts
  another child, or
- the supervisor and all its children are: the other worker notices when the lease runs out.

Measured from the kill to the first line of the task's next run.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "site")]

from tests import settings  # noqa: E402
from tests.harness import needs  # noqa: E402
from tests.harness.deployment import (  # noqa: E402
    Deployment,
    children,
    deployments,
    eventually,
    kill_tree,
)


def rerun_after(project: Deployment, kill: list[int], runs: int) -> float:
    """Seconds from the kill until the ledger has one run more."""
    started = time.perf_counter()
    for pid in kill:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(project.ledger("begin")) > runs, "the next run", timeout=60)
    return time.perf_counter() - started


def child_killed(project: Deployment) -> float:
    project.run("tasks.until('a', '/nowhere')")
    worker = project.worker("--sleep", "5")
    child = int(project.wait_for("begin")[0][-1])
    seconds = rerun_after(project, [child], 1)
    kill_tree(worker.pid)
    return seconds


def entitled(worker: dict[str, Any]) -> bool:
    """Whether a worker's heartbeats span a whole lease."""
    first, last = (
        moment if isinstance(moment, datetime) else datetime.fromisoformat(moment)
        for moment in (worker["started_at"], worker["heartbeat_at"])
    )
    return (last - first).total_seconds() >= worker["lease"]


def host_lost(project: Deployment) -> float:
    workers = []
    for number in range(2):
        # Folders of their own, as on two hosts: on one, a lock file tells of a death at once.
        folder = project.folder / f"host{number}"
        folder.mkdir()
        workers.append(project.worker("--sleep", "5", TMPDIR=str(folder)))
    eventually(lambda: len(project.rows("bgtasks_worker")) == 2, "two workers")
    # A rescuer must have been in touch with the database for a whole lease itself.
    eventually(lambda: all(map(entitled, project.rows("bgtasks_worker"))), "a lease of contact")
    project.run("tasks.until('a', '/nowhere')")
    child = int(project.wait_for("begin")[0][-1])
    (lost,) = (worker for worker in workers if child in children(worker.pid))
    seconds = rerun_after(project, [lost.pid, *children(lost.pid)], 1)
    for worker in workers:
        kill_tree(worker.pid)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to recovery.")
    parser.add_argument("--rounds", type=int, default=20, help="of a killed child (20)")
    parser.add_argument("--hosts", type=int, default=5, help="rounds of a lost host (5)")
    given = parser.parse_args()
    print("| database | what dies | rounds | median | worst |\n|---|---|---|---|---|")
    for database in ("sqlite", "postgresql"):
        if database == "postgresql" and (problem := needs.postgresql_problem()):
            print(f"PostgreSQL is left out: it needs {problem}", file=sys.stderr)
            continue
        settings.DATABASE = database
        for name, measure, rounds in (
            ("a child", child_killed, given.rounds),
            ("a host", host_lost, given.hosts),
        ):
            seconds = [once(measure) for _ in range(rounds)]
            print(
                f"| {database} | {name} | {rounds} | {statistics.median(seconds):.2f} s "
                f"| {max(seconds):.2f} s |",
                flush=True,
            )


def once(measure) -> float:
    with tempfile.TemporaryDirectory(prefix="recovery-") as name:
        maker = deployments(Path(name))
        project = next(maker)(Path(name))
        try:
            return measure(project)
        finally:
            project.close()
            next(maker, None)


if __name__ == "__main__":
    main()
