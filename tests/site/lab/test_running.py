"""A run from its request to its answer."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from background_task.models import Task
from django.test import AsyncClient, Client
from django.utils import timezone

from bgtasks.models import Outcome
from lab import sizes, work
from lab.models import KEPT_RUNS, Run
from lab.running import give_up_overdue
from tests.site.lab.helpers import over, press, press_async, set_up

pytestmark = pytest.mark.django_db


def test_a_run_notes_when_its_answer_was_there(client: Client) -> None:
    set_up()
    answer = press(client)
    assert answer.status_code == 200
    run = Run.objects.get()
    assert (run.pattern, run.way, run.server, run.active) == ("click", "script", "WSGI", True)
    assert run.answered_at is not None
    assert run.started_at <= run.answered_at == run.done_at


def test_only_the_page_of_the_lab_may_frame_an_answer(client: Client) -> None:
    set_up()
    answer = press(client)
    assert "frame-ancestors 'self' http://testserver" in answer["Content-Security-Policy"]
    assert "X-Frame-Options" not in answer
    assert "frame-ancestors 'none'" in client.get("/login/")["Content-Security-Policy"]


def test_the_work_of_a_task_is_not_done_with_the_answer(client: Client) -> None:
    set_up()
    assert press(client, "mail/background").status_code == 200
    run = Run.objects.get()
    assert run.answered_at is not None
    assert run.done_at is None
    assert run.tasks == [Task.objects.get().pk]


@pytest.mark.django_db(transaction=True)
def test_an_async_view_is_measured_too(
    async_client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up()
    monkeypatch.setattr(sizes, "PRIMES_BELOW", 10)
    answer = async_to_sync(press_async)(async_client, "compute/async")
    assert "There are 4 primes." in answer.text
    run = Run.objects.get()
    assert run.server == "ASGI"
    assert run.answered_at == run.done_at


def test_one_runs_at_a_time(client: Client) -> None:
    set_up()
    assert press(client).status_code == 200
    answer = press(client)
    assert answer.status_code == 409
    assert "only one is measured at a time" in answer.text
    assert Run.objects.count() == 1


def test_after_a_minute_a_run_is_given_up_and_its_tasks_are_cancelled(client: Client) -> None:
    set_up()
    press(client, "mail/background")
    Run.objects.update(started_at=timezone.now() - timedelta(seconds=61))
    assert press(client, visit="v2").status_code == 200
    run = Run.objects.get(visit="v1")
    assert run.active is None
    assert "60 seconds" in run.problem
    assert not Task.objects.exists()
    assert Outcome.objects.get().state == Outcome.State.CANCELLED


def test_a_run_that_is_not_overdue_goes_on(client: Client) -> None:
    set_up()
    press(client)
    give_up_overdue()
    assert Run.objects.get().active


def test_a_view_that_fails_ends_its_run_and_says_so(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(port: int) -> None:
        raise ConnectionRefusedError("nobody listens")

    monkeypatch.setattr(work, "send_mail", fail)
    set_up()
    answer = press(client, "mail/view")
    assert answer.status_code == 500
    assert "ConnectionRefusedError: nobody listens" in answer.text
    assert "could not run /lab/run/mail/view/" in caplog.text
    run = Run.objects.get()
    assert run.active is None
    assert "nobody listens" in run.problem


@pytest.mark.django_db(transaction=True)
def test_a_visitor_who_leaves_ends_the_run(
    async_client: AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = asyncio.Event()

    async def never(api: str) -> str:
        asked.set()
        await asyncio.Event().wait()
        return ""

    async def press_and_leave() -> None:
        pressed = asyncio.create_task(press_async(async_client, "api/async"))
        await asyncio.wait_for(asked.wait(), 30)
        pressed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pressed

    monkeypatch.setattr(work, "acall", never)
    set_up()
    async_to_sync(press_and_leave)()
    run = Run.objects.get()
    assert run.active is None
    assert "The visitor has left" in run.problem
    assert "could not run" not in caplog.text


def test_companions_are_no_runs(client: Client) -> None:
    set_up()
    assert press(client, visit="").status_code == 200
    assert not Run.objects.exists()


def test_old_runs_of_a_way_are_deleted(client: Client) -> None:
    set_up()
    first = over("click", "script").pk
    kept = over("click", "server").pk
    for _ in range(KEPT_RUNS - 1):
        over("click", "script")
    press(client)
    assert not Run.objects.filter(pk=first).exists()
    assert Run.objects.filter(pk=kept).exists()
    assert Run.objects.filter(way="script").count() == KEPT_RUNS
