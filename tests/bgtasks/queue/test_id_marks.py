"""When a row was enqueued, as workers have seen it."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any

import pytest
from background_task.models import Task
from django.db import connection, transaction
from django.utils import timezone

from bgtasks.models import IdMark
from bgtasks.queue import database as db
from bgtasks.queue import id_marks, pruning, sequences
from bgtasks.queue.id_marks import IdWatch, Span
from tests.bgtasks.queue.helpers import rows
from tests.harness.deployment import Deployment
from tests.harness.waiting import eventually


def now() -> datetime:
    """The database's time, as exactly as a mark has it."""
    ((moment,),) = db.fetch(f"SELECT {db.clock()}")
    found = db.read_date(moment)
    assert found
    return found


@pytest.mark.django_db(transaction=True)
class TestOneProcess:
    @pytest.fixture(autouse=True)
    def watch(self, _empty: None) -> IdWatch:
        IdMark.objects.all().delete()
        return IdWatch()

    def test_a_row_was_enqueued_between_two_looks(self, watch: IdWatch) -> None:
        watch.look()
        first = now()
        row, *_, last = rows(3, schedule=timedelta(days=1))
        second = now()
        watch.look()
        for each in (row, last):
            span = id_marks.enqueued(each.pk)
            assert span.after
            assert span.by
            assert span.after <= first <= second <= span.by

    def test_the_bound_is_the_last_look_and_not_the_last_mark(self, watch: IdWatch) -> None:
        rows(1)
        watch.look()
        before = now()
        watch.look()
        (row,) = rows(1)
        watch.look()
        assert IdMark.objects.count() == 2
        after = id_marks.enqueued(row.pk).after
        assert after
        assert after >= before

    def test_what_no_worker_has_seen_is_not_known(self, watch: IdWatch) -> None:
        (row,) = rows(1)
        assert id_marks.enqueued(row.pk) == Span(None, None)
        watch.look()
        span = id_marks.enqueued(row.pk)
        assert (span.after, span.by) == (None, IdMark.objects.get().at)
        (newer,) = rows(1)
        assert id_marks.enqueued(newer.pk) == Span(span.by, None)

    def test_rows_that_are_gone_count(self, watch: IdWatch) -> None:
        (row,) = rows(1)
        Task.objects.all().delete()
        watch.look()
        assert id_marks.enqueued(row.pk).by

    def test_one_of_several_workers_makes_a_mark(self, watch: IdWatch) -> None:
        other = IdWatch()
        watch.look()
        other.look()
        (row,) = rows(1)
        watch.look()
        found = id_marks.enqueued(row.pk)
        other.look()
        rows(1)
        other.look()
        assert id_marks.enqueued(row.pk) == found
        assert IdMark.objects.count() == 3

    def test_marks_of_ids_that_come_again_are_dropped(self, watch: IdWatch) -> None:
        (row,) = rows(1)
        ago = timezone.now() - timedelta(minutes=2)
        IdMark.objects.create(task_id=row.pk + 1000, at=ago)
        young = IdMark.objects.create(task_id=row.pk + 2000, at=timezone.now())
        watch.look()
        assert list(IdMark.objects.all()) == [young]

    def test_no_id_comes_again_that_a_mark_has(self, watch: IdWatch) -> None:
        (row,) = rows(1)
        IdMark.objects.create(task_id=row.pk + 1000, at=timezone.now())
        sequences.lift(connection)
        (newer,) = rows(1)
        assert newer.pk > row.pk + 1000

    @pytest.mark.parametrize(("succeeded", "days"), [(7, 90), (None, 90), (3, 10)])
    def test_they_are_pruned_with_the_outcomes(self, succeeded: Any, days: int) -> None:
        for pk, age in enumerate((days + 1, days - 1)):
            IdMark.objects.create(task_id=pk, at=timezone.now() - timedelta(days=age))
        ages = [succeeded and timedelta(days=succeeded), timedelta(days=days)]
        assert sum(pruning.prune(dict(zip(("succeeded", "failed"), ages, strict=True)))) == 1
        assert IdMark.objects.get().pk == 1

    def test_the_rows_stand_for_a_sequence_that_cannot_be_read(self) -> None:
        (row,) = rows(1)
        sql, params = db.last_id(db.TASKS)
        with transaction.atomic():
            if db.on_postgresql():
                # All databases of a server have the same roles: another process may test this too.
                reader = f"bgtasks_reader_{secrets.token_hex(6)}"
                db.execute(f"CREATE ROLE {reader}")
                db.execute(f"GRANT SELECT ON {db.TASKS} TO {reader}")
                db.execute(f"SET LOCAL ROLE {reader}")
            else:
                db.execute("DELETE FROM sqlite_sequence WHERE name = %s", [db.TASKS])
            assert db.fetch(f"SELECT {sql}", params) == [(row.pk,)]
            transaction.set_rollback(True)


def test_a_worker_makes_marks(project: Deployment) -> None:
    project.run("tasks.work(1, schedule=3600)")
    project.worker()
    eventually(lambda: project.rows("bgtasks_idmark"), "the worker's first look")
    told = project.manage("tasks", "show", "1").stdout
    assert "enqueued" in told
    assert " by 20" in told
