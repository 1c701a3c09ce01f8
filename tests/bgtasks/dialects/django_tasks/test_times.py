"""A task ends after it has begun, and begins after it was enqueued, whoever writes the times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from background_task import signals
from background_task.models import Task
from django.utils import timezone

from bgtasks.models import Attempt, Outcome
from bgtasks.testing import eager, run_pending
from tests.bgtasks.dialects.django_tasks.helpers import APP, TASKS, backend
from tests.bgtasks.dialects.django_tasks.test_in_workers import MORE, PRELUDE
from tests.conftest import run_queued
from tests.harness.deployment import Deployment

# A time in milliseconds is before one in microseconds in two cases of three.
MANY = 10


@contextmanager
def _eagerly() -> Iterator[None]:
    with eager(propagate=False):
        yield


@contextmanager
def _pending() -> Iterator[None]:
    yield
    run_pending(raise_failures=False)


@contextmanager
def _by_upstreams_runner() -> Iterator[None]:
    yield
    run_queued()


@contextmanager
def _with_receivers() -> Iterator[None]:
    def receive(**kwargs: Any) -> None: ...

    signals.task_successful.connect(receive)
    try:
        yield
        run_pending(raise_failures=False)
    finally:
        signals.task_successful.disconnect(receive)


WAYS = pytest.mark.parametrize(
    "way",
    [_eagerly, _pending, _by_upstreams_runner, _with_receivers],
    ids=["eager", "run_pending", "run_next_task", "receivers"],
)


def assert_in_order(*times: Any) -> None:
    assert list(times) == sorted(times)


@pytest.mark.django_db
@WAYS
@pytest.mark.parametrize("name", ["double", "double_later", "fail", "flaky"])
def test_the_times_of_a_result_are_in_order(tasks: Any, name: str, way: Callable[[], Any]) -> None:
    Task.objects.all().delete()
    before = timezone.now()
    with way():
        ids = [getattr(tasks, name).enqueue(3).id for _ in range(MANY)]
    for result in map(backend().get_result, ids):
        assert_in_order(
            before,
            result.enqueued_at,
            result.started_at,
            result.last_attempted_at,
            result.finished_at,
            timezone.now(),
        )
    for outcome in Outcome.objects.filter(pk__in=ids):
        attempts = Attempt.objects.filter(task_id=outcome.pk).order_by("number")
        times = [time for each in attempts for time in (each.started_at, each.ended_at)]
        assert_in_order(*times, outcome.finished_at)
        assert_in_order(outcome.started_at, outcome.finished_at)


def test_the_times_that_a_worker_writes_are_in_order(deploy: Callable[..., Deployment]) -> None:
    project = deploy(TASKS=TASKS)
    calls = f"for each in range({MANY}):\n    tasks.double.enqueue(each)\n    tasks.fail.enqueue()"
    project.run(f"from {APP} import tasks\n{calls}", **MORE)
    project.drain(**MORE)
    outcomes = project.rows("bgtasks_outcome")
    assert len(outcomes) == 2 * MANY
    for outcome in outcomes:
        assert_in_order(outcome["started_at"], outcome["finished_at"])
    read = (
        f"{PRELUDE}for each in range({2 * MANY}):\n"
        "    task = tasks.fail if each % 2 else tasks.double\n"
        "    result = task.get_result(str(each + 1))\n"
        "    times = result.enqueued_at, result.started_at, result.finished_at\n"
        "    assert sorted(times) == list(times), times"
    )
    project.run(read, **MORE)


def test_a_clock_that_is_set_back_ends_nothing_before_its_start(
    db: None, tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Task.objects.all().delete()
    moments: Sequence[Any] = [timezone.now() - timedelta(seconds=n) for n in range(1000)]
    with monkeypatch.context() as patch:
        patch.setattr(timezone, "now", iter(moments).__next__)
        ids = [tasks.double.enqueue(3).id, tasks.fail.enqueue().id]
        Task.objects.update(run_at="2000-01-01T00:00:00Z")
        run_pending(raise_failures=False)
    for outcome in Outcome.objects.filter(pk__in=ids):
        assert_in_order(outcome.started_at, outcome.finished_at)
        for attempt in Attempt.objects.filter(task_id=outcome.pk):
            assert_in_order(attempt.started_at, attempt.ended_at)
