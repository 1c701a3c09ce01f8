"""Hooks: what is called when a task has ended."""

from __future__ import annotations

from typing import Any

from background_task.models import Task as Row
from background_task.tasks import tasks as registry

from bgtasks.dialects import django_q
from bgtasks.dialects.django_q import async_task, fetch
from bgtasks.models import Outcome
from tests.bgtasks.dialects.django_q.helpers import (
    APP,
    FAIL,
    MULTIPLY,
    TELL,
    fail_for_good,
    ledger,
    queue,
)
from tests.bgtasks.project.qapp import tasks as app
from tests.conftest import run_queued


@queue
def test_a_hook_is_told_of_a_success_and_of_a_failure(settings: Any) -> None:
    settings.MAX_ATTEMPTS = 2
    async_task(MULTIPLY, 4, 5, hook=TELL, task_name="a product")
    fail_id = async_task(app.fail, "no", hook=app.tell)
    fail_for_good()
    assert ledger(settings) == [
        "multiply 4 5",
        f"told {MULTIPLY} True 1 a product",
        f"told {FAIL} False 2 {FAIL}",
    ]
    assert fetch(fail_id).hook == TELL


@queue
def test_a_hook_of_a_task_is_told_too_and_of_a_cancelled_one(settings: Any) -> None:
    task_id = async_task(app.declared, 7, hook=TELL)
    assert django_q.AsyncResult(task_id).revoke()
    run_queued()
    assert ledger(settings) == [f"told {APP}.tasks.declared False 0 {APP}.tasks.declared"]


@queue
def test_a_hook_that_fails_harms_nothing() -> None:
    task_id = async_task(MULTIPLY, 4, 5, hook=app.unsure)
    run_queued()
    assert fetch(task_id).success
    assert "LookupError" in Row.objects.get(task_name=django_q.call_hook.name).last_error


@queue
def test_a_hook_of_what_is_forgotten_is_cancelled() -> None:
    task_id = async_task(MULTIPLY, 4, 5, hook=TELL)
    registry.run_next_task()
    django_q.AsyncResult(task_id).forget()
    run_queued()
    (outcome,) = Outcome.objects.all()
    assert outcome.state == "cancelled"
