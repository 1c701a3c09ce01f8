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


def intervals(polling: Polling, clock: Clock, count: int, look: float = 0.0) -> list[float]:
    """Look as an idle worker does, each time for so long, and say how long it rests after that."""
    rests = []
    for _ in range(count):
        assert polling.changed()
        clock.now += look
        assert not polling.prepare()
        assert polling.every is not None
        rests.append(round(polling.every, 3))
        clock.now += polling.every
    return rests


USUAL = [POLL_SOON, 0.1, 0.2, 0.4, POLL_LATE, POLL_LATE]


def test_an_idle_worker_looks_more_and_more_rarely(clock: Clock) -> None:
    assert intervals(Polling(), clock, 6) == USUAL


def test_it_rests_as_long_where_a_look_takes_long(clock: Clock) -> None:
    assert intervals(Polling(), clock, 6, look=3.0) == USUAL


def test_one_that_found_something_looks_often_again(clock: Clock) -> None:
    polling = Polling()
    assert intervals(polling, clock, 6) == USUAL
    polling.restart()
    assert intervals(polling, clock, 2) == USUAL[:2]


def test_one_that_is_woken_earlier_goes_on_resting(clock: Clock) -> None:
    polling = Polling()
    assert polling.changed()
    assert not polling.prepare()
    clock.now += POLL_SOON / 2
    assert not polling.prepare()
    assert polling.every == pytest.approx(POLL_SOON / 2)
