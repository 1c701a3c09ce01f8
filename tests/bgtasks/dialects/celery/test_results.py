"""Results in Celery's words."""

from __future__ import annotations

import pytest
from background_task.models import Task as Row

import bgtasks
from bgtasks import exceptions
from bgtasks.dialects.celery import AsyncResult, shared_task
from bgtasks.models import Outcome
from bgtasks.queue import progress
from tests.bgtasks.dialects.celery.helpers import add, queue
from tests.conftest import run_queued


@shared_task(ignore_result=True)
def ignored() -> int:
    return 7


@queue
def test_a_result_is_found_by_a_text_or_a_number() -> None:
    result = add.delay(1)
    assert isinstance(result, bgtasks.AsyncResult)
    assert result.id == result.task_id == str(Row.objects.get().pk)
    assert result == AsyncResult(int(result.id)) == add.AsyncResult(result.id)
    assert result.state == AsyncResult(result.id).state == "PENDING"
    with pytest.raises(exceptions.UnknownResult, match="no task 'x'"):
        AsyncResult("x")
    with pytest.raises(exceptions.UnknownResult, match="There is no task 987654321"):
        _ = AsyncResult("987654321").state


@queue
def test_p9_a_result_is_its_id_as_a_text() -> None:
    result = add.delay(1)
    assert str(result) == f"{result}" == result.id
    assert AsyncResult(str(result)) == result
    assert result == result.id
    assert result.id == result
    assert result != "another"
    assert result != int(result.id)
    assert {result: "kept"}[result.id] == "kept"
    assert result.id in [result]
    assert repr(result) == f"<AsyncResult: {result.id}>"


@queue
def test_a_result_can_be_called_off_and_forgotten() -> None:
    result = add.delay(1)
    assert result.revoke()
    assert (result.state, result.ready(), result.cancelled()) == ("REVOKED", True, True)
    assert not result.revoke()
    assert result.forget()
    assert not Outcome.objects.exists()


@queue
def test_what_is_ignored_is_not_kept() -> None:
    result = ignored.delay()
    run_queued()
    assert (result.state, result.get()) == ("SUCCESS", None)


@queue
def test_the_progress_of_what_runs_is_its_info(monkeypatch: pytest.MonkeyPatch) -> None:
    result = add.delay(1)
    Row.objects.update(locked_by="somebody", attempts=1)
    assert (result.state, result.info) == ("STARTED", {})
    reported = progress.Reported(3, 4, "nearly")
    monkeypatch.setattr(progress, "read", lambda _: reported)
    assert result.state == "PROGRESS"
    assert result.info == {"current": 3, "total": 4, "status": "nearly"}
