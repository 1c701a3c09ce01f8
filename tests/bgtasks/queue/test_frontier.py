"""Reading the queue on from where the last claim ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from background_task.models import Task
from django.db import connection, transaction
from django.utils import timezone

from bgtasks.queue import claims, frontier
from bgtasks.queue import database as db
from bgtasks.queue.frontier import Frontier
from signup.tasks import discard_files as task

pytestmark = pytest.mark.django_db(transaction=True)
TOKEN = "bg~000000000000.1-1"
# SQLite's julianday() is a float of days, precise to some 40 microseconds.
PRECISION = 0.001


@pytest.fixture
def seldom_from_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontier, "REST", 1e9)


def ids(rows: list[Task]) -> list[int]:
    return [row.pk for row in rows]


def reader(**options: Any) -> Frontier:
    return Frontier([task.name], **options)


@contextmanager
def statements() -> Iterator[list[str]]:
    found: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        found.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield found


def test_claims_go_on_where_the_last_one_ended(seldom_from_the_head: None) -> None:
    made = [task([str(n)], priority=n % 2) for n in range(20)]
    queue, taken = reader(), []
    while rows := queue.take(TOKEN, 3):
        taken += ids(rows)
    assert taken == ids(made[1::2]) + ids(made[::2]), "by priority, then the oldest first"


def test_a_row_that_arrives_behind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontier, "REST", 0)
    for number in range(4):
        task([str(number)])
    queue = reader()
    assert len(queue.take(TOKEN, 2)) == 2
    late = task(["late"], schedule=timezone.now() - timedelta(hours=1))
    assert ids(queue.take(TOKEN, 1)) == [late.pk]


def test_a_row_committed_late_is_found_without_reading_from_the_head(
    seldom_from_the_head: None,
) -> None:
    task(["first"])
    queue = reader()
    assert len(queue.take(TOKEN, 5)) == 1
    late = task(["late"], schedule=timezone.now() - timedelta(seconds=2))
    queue._read_levels_at = 0
    assert ids(queue.take(TOKEN, 5)) == [late.pk]


def test_p6_rows_of_others_at_the_head_are_not_read_again_and_again(
    seldom_from_the_head: None,
) -> None:
    old = timezone.now() - timedelta(hours=1)
    for number in range(5):
        task([str(number)], schedule=old)
    Task.objects.update(task_name="unknown")
    mine = [task([str(n)], schedule=old + timedelta(seconds=n + 1)) for n in range(4)]
    queue = reader()
    assert ids(queue.take(TOKEN, 2)) == ids(mine[:2])
    with statements() as made:
        assert ids(queue.take(TOKEN, 2)) == ids(mine[2:])
    assert ["(run_at, id) >" in sql for sql in made] == [True]


def test_p6_nothing_but_rows_of_others_is_looked_at_seldom(seldom_from_the_head: None) -> None:
    task(["a"])
    Task.objects.update(task_name="unknown")
    queue, claims_made = reader(), []
    for _ in range(3):
        with statements() as made:
            queue._read_levels_at = 0
            assert queue.take(TOKEN, 1) == []
        claims_made.append([sql for sql in made if "UPDATE" in sql])
    from_head, after, none = claims_made
    assert "(run_at, id) >" not in from_head[0]
    assert "(run_at, id) >" in after[0]
    assert none == []


def test_the_pause_before_a_claim_is_not_taken_for_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticks = count()
    clock = [0.0]
    monkeypatch.setattr(frontier, "elapsed", lambda: clock[0] + next(ticks))

    @contextmanager
    def writing() -> Iterator[Any]:
        clock[0] += 1000
        yield lambda _: None

    task(["a"])
    Task.objects.update(task_name="nobody.knows")
    queue = reader(writing=writing)
    assert queue.take(TOKEN, 3) == []  # from the head of the level
    (level,) = queue._levels.values()
    assert 0 < level.from_head_at < clock[0] + 1000
    level.from_head_at = 1e9
    assert queue.take(TOKEN, 3) == []  # at the frontier
    assert 0 < level.rest_until < clock[0] + 1000


def test_what_was_not_read_from_the_head_is_not_certain(seldom_from_the_head: None) -> None:
    task(["a"])
    Task.objects.update(task_name="unknown")
    queue = reader()
    assert queue.take(TOKEN, 1) == []
    assert queue.certain
    queue._read_levels_at = 0
    assert queue.take(TOKEN, 1) == []
    assert not queue.certain
    assert queue.due_in is not None, "it says when it may read from there again"


def test_it_knows_when_the_next_row_is_due() -> None:
    task(["tomorrow"], schedule=86400, priority=3)
    task(["soon"], schedule=30)
    queue = reader()
    assert queue.take(TOKEN, 1) == []
    assert queue.due_in is not None
    assert 20 < queue.due_in <= 30 + PRECISION
    Task.objects.filter(priority=0).delete()
    queue._read_levels_at = 0
    assert queue.take(TOKEN, 1) == []
    assert queue.due_in == pytest.approx(frontier.HORIZON.total_seconds())


def test_it_knows_that_behind_an_old_row_of_an_unknown_task_too() -> None:
    task(["unknown"])
    Task.objects.update(task_name="unknown")
    task(["soon"], schedule=30)
    queue = reader()
    assert queue.take(TOKEN, 1) == []
    assert queue.due_in is not None
    assert 20 < queue.due_in <= 30 + PRECISION


def test_many_priorities_of_which_nothing_is_ready_hide_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frontier, "LEVELS", 5)
    for number in range(1, 13):
        task([str(number)], priority=number, schedule=3600)
    ready = task(["ready"])
    assert ids(reader().take(TOKEN, 1)) == [ready.pk]


def test_of_several_queues_the_most_urgent_rows_come_first() -> None:
    low = task(["low"], queue="a")
    high = task(["high"], queue="b", priority=5)
    task(["elsewhere"], queue="c", priority=9)
    assert ids(reader(queues=["a", "b"]).take(TOKEN, 5)) == [high.pk, low.pk]


def test_nice_values_turn_the_order_round(settings: Any) -> None:
    settings.BACKGROUND_TASK_PRIORITY_ORDERING = "ASC"
    made = [task([str(n)], priority=n) for n in (3, 1, 2)]
    assert ids(reader().take(TOKEN, 2)) == [made[1].pk, made[2].pk]


def test_many_priorities_are_all_served() -> None:
    made = [task([str(n)], priority=n) for n in range(frontier.LEVELS + 5)]
    queue, taken = reader(), []
    while rows := queue.take(TOKEN, 100):
        taken += ids(rows)
    assert taken == ids(made)[::-1]


@pytest.mark.parametrize(
    ("queues", "index", "other"),
    [
        (None, "bgtasks_ready", "bgtasks_ready_in_queue"),
        (["a"], "bgtasks_ready_in_queue", "bgtasks_ready"),
    ],
)
def test_p6_claims_and_looks_read_an_index(
    queues: list[str] | None, index: str, other: str
) -> None:
    """Without the other index, which serves a table of one queue as well, and without sorting."""
    for number in range(50):
        task([str(number)], queue="a")
    queue = reader(queues=queues)
    queue.take(TOKEN, 2)
    level = next(iter(queue._levels.values()))
    claim = frontier._claim_sql(level, level.after, queue._names, None, timezone.now(), TOKEN, 5)
    with transaction.atomic():
        db.execute(f"DROP INDEX {other}")
        for sql, params in (claim, frontier._levels_sql(level.queue)):
            plan = explain(sql, params)
            assert f"{index} " in plan
            assert "Seq Scan on background_task" not in plan
            assert "SCAN background_task\n" not in plan
        transaction.set_rollback(True)


def explain(sql: str, params: list[Any]) -> str:
    """The plan of a statement, whatever the planner thinks of a small table."""
    prefix = "EXPLAIN" if db.on_postgresql() else "EXPLAIN QUERY PLAN"
    if db.on_postgresql():
        db.execute("ANALYZE background_task")
        db.execute("SET LOCAL enable_seqscan = off")
        db.execute("SET LOCAL enable_sort = off")
    return "\n".join(str(row[-1]) for row in db.fetch(f"{prefix} {sql}", params)) + "\n"


def test_rows_of_unknown_tasks_are_named() -> None:
    task(["a"])
    Task.objects.update(task_name="unknown")
    assert claims.unknown([task.name]) == ["unknown"]
