"""The parts of the adapter of bench/outside that need no database."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.outside.adapter import pacing, reports, tally, worker
from bench.outside.adapter.controls import FailurePlan, Herd
from bench.outside.adapter.orders import Orders
from bench.outside.adapter.reports import Event

pytestmark = pytest.mark.any_database


@contextmanager
def pipe(content: bytes) -> Iterator[int]:
    """The reading end of a pipe that was written and closed."""
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    yield reader


def test_orders_have_the_defaults_of_the_contract() -> None:
    orders = Orders.read({"PRODUCER_RATE": "200", "JOB_WORK_MS": "2.5", "TARGET_DEPTH": ""})
    assert orders == Orders(rate=200, work=0.0025)
    assert (orders.payload, orders.every, orders.mode) == (256, 5, "fixed")
    assert orders.queue_names() == [None]
    assert Orders.read({"BENCH_QUEUE_COUNT": "2"}).queue_names() == ["queue0", "queue1"]


def test_a_mode_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="PRODUCER_MODE is 'full'"):
        Orders.read({"PRODUCER_MODE": "full"})


def test_tokens_say_how_many_and_other_lines_nothing() -> None:
    with pipe(b"ENQUEUE 3\nHELLO 4\n\nENQUEUE x\nENQUEUE 5\r\nENQUEUE 7") as reader:
        tokens = pacing.by_tokens(reader, lambda: 1.0, threading.Event())
        assert list(tokens) == [3, 5]
        os.close(reader)


def test_tokens_are_dropped_while_the_rate_is_zero() -> None:
    rates = iter([1.0, 0.0, 0.0, 2.0])
    with pipe(b"ENQUEUE 1\nENQUEUE 2\nENQUEUE 3\nENQUEUE 4\n") as reader:
        tokens = pacing.by_tokens(reader, lambda: next(rates), threading.Event())
        assert list(tokens) == [1, 4]
        os.close(reader)


def test_a_slow_insertion_is_made_up_for() -> None:
    credit = pacing.Credit(now=0.0)
    assert credit.spend(64, 0.25, most=20) == 16
    assert credit.spend(64, 1.0, most=20) == 20  # it took so long to insert them
    later = [credit.spend(64, 1.25 + n / 4, most=20) for n in range(9)]
    assert later == [20] * 7 + [16, 16]  # 28 were left, so that 4 more go each time


def test_a_part_of_a_job_is_kept_for_the_next_time() -> None:
    credit = pacing.Credit(now=0.0)
    assert [credit.spend(2, at, most=20) for at in (0.25, 0.5, 0.75, 1.0)] == [0, 1, 0, 1]


def test_nothing_is_saved_up_while_the_rate_is_zero() -> None:
    credit = pacing.Credit(now=0.0)
    assert credit.spend(0, 100.0, most=20) == 0
    assert credit.spend(64, 100.25, most=20) == 16


def test_the_plan_fails_its_share_of_any_ten_thousand_jobs() -> None:
    plan = FailurePlan(transient=30, poison=1)
    kinds = Counter(plan.kind(number) for number in range(777, 10_777))
    assert kinds == {"transient": 3000, "poison": 100, "": 6900}
    assert plan.kind(0) == "poison"  # its bucket is 0


def test_a_herd_of_one_time_goes_in_batches_of_five_hundred() -> None:
    batches = list(Herd("a", 1200, due=5000, spread=0).batches())
    assert [(len(numbers), due) for numbers, due in batches] == [
        (500, 5000),
        (500, 5000),
        (200, 5000),
    ]


def test_a_herd_that_is_spread_has_a_time_for_each_tenth_of_a_second() -> None:
    batches = list(Herd("a", 100, due=5000, spread=1000).batches())
    assert [due for _, due in batches] == list(range(5000, 6000, 100))
    assert [number for numbers, _ in batches for number in numbers] == list(range(100))


@pytest.mark.parametrize(
    ("concurrency", "cores", "shape"),
    [(32, 2, (2, 16)), (32, 24, (16, 2)), (7, 4, (1, 7)), (4, 4, (4, 1)), (1, 8, (1, 1))],
)
def test_exactly_so_many_jobs_run_at_once(
    concurrency: int, cores: int, shape: tuple[int, int]
) -> None:
    assert worker.shape(concurrency, cores) == shape


def test_percentiles_have_three_digits_and_are_of_values_that_were_there() -> None:
    histogram = tally.Histogram()
    for value in range(1, 10_001):
        histogram.add(value)
    assert histogram.percentiles() == {"p50": 5000, "p95": 9500, "p99": 9900}
    assert len(histogram.counts) < 3 * 900
    assert tally.Histogram().percentiles() == {"p50": 0, "p95": 0, "p99": 0}


def test_a_window_forgets_what_is_older() -> None:
    now = [100.0]
    window = tally.Window(clock=lambda: now[0])
    window.add(5000)
    now[0] += 29
    window.add(1)
    assert window.percentiles()["p99"] == 5000
    now[0] += 1
    assert window.percentiles()["p99"] == 1


def test_reports_come_through_a_pipe_in_any_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setenv(reports.VARIABLE, str(writer))
    heard: list[tuple[Event, float]] = []
    reports.tell(Event.STARTED, 0.5)
    whole = reports.RECORD.pack(Event.ENDED, 1.5)
    os.write(writer, whole[:4])
    hearing = threading.Thread(target=reports.hear, args=(reader, lambda *e: heard.append(e)))
    hearing.start()
    os.write(writer, whole[4:])
    os.close(writer)
    hearing.join(60)
    assert heard == [(Event.STARTED, 0.5), (Event.ENDED, 1.5)]


def test_a_run_does_not_fail_for_an_adapter_that_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setenv(reports.VARIABLE, str(writer))
    reports.tell(Event.ENDED)
    os.close(writer)
