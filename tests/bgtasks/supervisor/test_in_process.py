"""A worker without children, in this process."""

from __future__ import annotations

from typing import Any

import pytest
from background_task.models import CompletedTask, Task
from django.db import (
    OperationalError,
)

from bgtasks.running import without_worker
from bgtasks.supervisor import one_by_one
from bgtasks.supervisor.in_process import InProcess
from bgtasks.supervisor.one_by_one import OneByOne
from bgtasks.worker.options import Options
from signup.tasks import discard_files as task
from tests.bgtasks.worker.mishaps import broken, needs_rows


@needs_rows
def test_a_drain_in_this_process_outlives_a_locked_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Task.objects.all().delete()
    task(["a"])
    answers: list[Any] = [OperationalError("database is locked")]
    run_next = without_worker.run_next

    def run_next_when_it_answers(*arguments: Any) -> bool:
        if answers:
            raise answers.pop()
        return run_next(*arguments)

    monkeypatch.setattr(without_worker, "run_next", run_next_when_it_answers)
    monkeypatch.setattr(one_by_one, "cannot_share", lambda: "this is a test")
    OneByOne(Options(drain=True, sleep=0.01)).run()
    assert CompletedTask.objects.count() == 1


def test_a_worker_in_this_process_waits_for_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = InProcess(Options())
    answers: list[Exception] = [OperationalError("not there yet")]

    def acquire() -> None:
        if answers:
            raise answers.pop()

    monkeypatch.setattr(runner._lease, "acquire", acquire)
    assert runner._acquire()
    assert not answers


@pytest.mark.parametrize("duration", [0, 0.05])
def test_a_worker_that_waits_for_the_database_ends_when_it_is_to(
    monkeypatch: pytest.MonkeyPatch, duration: float
) -> None:
    runner = InProcess(Options(duration=duration))

    def acquire() -> None:
        if not duration:
            runner.stop()  # as a signal does, in the middle of it
        raise OperationalError("not there yet")

    monkeypatch.setattr(runner._lease, "acquire", acquire)
    runner.run()
    assert runner._worker is None


def test_p5_a_receiver_that_raises_ends_no_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = InProcess(Options())
    monkeypatch.setattr(runner._revocations, "heed", broken(ValueError("of a receiver")))
    runner._revoke()
