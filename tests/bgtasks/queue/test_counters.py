"""What workers count of their runs, and how it gets into the table."""

from __future__ import annotations

import time
from collections import Counter as Bag
from datetime import datetime, timedelta
from typing import Any

import pytest
from background_task.models import Task
from django.db import OperationalError
from django.utils import timezone

from bgtasks import conf
from bgtasks.models import CELLS, HISTOGRAMS, Attempt, Counter
from bgtasks.queue import counters, pruning
from bgtasks.queue import database as db
from bgtasks.queue.counters import COUNTED, ENDINGS, MINUTE, Counts
from bgtasks.queue.ending import Ending
from tests.harness.deployment import Deployment

WIDTHS = tuple(counters.KEPT)


def totals(project: Deployment, width: int) -> dict[str, Bag[str]]:
    """What was counted of each task for spans of this width, without what is zero."""
    found: dict[str, Bag[str]] = {}
    for row in project.rows("bgtasks_counter", f"width = {width}"):
        counted = Bag({name: row[name] for name in COUNTED if row[name]})
        found.setdefault(row["name"].rpartition(".")[2], Bag()).update(counted)
    return found


def endings(counted: Bag[str]) -> dict[str, int]:
    return {name: counted[name] for name in ENDINGS if counted[name]}


def durations(counted: Bag[str], what: str) -> int:
    cells = [name for name in HISTOGRAMS if name.startswith(f"{what}_")]
    return sum(counted[name] for name in cells)


def test_a_drain_counts_each_run_by_its_ending(project: Deployment) -> None:
    project.run(
        "for n in range(30): tasks.work(n)\n"
        "tasks.fail('once')\n"
        "tasks.fail_often('a')\n"
        "tasks.work.apply_async(args=['late'], expires=0)"
    )
    project.drain()
    for width in WIDTHS:
        found = totals(project, width)
        assert endings(found["work"]) == {"succeeded": 30, "cancelled": 1}
        assert endings(found["fail"]) == {"retried": 1}
        assert endings(found["fail_often"]) == {"retried": 2, "failed": 1}
        for what in ("waited", "ran"):
            assert durations(found["work"], what) == 30, "what was cancelled did not run"
            assert durations(found["fail_often"], what) == 3


def test_all_workers_share_the_counters_of_long_spans(project: Deployment) -> None:
    for _ in range(2):
        project.run("tasks.work(1)")
        project.drain()
    rows = project.rows("bgtasks_counter")
    assert {row["worker"] for row in rows if row["width"] != MINUTE} == {""}
    assert len({row["worker"] for row in rows if row["width"] == MINUTE}) == 2
    assert totals(project, WIDTHS[-1])["work"]["succeeded"] == 2


def test_a_run_that_was_ended_with_its_process_counts_as_failed(project: Deployment) -> None:
    project.run("tasks.endless_without_limit.apply_async(args=['a'], timeout=0.5)")
    project.drain()
    assert endings(totals(project, WIDTHS[-1])["endless_without_limit"]) == {"retried": 1}


def ending(**values: Any) -> Ending:
    row = Task(task_name="a.task", queue=None)
    return Ending(row, **{"waited": 2.0, "ran": 0.003, **values})


def counted() -> Counter:
    return Counter.objects.get(width=WIDTHS[-1])


@pytest.fixture
def counts(transactional_db: None) -> Counts:
    return Counts("bg~000000000000")


def test_what_is_flushed_is_added(counts: Counts) -> None:
    for number in (2, 3):
        counts.count(ending() for _ in range(number))
        counts.flush()
    counts.flush()
    assert counted().succeeded == counted().ran_2 == counted().waited_11 == 5


def test_how_long_a_row_has_waited_is_read_from_its_date(settings: Any) -> None:
    now = timezone.now()
    due = (now - timedelta(seconds=2)).isoformat(sep=" ")
    if not db.on_postgresql():
        due = due.removesuffix("+00:00")
    assert counters.waited(due, now) == 2
    assert counters.waited("", now) is counters.waited(due, None) is None
    for odd in ("-infinity", "soon", "9999-99-99 00:00:00"):
        assert counters.waited(odd, now) is None
    settings.USE_TZ = False
    zone = "+01:00" if db.on_postgresql() else ""
    naive = datetime(2026, 11, 27, 1, 0, 3)  # noqa: DTZ001
    assert counters.waited(f"2026-11-27 01:00:00{zone}", naive) == 3


def test_a_run_that_waited_nobody_knows_how_long_is_counted(counts: Counts) -> None:
    counts.count([ending(waited=None) for _ in range(3)])
    counts.flush()
    assert (counted().succeeded, counted().ran_2) == (3, 3)
    assert sum(getattr(counted(), f"waited_{cell}") for cell in range(CELLS)) == 0


@pytest.mark.parametrize(
    "values",
    [
        {"snoozed": True, "delay": timedelta(1)},
        {"state": Attempt.State.STOPPED, "delay": timedelta(0)},
    ],
)
def test_a_run_that_is_no_attempt_is_not_counted(counts: Counts, values: dict[str, Any]) -> None:
    counts.count([ending(ran=None, **values)])
    counts.flush()
    assert not Counter.objects.exclude(**dict.fromkeys(ENDINGS, 0)).exists()


def test_a_flush_that_fails_keeps_what_was_counted(
    counts: Counts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise OperationalError("database is locked")

    counts.count([ending()])
    with monkeypatch.context() as patched:
        patched.setattr(counters, "_write", refuse)
        counts.flush()
        counts.count([ending()])
        counts.flush()
    assert caplog.text.count("is written later: database is locked") == 1
    counts.flush()
    assert counted().succeeded == 2


def test_what_is_counted_while_the_database_is_away_does_not_grow_for_ever(
    counts: Counts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(counters, "MOST", 1)
    with monkeypatch.context() as patched:
        patched.setattr(counters, "_write", refuse)
        counts.count([ending(), Ending(Task(task_name="another"))])
        counts.flush()
    assert "is dropped" in caplog.text
    counts.flush()
    assert not Counter.objects.exists()


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("seconds", "cell"),
    [
        (-1, 0), (0, 0), (0.0009, 0), (0.001, 1), (0.0019, 1), (0.002, 2), (1, 10),
        (40 * 3600, CELLS - 1), (1e12, CELLS - 1),
    ],
)  # fmt: skip
def test_the_cell_of_a_duration(seconds: float, cell: int) -> None:
    assert counters.cell_of(seconds) == cell


def test_old_counters_are_pruned_by_their_width(transactional_db: None) -> None:
    now = int(time.time())
    for width, age in counters.KEPT.items():
        for start in (now, now - age + 60, now - age - 60):
            Counter.objects.create(width=width, start=start, queue="", name="t", worker="")
    list(pruning.prune(conf.retention()))
    kept = Bag(Counter.objects.values_list("width", flat=True))
    assert kept == dict.fromkeys(WIDTHS, 2)
