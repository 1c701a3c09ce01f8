"""Tables for the tasks that succeeded within some days."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from background_task.models import CompletedTask
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models.signals import post_delete
from django.utils import timezone

from bgtasks import conf
from bgtasks.checks import history_can_be_partitioned
from bgtasks.models import Attempt, CallOptions, Outcome, Task
from bgtasks.queue import database as db
from bgtasks.queue import finish, outcomes, partitions, pruning, retrying
from bgtasks.queue.ending import Ending
from bgtasks.queue.id_marks import IdWatch
from tests.bgtasks.queue.helpers import claim, rows
from tests.harness.deployment import Deployment
from tests.harness.threads import in_threads
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.on_postgresql]

DAY = timedelta(days=1)
TODAY = datetime.now(UTC).date()


@pytest.fixture(autouse=True)
def partitioned(settings: Any) -> Iterator[None]:
    settings.BGTASKS_PARTITION_HISTORY = True
    yield
    for each in partitions.partitions():
        db.execute(f"DROP TABLE {', '.join(each.place)}")


def on(day: date, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to a day, with partitions for it."""
    monkeypatch.setattr(partitions, "_today", lambda: day)
    monkeypatch.setattr(partitions, "_day_here", lambda: day)
    partitions.prepare()


def succeed(count: int, days: int = 0, **options: Any) -> list[Task]:
    """Record tasks that succeeded so many days ago."""
    made = rows(count, **options)
    assert finish.record_successes([Ending(row) for row in claim()]) == []
    ago = timezone.now() - timedelta(days=days)
    Outcome.objects.filter(pk__in=[row.pk for row in made]).update(finished_at=ago)
    return made


def days() -> list[date]:
    return [each.first for each in partitions.partitions()]


def count(table: str) -> int:
    [(number,)] = db.fetch(f"SELECT COUNT(*) FROM ONLY {table}")
    return int(number)


def prune() -> list[int]:
    return list(pruning.prune(conf.retention()))


def test_successes_go_into_the_tables_of_the_day_and_everybody_finds_them() -> None:
    partitions.prepare()
    assert days() == [TODAY, TODAY + DAY]
    [row] = succeed(1)
    place = partitions.place()
    assert place.outcomes == f"bgtasks_outcome_{TODAY:%Y%m%d}"
    assert [count(table) for table in (*place, *partitions.MAIN)] == [1, 1, 0, 0]
    assert Outcome.objects.get().completed_id == CompletedTask.objects.get().pk
    state = outcomes.find(row.pk)
    assert state is not None
    assert state.outcome == "succeeded"
    assert outcomes.forget(row.pk)
    assert [count(table) for table in place] == [0, 0]


def test_what_does_not_succeed_goes_into_the_main_tables() -> None:
    partitions.prepare()
    rows(2)
    failed, cancelled = claim()
    finish.record_alone(Ending(failed, Attempt.State.FAILED, "no"))
    finish.record_alone(Ending(cancelled, cancelled=True, error="no"))
    assert [count(table) for table in partitions.MAIN] == [2, 2]
    assert retrying.retry([failed.pk])
    assert Task.objects.count() == 1


def test_successes_with_receivers_go_there_too() -> None:
    partitions.prepare()
    rows(1)
    finish.record_with_receivers([Ending(row) for row in claim()])
    assert [count(table) for table in partitions.place()] == [1, 1]


def test_a_table_with_another_name_that_inherits_is_none() -> None:
    partitions.prepare()
    for name in ("bgtasks_outcome_20261399", "bgtasks_outcome_old"):
        db.execute(f"CREATE TABLE {name} () INHERITS (bgtasks_outcome)")
    try:
        assert days() == [TODAY, TODAY + DAY]
    finally:
        db.execute("DROP TABLE bgtasks_outcome_20261399, bgtasks_outcome_old")


def test_without_the_setting_the_main_tables_get_all(settings: Any) -> None:
    partitions.prepare()
    settings.BGTASKS_PARTITION_HISTORY = False
    succeed(1)
    assert [count(table) for table in partitions.MAIN] == [1, 1]


def test_a_partition_is_dropped_as_a_whole_with_all_that_is_kept_of_its_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pruning, "BATCH_OF_STATEMENT", 2)
    on(TODAY - 9 * DAY, monkeypatch)
    old = succeed(5, days=9)
    on(TODAY, monkeypatch)
    [young] = succeed(1)
    for row in (*old, young):
        CallOptions.objects.update_or_create(pk=row.pk, defaults={"options": "{}"})
        for number in (1, 2):
            Attempt.objects.create(
                task_id=row.pk, number=number, state="failed", ended_at=timezone.now(), error="e"
            )
    # Two at a time: the call options in three batches, then the attempts in three. Then the
    # partition. The one that was made for the day after it is empty.
    assert prune() == [2, 2, 1, 2, 2, 1, 5]
    assert days() == [TODAY, TODAY + DAY]
    assert [each.pk for each in Outcome.objects.all()] == [young.pk]
    assert CompletedTask.objects.count() == 1
    assert [each.pk for each in CallOptions.objects.all()] == [young.pk]
    assert {each.task_id for each in Attempt.objects.all()} == {young.pk}


def test_a_partition_with_one_young_task_keeps_it_and_loses_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on(TODAY - 9 * DAY, monkeypatch)
    succeed(2, days=9)
    [young] = succeed(1, days=-300)  # by a clock that is wrong
    on(TODAY, monkeypatch)
    assert sum(prune()) == 2
    assert [each.pk for each in Outcome.objects.all()] == [young.pk]
    assert CompletedTask.objects.count() == 1


@pytest.mark.parametrize(("ago", "dropped"), [(1, 0), (2, 2)])
def test_a_partition_stays_while_it_may_still_be_written(
    ago: int, dropped: int, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.BGTASKS_RETENTION = {"succeeded": DAY}
    on(TODAY - ago * DAY, monkeypatch)
    succeed(2, days=9)  # by a clock that is wrong
    on(TODAY, monkeypatch)
    assert sum(prune()) == dropped
    assert (TODAY - ago * DAY in days()) == (not dropped)


def test_completed_tasks_whose_outcomes_were_deleted_are_kept_as_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on(TODAY - 3 * DAY, monkeypatch)
    succeed(2, days=3)
    Outcome.objects.all().delete()
    on(TODAY, monkeypatch)
    assert sum(prune()) == 0
    assert CompletedTask.objects.count() == 2


def test_the_command_deletes_to_the_moment_if_it_is_told_an_age() -> None:
    partitions.prepare()
    succeed(3)
    call_command("prune_tasks", verbosity=0)
    assert Outcome.objects.count() == 3
    call_command("prune_tasks", "--older-than", "0", verbosity=0)
    assert [count(table) for table in partitions.place()] == [0, 0]


def test_within_a_transaction_rows_are_deleted_and_nothing_stays_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on(TODAY - 9 * DAY, monkeypatch)
    succeed(3, days=9)
    on(TODAY, monkeypatch)
    before = db.fetch("SHOW lock_timeout")
    with transaction.atomic():
        assert sum(prune()) == 3
        assert db.fetch("SHOW lock_timeout") == before
    assert TODAY - 9 * DAY in days()
    assert not CompletedTask.objects.exists()


def test_several_workers_may_prune_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for ago in (12, 11, 10, 9):
        on(TODAY - ago * DAY, monkeypatch)
        succeed(5, days=ago)
        CallOptions.objects.bulk_create(
            [CallOptions(pk=each.pk, options="{}") for each in Outcome.objects.all()],
            ignore_conflicts=True,
        )
    on(TODAY, monkeypatch)
    in_threads(6, lambda _: prune())
    prune()  # what one of them had to leave
    assert days() == [TODAY, TODAY + DAY]
    assert not CompletedTask.objects.exists()
    assert not CallOptions.objects.exists()


def test_what_somebody_has_made_a_failure_is_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    on(TODAY - 9 * DAY, monkeypatch)
    [row] = succeed(1, days=9)
    Outcome.objects.update(state="failed")
    on(TODAY, monkeypatch)
    assert sum(prune()) == 0
    assert Outcome.objects.get().pk == row.pk


def test_rows_that_were_there_before_are_pruned_one_by_one(settings: Any) -> None:
    settings.BGTASKS_PARTITION_HISTORY = False
    succeed(3, days=8)
    settings.BGTASKS_PARTITION_HISTORY = True
    partitions.prepare()
    assert prune() == [3]


def test_whoever_watches_deletions_sees_each(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def see(instance: CompletedTask, **_: object) -> None:
        seen.append(instance.pk)

    on(TODAY - 9 * DAY, monkeypatch)
    succeed(3, days=9)
    on(TODAY, monkeypatch)
    post_delete.connect(see, sender=CompletedTask)
    try:
        assert sum(prune()) == 3
    finally:
        post_delete.disconnect(see, sender=CompletedTask)
    assert len(seen) == 3
    assert days() == [TODAY, TODAY + DAY]  # those that are empty now have gone too


def test_a_partition_that_is_being_read_is_dropped_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", 1)
    on(TODAY - 9 * DAY, monkeypatch)
    succeed(3, days=9)
    on(TODAY, monkeypatch)
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as reader:
        reader.execute("SELECT * FROM background_task_completedtask")
        assert prune() == [0] * partitions.TRIES
        assert Outcome.objects.count() == 3
    assert sum(prune()) == 3


def test_several_workers_may_make_them_at_once() -> None:
    in_threads(4, lambda _: partitions.prepare())
    assert days() == [TODAY, TODAY + DAY]


@pytest.fixture
def little() -> Iterator[str]:
    """A role that may change all rows, and make or drop no table."""
    # All databases of a server have the same roles, and another process tests in another database.
    role = f"bgtasks_may_little_{secrets.token_hex(6)}"
    for sql in (
        f"CREATE ROLE {role}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
    ):
        db.execute(sql)
    yield role
    for sql in ("RESET ROLE", f"DROP OWNED BY {role}", f"DROP ROLE {role}"):
        db.execute(sql)


def test_a_role_that_may_make_no_tables_is_told_and_goes_on(
    little: str, caplog: pytest.LogCaptureFixture
) -> None:
    db.execute(f"SET ROLE {little}")
    with caplog.at_level(logging.WARNING):
        partitions.prepare()
    succeed(1)
    assert "BGTASKS_PARTITION_HISTORY needs a role that owns these two tables" in caplog.text
    assert [count(table) for table in partitions.MAIN] == [1, 1]


def test_the_rights_that_the_docs_name_suffice(little: str) -> None:
    """docs/operating/scaling.md, with the rights on the rows that a worker has anyway."""
    [(we,)] = db.fetch("SELECT current_user")
    db.execute(f"REVOKE UPDATE ON ALL SEQUENCES IN SCHEMA public FROM {little}")
    for table in partitions.MAIN:
        db.execute(f"ALTER TABLE {table} OWNER TO {little}")
    db.execute(f"GRANT CREATE ON SCHEMA public TO {little}")
    try:
        db.execute(f"SET ROLE {little}")
        partitions.prepare()
        succeed(1)
        assert [count(table) for table in partitions.place()] == [1, 1]
        assert partitions.place() != partitions.MAIN
    finally:
        db.execute("RESET ROLE")
        db.execute(f"REASSIGN OWNED BY {little} TO {we}")


def test_a_role_that_may_not_read_the_sequence_looks_at_the_ids_all_the_same(
    little: str, settings: Any
) -> None:
    settings.BGTASKS_PARTITION_HISTORY = False
    [(sequence,)] = db.fetch("SELECT pg_get_serial_sequence('background_task', 'id')")
    db.execute(f"REVOKE ALL ON SEQUENCE {sequence} FROM {little}")
    rows(2)
    db.execute(f"SET ROLE {little}")
    watch = IdWatch()
    watch.look()
    finish.record_successes([Ending(row) for row in claim()])
    watch.look()


def test_tables_of_another_role_are_left_alone(
    little: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(TODAY - 9 * DAY, monkeypatch)
    succeed(1, days=9)
    on(TODAY, monkeypatch)
    db.execute(f"SET ROLE {little}")
    partitions._forget()
    succeed(1)
    assert sum(prune()) == 0
    assert "permission denied" in caplog.text
    assert Outcome.objects.count() == 2
    assert [count(table) for table in partitions.MAIN] == [1, 1]


def test_a_table_that_something_depends_on_loses_its_rows(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(TODAY - 9 * DAY, monkeypatch)
    succeed(1, days=9)
    [first, *_] = partitions.partitions()
    on(TODAY, monkeypatch)
    db.execute(f"CREATE VIEW of_a_day AS SELECT * FROM {first.place.outcomes}")
    try:
        assert sum(prune()) == 1
    finally:
        db.execute("DROP VIEW of_a_day")
    assert "view of_a_day depends on table" in caplog.text
    assert not CompletedTask.objects.exists()


def test_many_tasks_are_counted_by_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "COUNTED", 0)
    on(TODAY - 9 * DAY, monkeypatch)
    succeed(3, days=9)
    on(TODAY, monkeypatch)
    db.execute("ANALYZE")
    assert sum(prune()) == 3


def test_a_table_that_is_locked_is_made_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "MAKE_TIMEOUT", 1)
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as other:
        other.execute("LOCK TABLE bgtasks_outcome IN EXCLUSIVE MODE")
        partitions.prepare()
        assert "could not be made" in caplog.text
        assert "tried again in ten minutes" in caplog.text
    partitions.prepare()
    assert days() == [TODAY, TODAY + DAY]


@pytest.mark.parametrize(
    ("kept", "first", "next_"),
    [(7, "2026-11-28", "2026-11-29"), (90, "2026-11-27", "2026-11-30")],
)
def test_partitions_cover_more_days_if_successes_are_kept_for_long(
    kept: int, first: str, next_: str, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.BGTASKS_RETENTION = {"succeeded": timedelta(days=kept)}
    on(date(2026, 11, 28), monkeypatch)
    assert list(map(str, days())) == [first, next_]
    succeed(1)
    assert [count(table) for table in partitions.place()] == [1, 1]
    assert partitions.place() == partitions.partitions()[0].place


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        (None, "keeps tasks that succeeded for ever"),
        (timedelta(hours=23), "for less than a day"),
    ],
)
def test_what_makes_them_impossible_is_said(
    kept: timedelta | None, reason: str, settings: Any
) -> None:
    settings.BGTASKS_RETENTION = {"succeeded": kept}
    partitions.prepare()
    assert days() == []
    [warning] = history_can_be_partitioned()
    assert reason in warning.msg


def test_a_foreign_key_to_completed_tasks_makes_them_impossible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not history_can_be_partitioned()
    partitions.prepare()
    monkeypatch.setattr(
        partitions, "referring", lambda model: ["shop.Receipt"] if model is CompletedTask else []
    )
    succeed(1)
    assert [count(table) for table in partitions.MAIN] == [1, 1]
    [warning] = history_can_be_partitioned()
    assert "shop.Receipt has a foreign key to CompletedTask" in warning.msg


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            "CREATE TABLE refers (id integer REFERENCES background_task_completedtask (id))",
            "the foreign key refers_id_fkey of refers refers to background_task_completedtask",
        ),
        (
            "CREATE TRIGGER watches AFTER INSERT ON bgtasks_outcome FOR EACH ROW "
            "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "bgtasks_outcome has the trigger watches",
        ),
    ],
)
def test_what_would_not_hold_for_them_makes_them_impossible(
    make: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with suppress(Rollback), transaction.atomic():
        db.execute(make)
        partitions.prepare()
        assert days() == []
        raise Rollback
    assert told in caplog.text
    partitions.prepare()
    assert days() == [TODAY, TODAY + DAY]
    with suppress(Rollback), transaction.atomic():
        db.execute(make)
        assert partitions.place() == partitions.MAIN
        raise Rollback


class Rollback(Exception):
    pass


def restart_ids() -> None:
    for table in (db.TASKS, db.COMPLETED):
        db.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), 1)")


def test_ids_that_are_known_do_not_come_again() -> None:
    succeed(2)
    restart_ids()
    partitions.prepare()
    succeed(2)
    assert Outcome.objects.values("pk").distinct().count() == 4
    assert CompletedTask.objects.values("pk").distinct().count() == 4


def test_a_worker_that_sees_the_ids_begin_anew_sets_them_right() -> None:
    partitions.prepare()
    watch = IdWatch()
    watch.look()
    succeed(3)
    watch.look()
    restart_ids()
    watch.look()
    succeed(3)
    assert Outcome.objects.values("pk").distinct().count() == 6


@pytest.mark.parametrize("name", ["task_id", "completed_id"])
@pytest.mark.parametrize("odd", [2**31 - 1, 2**40])
def test_an_id_that_no_sequence_has_given_out_stops_nothing(name: str, odd: int) -> None:
    Outcome.objects.create(
        **{"task_id": 1, "completed_id": 1, name: odd},
        state="succeeded", attempts=1, finished_at=timezone.now() - 30 * DAY,
    )  # fmt: skip
    partitions.prepare()
    assert days() == [TODAY, TODAY + DAY]
    succeed(1)
    assert sum(prune()) == 1


def test_a_worker_makes_them_and_lives_with_their_loss(project: Deployment) -> None:
    project.settings |= {"BGTASKS_PARTITION_HISTORY": True, "BGTASKS_LEASE": 1}
    worker = project.worker()
    made = "relkind = 'r' AND relname ~ '^b.*_[0-9]{8}$'"
    tables = eventually(
        lambda: found if len(found := project.rows("pg_class", made)) == 4 else [],
        "two tables for two days",
    )
    project.run("tasks.work('first')")
    today = f"bgtasks_outcome_{datetime.now(UTC):%Y%m%d}"
    eventually(lambda: project.rows(today), "the outcome in the table of the day")
    project.database.query(f"DROP TABLE {', '.join(each['relname'] for each in tables)}")
    project.run("tasks.work('second')")
    eventually(lambda: project.rows("bgtasks_outcome"), "the outcome in the main table")
    assert project.rows("bgtasks_outcome")[0]["state"] == "succeeded"
    worker.stop()
