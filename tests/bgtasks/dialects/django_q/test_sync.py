"""Calls that run here and now."""

from __future__ import annotations

from typing import Any

import pytest
from background_task.models import Task as Row

from bgtasks.dialects.django_q import async_task, fetch, result
from bgtasks.models import Attempt
from tests.bgtasks.dialects.django_q.helpers import FAIL, MULTIPLY, TELL, ledger, queue
from tests.bgtasks.project.qapp import tasks as app


@pytest.mark.django_db(transaction=True)
def test_sync_runs_it_here_and_its_result_is_found(settings: Any) -> None:
    task_id = async_task(MULTIPLY, 4, 5, sync=True, hook=TELL, task_name="now")
    assert ledger(settings) == ["multiply 4 5", f"told {MULTIPLY} True 1 now"]
    ended = fetch(task_id)
    assert (ended.func, ended.result, ended.success) == (MULTIPLY, 20, True)
    assert result("now") == 20
    assert not Row.objects.filter(task_name__startswith="bgtasks").exists()


@queue
def test_sync_raises_what_it_raises_and_that_is_found_too(settings: Any) -> None:
    with pytest.raises(ValueError, match="no"):
        async_task(FAIL, "no", sync=True, task_name="now", hook=TELL)
    assert not Row.objects.exists()
    assert (fetch("now").success, fetch("now").attempt_count) == (False, 1)
    assert ledger(settings) == [f"told {FAIL} False 1 now"]
    assert Attempt.objects.count() == 1


@queue
def test_sync_runs_tasks_and_coroutine_functions_too(settings: Any) -> None:
    for func in (app.declared, app.shared):
        assert result(async_task(func, 7, q_options={"sync": True})) == 7
    assert result(async_task(app.multiply_later, 4, 5, sync=True, timeout=30)) == 20
    assert ledger(settings) == ["declared 7", "shared 7 True"]
