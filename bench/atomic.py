"""What ``atomic=True`` costs, and how long others wait meanwhile.

    python bench/atomic.py [--database sqlite] [--rounds 5] [--tasks 5000]

Each task inserts one row. Without ``atomic=True`` that commits by itself, and the outcomes of many
tasks are recorded together. With it each task has one transaction, in which its outcome is
recorded. The calls are made by another process, 5 ms apart, while a worker drains.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "site")]
CALLS = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="postgresql")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=5000)
    given = parser.parse_args()
    os.environ["TEST_DATABASE"] = given.database
    measure(given.rounds, given.tasks)


def measure(rounds: int, tasks: int) -> None:
    """Drains with both kinds of tasks, in turn, and then calls during a drain of each kind."""
    from bench.measures.latency import percentile
    from bench.measures.rig import fresh_rig
    from bench.versions import machine

    def drain(task: str) -> float:
        with fresh_rig() as here:
            here.fill(tasks, task)
            here.worker()
            return here.rate(100, tasks)

    print(machine())
    ratios = []
    for number in range(rounds):
        plain, atomic = drain("insert"), drain("insert_atomically")
        ratios.append(atomic / plain)
        print(f"round {number + 1}: {plain:.0f}/s, atomic {atomic:.0f}/s, {ratios[-1]:.2f}")
    print(f"atomic over plain: {statistics.median(ratios):.2f} (median of {rounds})")
    for task in ("insert", "insert_atomically"):
        with fresh_rig() as here:
            here.fill(20 * tasks, task)
            here.worker()
            here.until_executed(200)
            took = [seconds * 1e3 for seconds in here.call(f"steadily({CALLS}, 0.005)")]
            assert here.executed() < 20 * tasks, "the queue was empty before the calls were done"
        print(
            f"a call while a worker drains {task}: {statistics.median(took):.1f} ms in the median, "
            f"{percentile(took, 95):.1f} ms at the 95th percentile, {max(took):.0f} ms at most"
        )


if __name__ == "__main__":
    main()
