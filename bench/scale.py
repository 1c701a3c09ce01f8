"""What more hosts add, and what a long history costs, on PostgreSQL.

    python bench/scale.py hosts [--rounds 5]              # two workers beside one
    python bench/scale.py history [--rows 10000000]       # a drain beside so many ended tasks
    python bench/scale.py prune [--rows 10000000]         # deleting them, and who waits meanwhile
    python bench/scale.py prune --partitions              # the same of a partition
    python bench/scale.py partitions [--rows 3000000]     # what thirty partitions cost

A host is one ``process_tasks`` with a folder of its own for temporary files, so that no worker
knows by a lock file what the other one does. All of it runs on this machine.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "site")]
os.environ["TEST_DATABASE"] = "postgresql"

from bench.measures.latency import percentile  # noqa: E402
from bench.measures.rig import Rig, fresh_rig  # noqa: E402
from bench.versions import machine  # noqa: E402
from tests.harness.process import Process  # noqa: E402
from tests.harness.waiting import eventually  # noqa: E402

SECONDS, TASKS = 0.02, 4_000
SIZE = ["--processes", "2", "--threads", "4"]
DRAINED = 20_000
DAYS = 30
MAIN = ("bgtasks_outcome", "background_task_completedtask")


def hosts(rounds: int) -> None:
    """Tasks that wait for 20 ms, by one worker and by two, in turn."""
    ratios = []
    for number in range(rounds):
        one, two = _by(1), _by(2)
        ratios.append(two / one)
        print(f"round {number + 1}: one host {one:.0f}/s, two {two:.0f}/s, {two / one:.2f}")
    print(f"two hosts over one: {statistics.median(ratios):.2f} (median of {rounds})")


def _by(count: int) -> float:
    """Tasks a second, from the first start to the last end."""
    with fresh_rig() as here:
        here.fill(TASKS, "wait", SECONDS)
        for number in range(count):
            folder = here.folder / f"host{number}"
            folder.mkdir()
            here.worker(*SIZE, TMPDIR=str(folder))
        return TASKS / here.span(TASKS)


def history(rows: int, rounds: int) -> None:
    """A drain of 20,000 tasks that do nothing, without and with a history, in turn."""
    ratios = []
    with fresh_rig() as empty, fresh_rig() as full:
        _remember(full, rows, days=6)
        for number in range(rounds):
            without, beside = _drain(empty), _drain(full)
            ratios.append(beside / without)
            print(f"round {number + 1}: {without:.0f}/s without, {beside:.0f}/s with {rows:,}")
    print(f"the drain with a history over that without: {statistics.median(ratios):.2f}")


def _remember(here: Rig, rows: int, days: int, into: Sequence[str] = MAIN, first: int = 1) -> None:
    """Have so many tasks that succeeded so long ago. After seven days they may be pruned.

    Args:
        into: the tables of the outcomes and of the completed tasks.
        first: the first id.
    """
    ago = f"now() - interval '{days} days' + i * interval '1 millisecond'"
    last = first + rows - 1
    outcomes, completed = into
    here.database.query(
        f"INSERT INTO {completed} (id, run_at, task_name, task_params, "
        f"task_hash, priority, repeat, attempts, last_error) SELECT i, {ago}, 'bench.old', "
        f"'[[' || i || '], {{}}]', 'h' || i, 0, 0, 1, '' FROM generate_series({first}, {last}) AS i"
    )
    here.database.query(
        f"INSERT INTO {outcomes} (task_id, completed_id, state, attempts, started_at, "
        f"finished_at, due_at) SELECT i, i, 'succeeded', 1, {ago}, {ago}, {ago} "
        f"FROM generate_series({first}, {last}) AS i"
    )
    for table in ("background_task_completedtask", "background_task"):
        here.database.query(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {last + 1})")
    here.database.query("VACUUM ANALYZE")


def _drain(here: Rig) -> float:
    before = here.executed()
    here.fill(DRAINED)
    worker = here.worker()
    here.until_executed(before + DRAINED)
    worker.stop()
    records = here.records()[before:]
    return (DRAINED - 1) / (records[-1][1] - records[0][1])


def partitioned(rows: int, rounds: int) -> None:
    """A drain, and looking results up, without and with a partition for each of thirty days."""
    ratios = []
    with fresh_rig() as plain, fresh_rig(BGTASKS_PARTITION_HISTORY=True) as parted:
        _remember(plain, rows, days=6)
        each = rows // DAYS
        for number, place in enumerate(parted.call(f"partitions_of({DAYS})")):
            _remember(parted, each, 6, place, first=1 + number * each)
        # A worker has made the partition of today before the first drain begins.
        parted.worker()
        eventually(
            lambda: len(parted.rows("pg_class", "relname ~ '^bgtasks_outcome_[0-9]{8}$'")) > DAYS,
            "the partition of today",
        )
        parted.workers[-1].stop()
        for number in range(rounds):
            without, beside = _drain(plain), _drain(parted)
            ratios.append(beside / without)
            print(f"round {number + 1}: {without:.0f}/s without partitions, {beside:.0f}/s with")
        print(f"the drain with partitions over that without: {statistics.median(ratios):.2f}")
        ids = random.sample(range(1, each * DAYS), 2000)
        for name, here in (("without", plain), ("with", parted)):
            median = statistics.median(here.call(f"read_results({ids})")) * 1000
            print(f"looking up one result, {name} partitions: {median:.2f} ms in the median")
            median = statistics.median(here.call("call_unique(1000)")) * 1000
            print(f"enqueuing a unique call, {name} partitions: {median:.2f} ms in the median")


def prune(rows: int, in_partitions: bool) -> None:
    """Delete a history, while a worker runs, and see how late tasks start meanwhile."""
    with fresh_rig(BGTASKS_PARTITION_HISTORY=in_partitions) as here:
        into = here.call("partitions_of(30)")[0] if in_partitions else MAIN
        _remember(here, rows, 30, into)
        here.worker()
        here.until_idle()
        _tell("without", _late(here, lambda: here.executed() < 300))
        command = Process("-m", "django", "prune_tasks", env=here.environment())
        began = time.monotonic()
        _tell("meanwhile", _late(here, lambda: command.alive))
        took = time.monotonic() - began
        print(f"{rows:,} ended tasks were deleted in {took:.1f} s, {rows / took:,.0f}/s")
        left = here.database.query("SELECT count(*) AS count FROM background_task_completedtask")
        print(f"completed rows left: {left[0]['count']}")


def _late(here: Rig, goes_on: Callable[[], bool]) -> list[float]:
    """How late tasks start that are enqueued one after another: seconds until they have run."""
    late = []
    while goes_on():
        count = here.executed()
        began = time.monotonic()
        here.database.query(
            "WITH one AS (INSERT INTO background_task (task_name, task_params, task_hash, "
            "priority, run_at, repeat, attempts, last_error) VALUES ('bench.project.tasks.tick', "
            "'[[], {}]', 'h', 0, now(), 0, 0, '')) SELECT pg_notify('bgtasks', '')"
        )
        here.until_executed(count + 1)
        late.append(time.monotonic() - began)
    return late


def _tell(when: str, late: list[float]) -> None:
    median, worst = statistics.median(late) * 1000, max(late) * 1000
    print(
        f"{when}: {len(late)} tasks, median {median:.1f} ms until they have run, "
        f"99th percentile {percentile(late, 99) * 1000:.1f} ms, longest {worst:.0f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("hosts", "history", "prune", "partitions"))
    parser.add_argument("--partitions", action="store_true", help="prune a partition")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=10_000_000)
    given = parser.parse_args()
    print(machine())
    if given.what == "hosts":
        hosts(given.rounds)
    elif given.what == "history":
        history(given.rows, given.rounds)
    elif given.what == "partitions":
        partitioned(given.rows, given.rounds)
    else:
        prune(given.rows, given.partitions)


if __name__ == "__main__":
    main()
