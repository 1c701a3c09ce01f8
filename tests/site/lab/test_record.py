"""What is kept of a run: which requests of the others belong to it."""

from __future__ import annotations

import pytest

from lab.stage.others import Seen
from lab.stage.record import bursts, of_run, summary

pytestmark = pytest.mark.any_database


def test_only_what_was_asked_during_a_run_belongs_to_it() -> None:
    seen = [
        Seen(90.0, 1, "WSGI"),  # long before
        Seen(98.5, 10, "WSGI"),
        Seen(99.95, 11, "WSGI"),  # the request may have been on its way
        Seen(100.5, 900, "WSGI"),
        Seen(101.9, 20, "WSGI"),
        Seen(102.1, 30, "WSGI"),  # after it
        Seen(101.0, 5000, "ASGI"),  # of the other server
    ]
    failed = [Seen(101.0, 1, "WSGI"), Seen(99.0, 1, "WSGI"), Seen(101.0, 1, "ASGI")]
    samples = of_run(seen, failed, "WSGI", start=100.0, done=102.0)
    assert samples["before"] == [10]
    assert samples["during"] == [20, 900]
    assert samples["points"] == [[-0.05, 11], [0.5, 900], [1.9, 20]]
    assert samples["rate"] == 1.0  # two answers in two seconds
    assert samples["failed"] == 1


def test_a_short_run_is_looked_at_for_a_second() -> None:
    samples = of_run([Seen(100.9, 5, "ASGI")], [], "ASGI", start=100.0, done=100.01)
    assert samples["during"] == [5]


def test_the_summary_has_what_is_known() -> None:
    samples = {"before": [4, 6], "during": list(range(1, 101)), "rate": 80.0}
    assert summary(samples) == {
        "IDLE_P50": 5,
        "OTHERS_P50": 50.5,
        "OTHERS_P95": 95,
        "OTHERS_LONGEST": 100,
        "OTHERS_RATE": 80,
    }
    with_companions = summary(samples | {"companions": [1000, 1500, 2000]})
    assert with_companions["COMPANIONS_RATE"] == 1.5
    assert summary({"before": [], "during": [], "rate": 0.0}) == {}


def test_of_a_burst_the_longest_counts() -> None:
    seen = [Seen(100.01, 1, "ASGI"), Seen(100.02, 2, "ASGI"), Seen(100.02, 9, "ASGI")]
    [burst] = bursts([Seen(10.0, 1, "ASGI"), *seen], now=101.0, seconds=15)
    assert burst == {"server": "ASGI", "age": 1.0, "longest": 9}
