"""Room for others between our writes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from django.db import connection

from bgtasks.queue import pacing
from bgtasks.queue.pacing import Pace, Turns

pytestmark = pytest.mark.django_db(transaction=True)
ON_POSTGRESQL = connection.vendor == "postgresql"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that we set; what sleeps sets it too."""
    now = [100.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(pacing, "elapsed", lambda: now[0])
    monkeypatch.setattr(pacing.time, "sleep", sleep)
    return now


def write(pace: Pace, clock: list[float], rows: int, seconds: float) -> float:
    """Write so many rows for so long; returns when that began."""
    with pace.writing() as wrote:
        began = clock[0]
        clock[0] += seconds
        wrote(rows)
    return began


def test_sqlite_is_left_alone_between_two_writes(clock: list[float]) -> None:
    pace = Pace()
    assert write(pace, clock, 100, 0.5) == 100.0
    expected = 100.5 if ON_POSTGRESQL else 100.5 + pacing.PAUSE
    assert write(pace, clock, 100, 0.5) == pytest.approx(expected)


def test_writes_are_as_large_as_their_time_allows(clock: list[float]) -> None:
    pace = Pace()
    for _ in range(40):
        write(pace, clock, 100, 0.001)
    in_time = pacing.WRITE / 0.00001
    assert pace.most == (pacing.MOST if ON_POSTGRESQL else pytest.approx(in_time, rel=0.1))
    for _ in range(40):
        write(pace, clock, 100, 1.0)
    assert pace.most == (pacing.MOST if ON_POSTGRESQL else pacing.FEWEST)


def test_a_write_of_a_few_rows_teaches_nothing(clock: list[float]) -> None:
    pace = Pace()
    before = pace.most
    write(pace, clock, 1, 1.0)
    assert pace.most == before


def test_short_turns_follow_each_other_until_they_are_as_long_as_a_write(
    clock: list[float],
) -> None:
    turns, began, each = Turns(), [], pacing.WRITE / 3.9
    for _ in range(20):
        with turns.turn(1) as is_ours:
            assert is_ours
            began.append(clock[0])
            clock[0] += each
    gaps = [later - earlier - each for earlier, later in pairwise(began)]
    pauses = [place for place, gap in enumerate(gaps, 1) if gap > pacing.PAUSE / 2]
    assert pauses == [4, 8, 12, 16]
    assert sum(gaps) == pytest.approx(4 * pacing.PAUSE)


def test_after_a_pause_of_its_own_a_turn_waits_for_nothing(clock: list[float]) -> None:
    turns = Turns()
    for _ in range(3):
        with turns.turn(1):
            clock[0] += 1
        clock[0] += pacing.PAUSE
        before = clock[0]
        with turns.turn(1):
            assert clock[0] == before


def test_one_thread_has_its_turn_and_others_wait_no_longer_than_they_may() -> None:
    turns = Turns()
    with turns.turn(1), turns.turn(0.01) as second:
        assert not second
    with turns.turn(0.01) as third:
        assert third
