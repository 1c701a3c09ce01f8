"""How long others wait, and what waiting costs."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

from bench.measures.rig import Bench
from tests.harness.process import children


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def enqueue(bench: Bench) -> dict[str, float]:
    """Milliseconds that a call takes, 500 calls 5 ms apart, while a worker drains."""
    rows, calls = bench.count(300_000, 50_000), bench.count(500, 100)
    with bench.rig() as rig:
        rig.fill(rows)
        rig.worker()
        rig.until_executed(1_000)
        took = rig.call(f"steadily({calls}, 0.005)")
        assert rig.executed() < rows, "the queue was empty before the calls were done"
    return {"p95": percentile(took, 95) * 1e3, "max": max(took) * 1e3}


def pickup(bench: Bench) -> dict[str, float]:
    """Milliseconds from just before the call in one process to the start in an idle worker.

    50 calls, 0.2 to 0.6 s apart.
    """
    calls = bench.count(50, 20)
    with bench.rig() as rig:
        rig.worker()
        rig.until_idle()
        rig.call(f"now_and_then({calls}, 0.2, 0.6)")
        rig.until_executed(calls + 2)  # one before, one that connects
        late = [seconds for seconds, _ in rig.records()[2:]]
    return {"p50": percentile(late, 50) * 1e3, "p95": percentile(late, 95) * 1e3}


def roundtrip(bench: Bench) -> dict[str, float]:
    """Milliseconds of ``add.delay(4, 5).get()`` with an idle worker; 50, 0.2 to 0.6 s apart."""
    calls = bench.count(50, 20)
    with bench.rig() as rig:
        rig.worker()
        rig.until_idle()
        took = rig.call(f"there_and_back({calls}, 0.2, 0.6)")
    return {"p50": percentile(took, 50) * 1e3, "p95": percentile(took, 95) * 1e3}


def idle(bench: Bench) -> dict[str, float]:
    """Percent of a core that an idle worker uses, all its processes, over 30 s after 5 s."""
    seconds = bench.count(30, 10)
    with bench.rig() as rig:
        worker = rig.worker()
        rig.until_idle()
        time.sleep(5)
        before, began = cpu_time(worker.pid), time.monotonic()
        time.sleep(seconds)
        used, passed = cpu_time(worker.pid) - before, time.monotonic() - began
    return {"percent": 100 * used / passed}


def cpu_time(pid: int) -> float:
    """Seconds of processor time, of the process and all below it, ended ones included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(map(cpu_time, children(pid)))
