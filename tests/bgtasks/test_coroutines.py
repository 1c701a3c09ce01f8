"""Calls in coroutines, such as async views: each way of calling works, or says what to write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from background_task.models import Task as Row
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections
from django.utils import timezone

from bgtasks import AsyncResult, background, exceptions
from bgtasks.dialects import celery
from bgtasks.dialects.django_q import async_task
from tests.bgtasks.dialects.django_q.helpers import APP, TELL, install

pytestmark = pytest.mark.django_db(transaction=True)


@background
def plain(*args: Any, **kwargs: Any) -> None: ...


@celery.shared_task
def shared(*args: Any, **kwargs: Any) -> None: ...


@pytest.mark.parametrize("task", [plain, shared], ids=["ours", "Celery's"])
def test_adelay_enqueues_in_a_coroutine(task: Any) -> None:
    async def view() -> tuple[AsyncResult, AsyncResult]:
        later = await task.aapply_async([1], {"b": 2}, countdown=3600)
        now = await task.adelay(1, b=2)
        await sync_to_async(connections.close_all)()  # those of the thread that enqueues
        return now, later

    now, later = asyncio.run(view())
    assert type(now) is (celery.AsyncResult if task is shared else AsyncResult)
    rows = [Row.objects.get(pk=int(result.id)) for result in (now, later)]
    assert [row.params() for row in rows] == [([1], {"b": 2})] * 2
    assert rows[1].run_at - rows[0].run_at > timedelta(minutes=59)


@pytest.mark.parametrize(
    "call",
    [
        lambda: plain(1),
        lambda: plain.delay(1),
        lambda: plain.map([1, 2]),
        lambda: shared.delay(1),
        lambda: async_task(TELL, 1),
    ],
    ids=["a call", "delay", "map", "Celery's delay", "async_task"],
)
def test_other_calls_in_a_coroutine_say_what_to_write(
    call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(APP, monkeypatch)

    async def view() -> None:
        call()

    with pytest.raises(exceptions.EnqueuedInCoroutine, match=r"await \w+\.adelay\(") as caught:
        asyncio.run(view())
    assert isinstance(caught.value, SynchronousOnlyOperation)


NAIVE = datetime(2100, 1, 1)  # noqa: DTZ001


@pytest.mark.parametrize(
    "call",
    [
        lambda: plain(schedule=NAIVE),
        lambda: plain(repeat=60, repeat_until=NAIVE),
        lambda: plain.apply_async(eta=NAIVE),
        lambda: plain.apply_async(expires=NAIVE),
        lambda: plain.map([1], schedule=NAIVE),
        lambda: shared.apply_async(eta=NAIVE),
    ],
    ids=["schedule", "repeat_until", "eta", "expires", "map", "Celery's eta"],
)
def test_a_naive_time_is_warned_of_at_the_line_of_the_call(call: Callable[[], Any]) -> None:
    with pytest.warns(RuntimeWarning, match="without a time zone") as caught:
        call()
    assert {warning.filename for warning in caught} == {__file__}
    assert timezone.is_aware(Row.objects.latest("pk").run_at)
