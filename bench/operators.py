"""What looking at many tasks takes, and what acting on many of them costs the others.

    python bench/operators.py [--rows 1000000] [--retry 100000]                   # on SQLite
    TEST_DATABASE=postgresql python bench/operators.py --rows 5000000             # on PostgreSQL

Pages: a real web server, a worker, and so many tasks, of which one in a hundred waits, one in
twenty has failed, and the others have succeeded, over the last week. Each page is asked for six
times; the first answer is shown by itself, of the others the median and the longest.

Retry: so many failed tasks of one queue are retried by one command, while another process enqueues
tasks now and then in another queue, which has a worker. How late they start is compared with how
late they start without it. In one queue they would wait behind the retries.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "site")]

from bench.measures.latency import percentile  # noqa: E402
from bench.measures.rig import TASKS, Rig  # noqa: E402
from bench.versions import machine  # noqa: E402
from tests import settings  # noqa: E402
from tests.harness import preloaded  # noqa: E402
from tests.harness.databases import Database  # noqa: E402
from tests.harness.site import LiveSite  # noqa: E402

# A forked process imports this file first, and with it the settings of another database.
preloaded.CAN_FORK = False

NAME = "signup.tasks.discard_files"
WEEK = 7 * 24 * 3600
PAGES = {
    "overview, an hour": "",
    "overview, a week": "?range=week",
    "tasks": "tasks/",
    "tasks, failed ones": "tasks/?state=failed",
    "tasks, of one name": f"tasks/?name={NAME}",
    "tasks, of a queue that none has": "tasks/?queue=nobody",
    "tasks, an argument that one has": "tasks/?q=needle",
    "tasks, the page after": "tasks/?before={middle}",
    "one task that has failed": "tasks/{failed}/",
    "workers": "workers/",
    "schedules": "schedules/",
}


def series(count: int) -> str:
    """SQL for the numbers from 1 to `count`, as ``numbers(i)``."""
    if settings.DATABASE == "postgresql":
        return f"WITH numbers AS (SELECT i FROM generate_series(1, {count}) AS i)"
    step = f"SELECT i + 1 FROM numbers WHERE i < {count}"
    return f"WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL {step})"


def ago(seconds: str) -> str:
    """SQL for the moment so many seconds ago."""
    if settings.DATABASE == "postgresql":
        return f"now() - ({seconds}) * interval '1 second'"
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now', (-({seconds})) || ' seconds')"


def fill(database: Database, rows: int) -> None:
    """Have so many tasks: see the docstring of this file."""
    waiting = rows // 100
    ended = rows - waiting
    age = f"({ended} - i) * {WEEK}.0 / {ended}"
    params = "'[[[\"' || i || '\"]], {}]'"
    is_failed = "i % 20 = 0"
    columns = "task_name, task_params, task_hash, priority, repeat, attempts, last_error"
    error = "'Traceback (most recent call last):' || chr(10) || 'ValueError: in vain'"
    if settings.DATABASE != "postgresql":
        error = error.replace("chr(", "char(")
    values = f"'{NAME}', {params}, 'h' || i, 0, 0"
    for statement in (
        f"INSERT INTO background_task_completedtask (id, run_at, failed_at, {columns}) "
        f"SELECT i, {ago(age)}, CASE WHEN {is_failed} THEN {ago(age)} END, {values}, 1, "
        f"CASE WHEN {is_failed} THEN {error} ELSE '' END FROM numbers",
        "INSERT INTO bgtasks_outcome (task_id, completed_id, state, attempts, started_at, "
        f"finished_at, due_at) SELECT i, i, CASE WHEN {is_failed} THEN 'failed' ELSE 'succeeded' "
        f"END, 1, {ago(age)}, {ago(age)}, {ago(age)} FROM numbers",
        "INSERT INTO bgtasks_attempt (task_id, number, state, claim, started_at, ended_at, error) "
        f"SELECT i, 1, 'failed', 'bg~0.1-1', {ago(age)}, {ago(age)}, {error} FROM numbers "
        f"WHERE {is_failed}",
    ):
        database.query(into(statement, ended))
    database.query(
        into(
            f"INSERT INTO background_task (id, run_at, {columns}) SELECT {ended} + i, "
            f"{ago('i - 3600')}, {values}, 0, '' FROM numbers",
            waiting,
        )
    )
    database.query(
        "UPDATE background_task_completedtask SET task_params = '[[[\"needle\"]], {}]' "
        f"WHERE id = {ended - 1000}"
    )
    database.query("ANALYZE")


def into(statement: str, count: int) -> str:
    """An INSERT with SELECT FROM numbers, with the numbers before it."""
    return f"{series(count)} {statement}"


def pages(rows: int) -> Iterator[str]:
    """Lines of a table: how long each page takes."""
    with tempfile.TemporaryDirectory() as folder:
        site = LiveSite(Path(folder))
        try:
            site.start()
            site.worker.stop()  # it would run the waiting ones
            site.shell(
                "from signup.models import User;"
                "User.objects.create_superuser('boss', password='quite-Long-99')"
            )
            fill(site.database, rows)
            boss = site.visitor()
            boss.log_in("boss")
            failed = (rows // 2) // 20 * 20
            for title, path in PAGES.items():
                path = path.format(middle=rows // 2, failed=failed)
                took = []
                for _ in range(6):
                    began = time.perf_counter()
                    boss.get(f"/admin/bgtasks/operations/{path}").raise_for_status()
                    took.append((time.perf_counter() - began) * 1e3)
                later = took[1:]
                yield (
                    f"| {title} | {settings.DATABASE} | {rows:,} | {took[0]:.0f} | "
                    f"{statistics.median(later):.0f} | {max(later):.0f} |"
                )
        finally:
            site.stop()


def retry(count: int) -> Iterator[str]:
    """Lines: how long a retry of everything takes, and how late other tasks start meanwhile."""
    for is_retried in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            rig = Rig(Path(folder), Database(Path(folder)))
            try:
                assert rig.manage("migrate", "--verbosity", "0").returncode == 0
                yield measured_retry(rig, count if is_retried else 0)
            finally:
                rig.close()


def park(rig: Rig, count: int) -> None:
    """Have so many failed tasks in a queue that no worker serves: retried, they wait there."""
    columns = "queue, task_name, task_params, task_hash, priority, repeat, attempts, last_error"
    rig.database.query(
        into(
            f"INSERT INTO background_task_completedtask (id, run_at, failed_at, {columns}) SELECT "
            f"i, {ago('60')}, {ago('60')}, 'parked', '{TASKS}.tick', '[[], {{}}]', 'h', 0, 0, 1, "
            "'ValueError: in vain' FROM numbers",
            count,
        )
    )
    rig.database.query(
        into(
            "INSERT INTO bgtasks_outcome (task_id, completed_id, state, attempts, finished_at) "
            f"SELECT i, i, 'failed', 1, {ago('60')} FROM numbers",
            count,
        )
    )
    # Rows that come later must have other ids.
    assert rig.manage("migrate", "--verbosity", "0").returncode == 0
    rig.database.query("ANALYZE")


def measured_retry(rig: Rig, count: int) -> str:
    park(rig, max(count, 1))
    rig.worker("--queue", "live")
    rig.call("now_and_then(1, 0.1, 0.1, 'live')")
    rig.until_executed(2)
    probe = rig.start("now_and_then(150, 0.02, 0.08, 'live')")
    took = 0.0
    if count:
        began = time.perf_counter()
        done = rig.manage("tasks", "retry", "--all", "--state", "failed", "--queue", "parked")
        took = time.perf_counter() - began
        assert done.returncode == 0, done.stderr
    output, _ = probe.communicate()
    assert probe.returncode == 0, output
    rig.until_executed(153)
    late = [seconds * 1e3 for seconds, _ in rig.records()[2:]]
    return (
        f"| {count:,} retried in {took:.1f} s | {settings.DATABASE} | "
        f"p50 {percentile(late, 50):.1f} ms | p95 {percentile(late, 95):.1f} ms | "
        f"longest {max(late):.0f} ms |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="0: no pages")
    parser.add_argument("--retry", type=int, default=100_000, help="0: no retry")
    options = parser.parse_args()
    print(machine())
    if options.rows:
        print("\n| page | database | tasks | first, ms | median, ms | longest, ms |")
        print("|---|---|---:|---:|---:|---:|")
        for line in pages(options.rows):
            print(line, flush=True)
    if options.retry:
        print("\n| what | database | others start after | | |\n|---|---|---:|---:|---:|")
        for line in retry(options.retry):
            print(line, flush=True)


if __name__ == "__main__":
    main()
