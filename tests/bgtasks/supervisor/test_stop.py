"""When a worker that was asked to stop ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from bgtasks.queue.claims import Claimant
from bgtasks.supervisor import stop
from bgtasks.supervisor.child import Child
from bgtasks.supervisor.stop import LEAVING, Stop
from bgtasks.worker.shared_state import Marks
from tests.harness.process import state
from tests.harness.waiting import eventually


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Any]:
    """Sets the clock; the system's timer is not started."""
    settings.BGTASKS_GRACE = 10
    timers: list[float] = []
    monkeypatch.setattr(signal, "setitimer", lambda _, seconds: timers.append(seconds))

    def at(now: float) -> list[float]:
        monkeypatch.setattr(stop, "elapsed", lambda: now)
        return timers

    return at


def test_the_timer_is_set_for_the_end_of_the_grace_period_and_a_little(at: Any) -> None:
    timers = at(100.0)
    stopping = Stop()
    stopping.signalled(signal.SIGTERM)
    assert (stopping.wanted, stopping.deadline, timers) == (True, 110.0, [10 + LEAVING])


def test_a_second_signal_ends_the_grace_period_and_a_third_puts_nothing_off(at: Any) -> None:
    timers = at(100.0)
    stopping = Stop()
    for now in (100.0, 103.0, 104.0, 106.0, 120.0):
        at(now)
        stopping.signalled(signal.SIGTERM)
    assert (stopping.deadline, timers) == (103.0, [10 + LEAVING, LEAVING])


def test_signals_after_the_grace_period_put_nothing_off(at: Any) -> None:
    timers = at(100.0)
    stopping = Stop()
    stopping.signalled(signal.SIGTERM)
    at(112.0)
    stopping.signalled(signal.SIGTERM)
    assert (stopping.deadline, timers) == (110.0, [10 + LEAVING])


@pytest.mark.parametrize("grace", [float("inf"), 1e12])
def test_a_grace_period_may_be_infinite(settings: Any, grace: float) -> None:
    settings.BGTASKS_GRACE = grace
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        Stop().signalled(signal.SIGTERM)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_whenever_a_child_ends_what_it_has_started_is_killed() -> None:
    """However little time there is between its end and the look at it."""
    code = (
        "import os, subprocess\n"
        "os.setsid()\n"
        "print(subprocess.Popen(['sleep', '3600']).pid, flush=True)"
    )
    for _ in range(20):
        process = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE)
        assert process.stdout
        program = int(process.stdout.readline())
        reader, writer = os.pipe()
        child = Child(Claimant("bg~0", 1), process.pid, writer, Marks(1))
        while child.wait() is None:
            pass
        eventually(lambda: state(program) in ("", "Z"), f"{program} ended")  # noqa: B023
        process.returncode = 0
        process.stdout.close()
        child.forget()
        os.close(reader)
