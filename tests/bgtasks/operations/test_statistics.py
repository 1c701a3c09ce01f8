"""What is read from the counters."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.utils import timezone

from bgtasks.models import CELLS, Counter
from bgtasks.operations import statistics
from bgtasks.operations.statistics import RANGES, Durations, Runs, short


def counted(width: int, start: float, **values: Any) -> None:
    start = int(start) // width * width
    given = {"queue": "", "name": "a.task", "worker": "", **values}
    Counter.objects.create(width=width, start=start, **given)


@pytest.mark.any_database
def test_a_percentile_lies_in_its_cell() -> None:
    cells = [0] * CELLS
    cells[1], cells[11] = 90, 10  # up to two milliseconds, and from one second to two
    durations = Durations(cells)
    assert 0.001 < (durations.p50 or 0) < 0.002
    assert 1 < (durations.p95 or 0) < (durations.p99 or 0) < 2.048
    assert Durations().p50 is None


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""), (0.0002, "<1 ms"), (0.0123, "12.3 ms"), (1.5, "1.5 s"), (90, "1.5 min"),
        (7200, "2 h"), (200_000, "2.31 d"),
    ],
)  # fmt: skip
def test_a_duration_in_few_characters(seconds: float | None, text: str) -> None:
    assert short(seconds) == text


@pytest.mark.django_db
@pytest.mark.parametrize("name", RANGES)
def test_a_series_has_all_spans_of_its_range(name: str) -> None:
    wanted, now = RANGES[name], time.time()
    counted(wanted.width, now, succeeded=2, retried=1, ran_3=2)
    counted(wanted.width, now, succeeded=1, queue="emails")
    counted(wanted.width, now - wanted.seconds - wanted.width, succeeded=9)
    points = statistics.series(wanted)
    assert len(points) == wanted.seconds // wanted.width
    found = [runs for _, runs in points if runs.count]
    assert sum(runs.succeeded for runs in found) == 3
    assert sum(runs.ran.count for runs in found) == 2
    assert points[1][0] - points[0][0] == timezone.timedelta(seconds=wanted.width)  # type: ignore[attr-defined]


@pytest.mark.django_db
def test_the_runs_of_each_task_and_each_queue() -> None:
    now = time.time()
    for width in (60, 900):
        counted(width, now - 60, succeeded=10, name="one", queue="emails")
        counted(width, now - 60, failed=4, retried=1, name="two")
    runs = statistics.by_task(RANGES["hour"])
    assert runs["one"].failure_rate == 0
    assert (runs["two"].failures, runs["two"].failure_rate) == (5, 100)
    assert statistics.per_minute() == {"emails": 2.0, "": 1.0}


@pytest.mark.django_db
def test_today_begins_at_midnight_of_the_time_zone() -> None:
    with timezone.override("Asia/Kathmandu"):  # 5:45 hours from UTC
        midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
        counted(900, midnight.timestamp(), failed=1)
        counted(900, midnight.timestamp() - 1, failed=5)
        assert statistics.today() == {"": Runs(failed=1)}
