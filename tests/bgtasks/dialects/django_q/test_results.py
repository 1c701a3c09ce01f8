"""What became of a call."""

from __future__ import annotations

from typing import Any

import pytest
from background_task.models import CompletedTask

from bgtasks import exceptions
from bgtasks.dialects import django_q
from bgtasks.dialects.django_q import async_task, fetch, result
from bgtasks.models import Outcome
from tests.bgtasks.dialects.django_q.helpers import APP, FAIL, MULTIPLY, fail_for_good, queue
from tests.conftest import run_queued


@queue
def test_what_is_fetched_tells_all(settings: Any) -> None:
    task_id = async_task(MULTIPLY, 4, y=5, task_name="a product")
    run_queued()
    ended, outcome = fetch(task_id), Outcome.objects.get()
    assert ended == django_q.EndedTask(
        id=task_id, name="a product", func=MULTIPLY, hook=None, args=[4], kwargs={"y": 5},
        result=20, success=True, started=outcome.started_at, stopped=outcome.finished_at,
        attempt_count=1,
    )  # fmt: skip
    assert fetch("a product") == fetch(int(task_id)) == ended


@queue
def test_a_failure_is_tried_again_and_then_its_traceback_is_the_result(settings: Any) -> None:
    settings.MAX_ATTEMPTS = 3
    task_id = async_task(FAIL, "no")
    run_queued()
    assert fetch(task_id) is None
    fail_for_good()
    ended = fetch(task_id)
    assert (ended.success, ended.attempt_count) == (False, 3)
    assert result(task_id) == ended.result
    assert ended.result.startswith("Traceback")
    assert ended.result.strip().endswith("ValueError: no")


@queue
def test_a_result_that_is_not_json_is_a_failure() -> None:
    task_id = async_task(f"{APP}.tasks.unkeepable")
    run_queued()
    assert "returned a value of type object" in result(task_id)
    assert not fetch(task_id).success


@queue
def test_of_several_of_a_name_the_last_to_end_is_fetched() -> None:
    for number in range(3):
        async_task(MULTIPLY, number, 10, task_name="tens")
        assert result("tens") == (None if number == 0 else (number - 1) * 10)
        run_queued()
    assert result("tens") == 20
    assert fetch("hundreds") is None


@queue
def test_of_what_nothing_is_known_nothing_comes_however_long_one_waits() -> None:
    assert (fetch("987654321", wait=-1), result("nobody", wait=-1)) == (None, None)
    task_id = async_task(MULTIPLY, 4, 5)
    run_queued()
    CompletedTask.objects.all().delete()
    assert fetch(task_id) is None


@queue
def test_to_wait_inside_a_transaction_is_refused() -> None:
    task_id = async_task(MULTIPLY, 4, 5)
    with pytest.raises(exceptions.WouldBlock):
        result(task_id, wait=100)


@pytest.mark.django_db(transaction=True)
def test_who_has_waited_long_enough_gets_nothing() -> None:
    task_id = async_task(MULTIPLY, 4, 5, task_name="late")
    assert (result(task_id, wait=1), fetch("late", wait=1)) == (None, None)
