"""Polling, where nothing tells of changes."""

from __future__ import annotations

import pytest

from bgtasks.queue import listen
from bgtasks.queue.listen import POLL_LATE, POLL_SOON, Polling

pytestmark = pytest.mark.any_database


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(listen, "elapsed", clock)
    return clock


def intervals(polling: Polling, clock: Clock, count: int) -> list[float]:
    """Poll as an idle worker does, and say how long it waits each time."""
    waits = []
    for _ in range(count):
        assert polling.changed()
        assert not polling.prepare()  # it has just asked
        assert polling.every is not None
        waits.append(round(polling.every, 3))
        clock.now += polling.every
    return waits


def test_an_idle_worker_polls_more_and_more_rarely(clock: Clock) -> None:
    assert intervals(Polling(), clock, 6) == [POLL_SOON, 0.1, 0.2, 0.4, POLL_LATE, POLL_LATE]


def test_one_that_was_busy_meanwhile_polls_often_again(clock: Clock) -> None:
    polling = Polling()
    assert intervals(polling, clock, 6)[-1] == POLL_LATE
    clock.now += 2 * POLL_LATE
    assert intervals(polling, clock, 2) == [POLL_SOON, 0.1]
