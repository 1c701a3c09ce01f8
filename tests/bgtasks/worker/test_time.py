"""Clocks that stand still or jump, and waits that end."""

from __future__ import annotations

import signal

import pytest
from django.db import (
    OperationalError,
)

from bgtasks.clock import elapsed
from bgtasks.queue import claims
from bgtasks.queue.claims import Claimant
from bgtasks.supervisor import supervisor
from bgtasks.supervisor.child import Child
from bgtasks.supervisor.supervisor import Supervisor
from bgtasks.worker import keeper
from bgtasks.worker.options import Options
from bgtasks.worker.shared_state import Marks
from bgtasks.worker.worker import Worker


def test_p5_what_has_run_in_time_and_waits_to_be_recorded_is_not_overdue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marks = Marks(4)
    slots = [marks.begin(number, 30) for number in (7, 8)]
    marks.revoke([7, 8])
    marks.ran(slots[0])
    later = elapsed() + 60
    monkeypatch.setattr("bgtasks.worker.shared_state.elapsed", lambda: later)
    assert marks.overdue().keys() == {8}
    assert marks.begun() == {7, 8}


def test_p5_a_database_may_be_away_for_any_time(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(Claimant("bg~x", 1), Marks(1), Options())
    for _ in range(1100):
        worker._keeper._database_is_away(OperationalError("gone"))
    assert worker._keeper._due_in() == keeper.LONGEST_RETRY
    worker.close()


def test_p2_children_may_crash_any_number_of_times() -> None:
    supervised = Supervisor(Options())
    child = Child(Claimant("bg~x", 1), 0, 0, Marks(1))
    for _ in range(1100):
        supervised._slow_down_spawning(child)
    assert supervised._spawn_at <= elapsed() + supervisor.LONGEST_WAIT


def test_a_signal_while_the_queue_is_looked_at_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    draining = Supervisor(Options(drain=True))

    def ready(*_: object) -> bool:
        draining._handle(signal.SIGTERM, None)
        return True

    monkeypatch.setattr(claims, "ready", ready)
    try:
        assert draining._done()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)  # the signal has begun the grace period


def test_the_story_of_a_child_tells_time_outs_from_revocations() -> None:
    child = Child(Claimant("bg~x", 1), 7, 0, Marks(1))
    child.timed_out = {1: 0.0}
    assert "one of its tasks was revoked" in child.story(signal.SIGKILL)
    child.timed_out = {1: 0.0, 2: 3.0}
    assert "one of its tasks ran too long" in child.story(signal.SIGKILL)
