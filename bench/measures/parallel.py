"""Many tasks at the same time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from bench.measures.rig import Bench, Skip
from tests.harness.process import ROOT


def threads(bench: Bench) -> dict[str, float]:
    """1,000 tasks that sleep 0.05 s, in 50 threads: rate over the ideal of 1,000 a second.

    From the first start to the last end.
    """
    return _waiting(bench, bench.count(1_000, 500), "wait", 0.05, ("--threads", 50))


def coroutines(bench: Bench) -> dict[str, float]:
    """5,000 coroutines that sleep 0.5 s, 500 at a time: rate over the ideal, the same."""
    with bench.rig() as rig:
        if "--coroutines" not in rig.manage("process_tasks", "--help").stdout:
            raise Skip("process_tasks has no --coroutines")
    return _waiting(bench, bench.count(5_000, 1_000), "wait_async", 0.5, ("--coroutines", 500))


def _waiting(
    bench: Bench, rows: int, task: str, seconds: float, option: tuple[str, int]
) -> dict[str, float]:
    name, at_once = option
    with bench.rig() as rig:
        rig.fill(rows, task, seconds)
        rig.worker(name, str(at_once))
        rate = rows / rig.span(rows)
    return {"share": rate / (at_once / seconds)}


def cpu(bench: Bench) -> dict[str, float]:
    """How much faster two processes make 20 renditions of 12 megapixels than one does.

    From the first start to the last end; and the same in bare processes, without a queue: what
    this machine allows.
    """
    pictures = bench.count(20, 6)
    return {
        "speed-up": _queued(bench, pictures, 1) / _queued(bench, pictures, 2),
        "bare": _bare(bench, pictures, 1) / _bare(bench, pictures, 2),
    }


def _picture(folder: Path) -> str:
    """A JPEG of 4,000 x 3,000 pixels, as uneven as a photograph."""
    path = folder / "source.jpg"
    bands = [Image.effect_noise((1000, 750), 80) for _ in range(3)]
    Image.merge("RGB", bands).resize((4000, 3000), Image.Resampling.BICUBIC).save(path, quality=90)
    return str(path)


def _queued(bench: Bench, pictures: int, processes: int) -> float:
    with bench.rig() as rig:
        rig.fill(pictures, "rendition", _picture(rig.folder))
        rig.worker("--processes", str(processes))
        return rig.span(pictures)


BARE = """
import sys
import django; django.setup()
from bench.project.tasks import render
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    render(sys.argv[1])
"""


def _bare(bench: Bench, pictures: int, processes: int) -> float:
    """Seconds in processes that are up and have half of the pictures each."""
    with bench.rig() as rig:
        command = [sys.executable, "-c", BARE, _picture(rig.folder), str(pictures // processes)]
        running = [
            subprocess.Popen(
                command,
                env=rig.environment(),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(processes)
        ]
        for process in running:
            assert process.stdout
            process.stdout.readline()
        began = time.perf_counter()
        for process in running:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        for process in running:
            process.communicate()
        return time.perf_counter() - began
