"""Room for others between our writes."""

from __future__ import annotations

import pytest
from django.db import connection

from bgtasks.worker import pacing
from bgtasks.worker.pacing import Pace

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
