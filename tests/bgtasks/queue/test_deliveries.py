"""Rows that a relay holds wait: for whoever counts, cancels, changes or pauses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from background_task.models import Task

from bgtasks import AsyncResult
from bgtasks.operations import queues
from bgtasks.queue import acting, claims, deliveries, enqueue, outcomes, pauses, repeat
from bgtasks.queue.claims import Claimant
from signup.tasks import discard_files as task
from tests.bgtasks.queue.helpers import register

pytestmark = pytest.mark.django_db(transaction=True)

RELAY = Claimant("bg~000000000000", deliveries.RELAY)
FLEET = Claimant("bg~111111111111", 1)


@pytest.fixture(autouse=True)
def fleet() -> None:
    register(FLEET.worker)


def published(**options: Any) -> Task:
    """A row that a relay has claimed."""
    made = task(["x"], **options)
    [row] = claims.claim(RELAY.claim(1), [task.name], 1)
    assert (row.pk, row.attempts) == (made.pk, 0)
    return row


def take_over(row: Task) -> int | None:
    """Take it over, as a process of the fleet does. Returns how many attempts it has then."""
    token = str(row.locked_by)
    taken = deliveries.take_over(row.pk, token, FLEET.claim(1), FLEET.worker)
    return taken.row.attempts if taken else None


def test_an_attempt_is_counted_when_the_row_is_taken_over() -> None:
    row = published()
    assert take_over(row) == 1
    assert take_over(row) is None  # the same message a second time
    row.refresh_from_db()
    assert claims.release([row]) == 1
    row.refresh_from_db()
    assert (row.locked_by, row.attempts) == (None, 0)


def test_one_that_is_handed_back_has_no_attempt_less() -> None:
    row = published()
    Task.objects.update(attempts=3)
    assert claims.release([row]) == 1
    row.refresh_from_db()
    assert (row.locked_by, row.attempts) == (None, 3)


def test_it_is_waiting_for_operators(settings: Any) -> None:
    settings.BGTASKS_ENGINE = "celery"
    row = published(queue="q")
    task(["y"], queue="q")
    [state] = queues.states()
    assert (state.waiting.number, state.running.number) == (2, 0)
    assert state.oldest is not None
    assert AsyncResult(row.pk).status == "PENDING"
    claims.claim(RELAY.claim(2), [task.name], 1)
    [state] = queues.states()
    assert (state.waiting.number, state.running.number) == (2, 0)
    take_over(row)
    [state] = queues.states()
    assert (state.waiting.number, state.running.number) == (1, 1)


CHANGES: dict[str, Callable[[Task], Any]] = {
    "run now": lambda row: acting.run_now([row.pk]),
    "priority": lambda row: acting.set_priority([row.pk], 7),
    "move": lambda row: acting.move([row.pk], "elsewhere"),
    "reschedule": lambda row: enqueue.insert_unless_waiting(row, reschedule=True),
    "pause": lambda row: repeat.pause(row.pk),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_makes_its_message_void(change: Callable[[Task], Any]) -> None:
    row = published(repeat=Task.DAILY)
    assert change(row)
    row_now = Task.objects.get()
    assert (row_now.pk, row_now.locked_by, row_now.attempts) == (row.pk, None, 0)
    assert take_over(row) is None


def test_one_that_waits_is_replaced() -> None:
    row = published()
    task(["x"], remove_existing_tasks=True)
    assert Task.objects.get().pk != row.pk
    assert take_over(row) is None


def test_it_is_cancelled() -> None:
    row = published()
    assert outcomes.revoke(row.pk, terminate=False)
    assert take_over(row) is None
    state = outcomes.find(row.pk)
    assert state is not None
    assert (state.outcome, state.attempts) == ("cancelled", 0)


def test_in_a_paused_queue_it_is_not_taken_over() -> None:
    row = published(queue="q")
    assert deliveries.held(RELAY.prefix) == ({row.pk}, [])
    pauses.pause("q")
    assert take_over(row) is None
    assert deliveries.held(RELAY.prefix) == ({row.pk}, [row])
    pauses.resume("q")
    assert take_over(row) == 1


def test_who_runs_a_row_keeps_it_from_changes() -> None:
    row = published()
    take_over(row)
    for change in CHANGES.values():
        change(row)
    assert Task.objects.get(pk=row.pk).locked_by == FLEET.claim(1)
