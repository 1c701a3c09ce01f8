"""Taking a dead worker's rows back, and what counts as dead."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from background_task import signals
from background_task.models import CompletedTask, Task
from django.db import connection
from django.utils import timezone

from bgtasks import exceptions
from bgtasks.models import Attempt, Outcome, Worker
from bgtasks.queue import claims, rescue, workers
from tests.bgtasks.queue.helpers import TOKEN, claim, register, rows
from tests.harness.threads import in_threads

pytestmark = pytest.mark.django_db(transaction=True)


def test_p4_of_a_dead_child_what_had_begun_counts_and_the_rest_is_refunded() -> None:
    begun, *others = rows(3)
    claim()
    assert rescue.rescue("bg~000000000000.1-", "it died", begun={begun.pk}) == 3
    begun.refresh_from_db()
    assert (begun.attempts, begun.locked_by) == (1, None)
    assert begun.last_error == "Lost: it died while attempt 1 of this task ran."
    assert begun.run_at <= timezone.now(), "the first rescue is immediate"
    assert set(Task.objects.exclude(pk=begun.pk).values_list("attempts", flat=True)) == {0}
    assert Attempt.objects.get().task_id == begun.pk
    assert len(others) == 2


def test_only_the_named_childs_rows_are_rescued() -> None:
    rows(4)
    for child in (1, 11, 2):
        claim(1, f"bg~000000000000.{child}-1")
    assert rescue.rescue("bg~000000000000.1-", "it died", begun=()) == 1
    assert Task.objects.exclude(locked_by=None).count() == 2


def test_p4_later_rescues_back_off_and_the_third_loss_fails() -> None:
    rows(1)
    for loss in (1, 2, 3):
        Task.objects.update(run_at=timezone.now())
        claim()
        rescue.rescue("bg~000000000000.", "it died")
        if loss == 2:
            assert Task.objects.get().run_at > timezone.now() + timedelta(seconds=20)
    assert not Task.objects.exists()
    assert "cost 3 workers" in CompletedTask.objects.get().last_error
    assert Outcome.objects.get().state == "failed"
    assert list(Attempt.objects.values_list("number", "state")) == [(n, "lost") for n in (1, 2, 3)]


def test_a_row_that_cannot_be_taken_back_keeps_no_other_from_it() -> None:
    broken, other = rows(2)
    Task.objects.filter(pk=broken.pk).update(attempts=2)
    claim()
    lost = {"task_id": broken.pk, "state": "lost", "ended_at": timezone.now()}
    Attempt.objects.bulk_create(Attempt(number=number, **lost) for number in (1, 2))

    def end_the_transaction(**_: Any) -> None:
        connection.connection.rollback()  # behind Django's back

    signals.task_failed.connect(end_the_transaction)
    try:
        rescue.rescue("bg~000000000000.", "it died")
    finally:
        signals.task_failed.disconnect(end_the_transaction)
    assert Task.objects.get(locked_by=None).pk == other.pk
    assert Task.objects.get(locked_by=TOKEN).pk == broken.pk


def test_being_stopped_again_and_again_is_no_suspicion() -> None:
    rows(1)
    for _ in range(5):
        claim()
        rescue.rescue("bg~000000000000.", "it was deployed", stopped=True)
    row = Task.objects.get()
    assert not rescue.suspect(row)
    assert row.attempts == 5


def test_a_dead_worker_is_buried_once(settings: Any) -> None:
    rows(3)
    register("bg~000000000000")
    claim()
    (peer,) = workers.peers("another", 15)
    assert 10 < peer.left <= 15 + 0.001, "SQLite's julianday() is precise to 40 microseconds"
    assert not workers.bury(peer)
    Worker.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=16))

    def rescued(_: int) -> list[int] | None:
        steps = rescue.rescue_worker(peer)
        return None if steps is None else list(steps)

    found = in_threads(3, rescued)
    assert [steps for steps in found if steps is not None] == [[1, 1, 1]]
    assert Attempt.objects.count() == 3


def test_a_worker_whose_heartbeat_comes_in_time_is_not_buried() -> None:
    register("bg~000000000000")
    rows(1)
    claim()
    (peer,) = workers.peers("another", 15)
    assert rescue.rescue_worker(peer) is None
    assert Task.objects.get().locked_by == TOKEN


def test_a_heartbeat_renews_the_locks_and_fails_once_the_worker_is_buried() -> None:
    register("bg~000000000000")
    rows(1)
    claim()
    Task.objects.update(locked_at=timezone.now() - timedelta(hours=2))
    workers.beat("bg~000000000000")
    assert Task.objects.get().locked_at > timezone.now() - timedelta(minutes=1)
    Worker.objects.all().delete()
    with pytest.raises(exceptions.LeaseLost, match="declared dead"):
        workers.beat("bg~000000000000")


def test_claims_of_workers_that_nobody_knows_are_taken_back_after_the_lease() -> None:
    rows(2)
    claim(1)
    assert rescue.rescue_orphans(15) == 0
    Task.objects.exclude(locked_by=None).update(locked_at=timezone.now() - timedelta(seconds=30))
    assert rescue.rescue_orphans(15) == 1
    assert "not in the workers' table" in Attempt.objects.get().error


@pytest.mark.parametrize("name", ["4711", "bgweb1.example.com:1:2", "bg-1"])
def test_locks_of_others_are_taken_back_by_their_age_alone(name: str) -> None:
    rows(1)
    Task.objects.update(locked_by=name, locked_at=timezone.now() - timedelta(minutes=50))
    assert rescue.rescue_orphans(15) == claims.release_expired() == 0
    Task.objects.update(locked_at=timezone.now() - timedelta(minutes=70))
    assert claims.release_expired() == 1


def test_what_a_dead_childs_last_claim_left_behind_is_handed_back() -> None:
    rows(3)
    for child in (1, 2, 12):
        claim(1, f"bg~000000000000.{child}-5")
    assert rescue.release_strays("bg~000000000000", children=[1, 12]) == 1
    (free,) = Task.objects.filter(locked_by=None)
    assert free.attempts == 0
    assert rescue.release_strays("bg~000000000000", children=[1, 12]) == 0


def test_a_claim_whose_answer_was_lost_is_handed_back_by_its_living_child() -> None:
    known, unknown, elsewhere = rows(3)
    claim(2)
    claim(1, "bg~000000000000.11-1")
    assert claims.release_unknown("bg~000000000000.1-", {known.pk}) == 1
    unknown.refresh_from_db()
    assert (unknown.locked_by, unknown.attempts) == (None, 0)
    assert Task.objects.exclude(locked_by=None).count() == 2
    assert elsewhere.pk


def test_a_lost_hosts_rows_are_suspected_the_second_time_only() -> None:
    rows(1)
    for suspected in (False, True):
        claim()
        rescue.rescue("bg~000000000000.", "the host is lost")
        Task.objects.update(run_at=timezone.now())
        row = Task.objects.get()
        row.attempts += 1  # as the next claim will
        assert rescue.suspect(row) is suspected
