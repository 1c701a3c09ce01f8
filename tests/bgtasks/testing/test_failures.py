"""What a test learns of tasks that fail."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from background_task.models import Task
from django.utils import timezone

from bgtasks import exceptions
from bgtasks.models import Attempt
from bgtasks.tasks import registry as known_tasks
from bgtasks.testing import (
    enqueued,
    run_pending,
)
from tests.bgtasks.testing.helpers import (
    cancel,
    fail,
    interrupt,
    later,
    not_json,
    note,
    ran,
    retry_at_once,
    retry_in_vain,
    snooze,
)


def test_what_a_task_raises_is_raised_and_recorded(either: None) -> None:
    result = fail.delay("this one")
    note("next")
    with pytest.raises(ValueError, match="this one") as raised:
        run_pending()
    assert "run_pending(raise_failures=False)" in raised.value.__notes__[0]
    assert [entry.name for entry in raised.traceback][-1] == "fail"
    assert (result.status, result.attempts) == ("PENDING", 1)
    assert "this one" in Attempt.objects.get().error
    assert enqueued(note)


def test_or_is_recorded_only_and_tried_again_later(either: None) -> None:
    result = fail.delay()
    note("next")
    assert len(run_pending(raise_failures=False)) == 2
    assert ran == ["no", "next"]
    delay = Task.objects.get().run_at - timezone.now()
    assert timedelta(seconds=50) < delay < timedelta(seconds=70)
    run_pending(raise_failures=False, at=later(seconds=70))
    assert (ran, result.attempts) == (["no", "next", "no"], 2)


def test_the_last_attempt_fails_it(either: None, settings: Any) -> None:
    settings.MAX_ATTEMPTS = 3
    result = fail.delay()
    assert run_pending(raise_failures=False, include_later=True) == [result] * 3
    assert (result.status, result.attempts) == ("FAILURE", 3)
    with pytest.raises(ValueError, match="no"):
        result.get()


def test_retry_is_no_failure_before_the_last_attempt(either: None) -> None:
    result = retry_at_once.delay()
    run_pending()
    assert (ran, result.get()) == ([1, 2, 3], 3)
    retry_in_vain()
    with pytest.raises(ValueError, match="cause"):
        run_pending()


def test_snoozing_and_cancelling_are_no_failures(either: None) -> None:
    snoozed, cancelled = snooze.delay(), cancel.delay()
    run_pending()
    assert (snoozed.status, snoozed.attempts) == ("PENDING", 0)
    assert cancelled.cancelled()


def test_what_snoozes_for_ever_is_an_endless_chain(either: None) -> None:
    snooze()
    with pytest.raises(AssertionError, match="or snooze for ever"):
        run_pending(include_later=True, limit=5)


def test_what_is_no_exception_of_the_function_is_raised_too(either: None) -> None:
    not_json()
    with pytest.raises(exceptions.ResultNotJSON, match="of type object"):
        run_pending()
    row = note("a")
    Task.objects.filter(pk=row.pk).update(task_params="[[")
    with pytest.raises(exceptions.BrokenRow):
        run_pending()


def test_ctrl_c_ends_the_test_in_any_case(either: None) -> None:
    interrupt()
    with pytest.raises(KeyboardInterrupt):
        run_pending(raise_failures=False)


def test_a_task_module_that_cannot_be_imported_is_an_error(
    either: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = exceptions.TaskModuleError("shop.tasks cannot be imported")
    monkeypatch.setattr(known_tasks, "import_task_modules", lambda: iter([error]))
    with pytest.raises(exceptions.TaskModuleError):
        run_pending()
