"""How the queues are now."""

from __future__ import annotations

from datetime import timedelta

import pytest
from background_task.models import Task
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bgtasks.operations import queues
from bgtasks.operations.queues import QueueState
from bgtasks.queue import pauses
from tests.bgtasks.queue.helpers import claim, rows

pytestmark = pytest.mark.django_db


def states() -> dict[str, QueueState]:
    return {state.name: state for state in queues.states()}


def late(count: int, seconds: float, **options: str) -> list[Task]:
    return rows(count, schedule=timezone.now() - timedelta(seconds=seconds), **options)


def test_what_waits_and_runs_in_each_queue() -> None:
    late(1, 100)
    claim(1)
    late(2, 60)
    late(3, 30, queue="emails")
    rows(4, queue="emails", schedule=timezone.now() + timedelta(hours=1))
    pauses.pause("reports", "zoe")
    found = states()
    assert list(found) == ["", "emails", "reports"]
    assert [str(found[""].waiting), str(found[""].running)] == ["2", "1"]
    assert 60 <= (found[""].oldest or 0) < 90
    assert [str(found["emails"].waiting), str(found["emails"].scheduled)] == ["3", "4"]
    assert found["reports"].pause is not None
    assert found["reports"].pause.by == "zoe"
    assert found["reports"].oldest is None


def test_no_count_goes_beyond_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "MOST", 5)
    monkeypatch.setattr(queues, "_FIRST", "ORDER BY priority, run_at, id LIMIT 5")
    late(8, 100)
    late(3, 60, queue="few")
    late(7, 30, queue="many")
    with CaptureQueriesContext(connection) as queries:
        found = states()
    assert str(found[""].waiting) == "5+"
    assert str(found["few"].waiting) == "3"
    assert str(found["many"].waiting) == "5+"
    assert 30 <= (found["many"].oldest or 0) < 60
    assert len(queries) <= 8


def test_a_date_that_cannot_be_read_hides_no_queue() -> None:
    (row,) = late(1, 10)
    odd = "-infinity" if connection.vendor == "postgresql" else "1 day ago"
    with connection.cursor() as cursor:
        cursor.execute("UPDATE background_task SET run_at = %s WHERE id = %s", [odd, row.pk])
    assert str(states()[""].waiting) == "1"
    assert states()[""].oldest is None
