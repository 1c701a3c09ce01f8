"""The request of a task, and its progress."""

from __future__ import annotations

from typing import Any

import pytest

from bgtasks import exceptions
from bgtasks.dialects.celery import shared_task
from tests.bgtasks.dialects.celery.helpers import add, declaring, queue
from tests.conftest import run_queued


@shared_task(bind=True)
def about(self: Any, *args: Any, **kwargs: Any) -> list[Any]:
    request = self.request
    return [request.id, request.task, request.args, request.kwargs, request.retries,
            request.called_directly, self.name]  # fmt: skip


@shared_task(bind=True)
def calls_another(self: Any) -> list[Any]:
    return [about.run(1), about(2), about.proxy.now(3), self.request.called_directly]


@queue
def test_a_bound_task_knows_its_call() -> None:
    result = about.delay(1, two=2)
    run_queued()
    name = f"{__name__}.about"
    assert result.get() == [result.id, name, [1], {"two": 2}, 0, False, name]
    assert about(1) == [None, name, (1,), {}, 0, True, name]
    assert (about.request.id, about.request.args, about.request.called_directly) == (None, (), True)


@queue
def test_a_task_that_another_calls_directly_is_not_taken_for_a_row() -> None:
    result = calls_another.delay()
    run_queued()
    run, called, now, own = result.get()
    assert (run[0], called[0], now[0], own) == (None, None, None, False)
    assert (called[2], called[5]) == ([2], True)


@declaring
def test_a_state_or_a_key_that_means_nothing_is_refused() -> None:
    add.update_state(state="PROGRESS", meta={"current": 1})  # outside of a worker: nothing
    for options, name in (
        ({"state": "CUSTOM"}, "state CUSTOM"),
        ({"meta": {"percent": 5}}, "meta 'percent'"),
        ({"task_id": "7"}, "task_id"),
    ):
        with pytest.raises(exceptions.UnknownOption, match=f"{name} is not supported"):
            add.update_state(**options)
