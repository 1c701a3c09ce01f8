"""The overview in the admin: what it shows, to whom, at what cost, and what may be done there."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bgtasks.admin import charts
from bgtasks.models import Attempt, Counter
from bgtasks.queue import pauses
from tests.bgtasks.queue.helpers import register, rows

pytestmark = pytest.mark.django_db

URL = "/admin/bgtasks/operations/"
PAUSE = f"{URL}pause/"


def text(client: Client, query: str = "") -> str:
    response = client.get(URL + query)
    assert response.status_code == 200
    return response.content.decode()


def staff(client: Client, user_model: Any, *permissions: str) -> Client:
    user = user_model.objects.create_user("clerk", is_staff=True)
    names = [f"{permission}_operations" for permission in permissions]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    return client


def counted(**values: Any) -> None:
    now = int(time.time())
    for width in (60, 900, 7200):
        given = {"queue": "emails", "name": "shop.tasks.send", "worker": "", **values}
        Counter.objects.create(width=width, start=now // width * width, **given)


def test_without_a_worker_a_banner_says_how_to_start_one(admin_client: Client) -> None:
    rows(1, schedule=timezone.now() - timedelta(minutes=1))
    assert "no worker runs.</strong> Start `python manage.py process_tasks`." in text(admin_client)
    register("bg~a")
    assert "no worker runs" not in text(admin_client)


@pytest.mark.parametrize("name", ["hour", "day", "week"])
def test_charts_show_what_has_run(admin_client: Client, name: str) -> None:
    counted(succeeded=12, retried=3, ran_5=15, waited_11=15)
    page = text(admin_client, f"?range={name}")
    assert f'<a href="?range={name}" aria-current="true">' in page
    assert page.count('<svg viewBox="0 0 420 190" role="img"') == 3
    assert "12 succeeded, 3 failed, to be retried, 0 failed, 0 cancelled." in page
    assert len(re.findall("<title id=.*</title>\n    <desc id=.*</desc>", page)) == 3
    assert re.search(r'<tr><th scope="row">[^<]+</th><td>12</td><td>3</td>', page)


def test_slow_failing_tasks_are_named(admin_client: Client) -> None:
    counted(succeeded=1, failed=3, ran_5=4, waited_11=4)
    page = text(admin_client)
    assert page.count('<a href="/admin/bgtasks/operations/tasks/?name=shop.tasks.send">') == 2
    assert "3 (75 %)" in page


def test_errors_lead_to_the_tasks_that_have_them(admin_client: Client) -> None:
    Attempt.objects.create(
        task_id=7, number=1, state="failed", claim="c", ended_at=timezone.now(), error="E: <no>"
    )
    page = text(admin_client)
    assert (
        '<a href="/admin/bgtasks/operations/tasks/?error=E">E</a> <small>&lt;no&gt;</small>' in page
    )
    assert '<a href="/admin/bgtasks/operations/tasks/7/">' in page


def test_the_live_part_is_the_page_without_its_frame(admin_client: Client) -> None:
    part = text(admin_client, "?range=day&live=1")
    assert "<html" not in part
    assert ">Queues</h2>" in part
    assert 'data-live="?range=day&amp;live=1"' in text(admin_client, "?range=day")


def test_nothing_is_styled_or_scripted_inline(admin_client: Client) -> None:
    counted(succeeded=1, ran_5=1)
    rows(1)
    page = text(admin_client)
    content = page[page.index('id="content-main"') :]
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=)", content)


def test_the_cost_does_not_grow_with_queues_and_tasks(admin_client: Client) -> None:
    for number in range(30):
        counted(queue=f"queue {number}", name=f"task {number}", failed=1, ran_3=1)
        rows(1, queue=f"queue {number}", schedule=timezone.now() - timedelta(minutes=1))
    with CaptureQueriesContext(connection) as queries:
        text(admin_client)
    assert len(queries) <= 20


def test_a_queue_is_paused_and_resumed(admin_client: Client, admin_user: Any) -> None:
    rows(1, queue="emails")
    assert 'name="pause" value="1" aria-label="Pause emails"' in text(admin_client)
    answer = admin_client.post(PAUSE, {"queue": "emails", "pause": "1"}, follow=True)
    assert "Queue emails is paused." in answer.content.decode()
    (paused,) = pauses.paused()
    assert (paused.queue, paused.by) == ("emails", admin_user.username)
    again = admin_client.post(PAUSE, {"queue": "emails", "pause": "1"}, follow=True)
    assert "somebody else was faster" in again.content.decode()
    answer = admin_client.post(PAUSE, {"queue": "emails", "resume": "1"}, follow=True)
    assert "Queue emails is resumed." in answer.content.decode()
    assert pauses.paused() == []
    log = LogEntry.objects.filter(user=admin_user).order_by("pk")
    assert [entry.change_message for entry in log] == [
        "Queue emails was paused.",
        "Queue emails was resumed.",
    ]


def test_what_has_no_queue_can_be_paused_too(admin_client: Client) -> None:
    admin_client.post(PAUSE, {"queue": "", "pause": "1"})
    assert [each.queue for each in pauses.paused()] == [""]
    assert 'aria-label="Resume what has no queue"' in text(admin_client)


def test_a_name_that_is_too_long_is_refused(admin_client: Client) -> None:
    answer = admin_client.post(PAUSE, {"queue": "x" * 191, "pause": "1"}, follow=True)
    assert "it is too long" in answer.content.decode()
    assert pauses.paused() == []


@pytest.mark.parametrize("permissions", [["view"], ["view", "act"], ["pause"]])
def test_who_lacks_a_permission_pauses_nothing(
    client: Client, django_user_model: Any, permissions: list[str]
) -> None:
    staff(client, django_user_model, *permissions)
    assert client.post(PAUSE, {"queue": "emails", "pause": "1"}).status_code == 403
    assert pauses.paused() == []
    if "view" in permissions:
        rows(1)
        assert "<form" not in text(client).partition('id="content-main"')[2]


def test_who_may_pause_needs_no_other_permission(client: Client, django_user_model: Any) -> None:
    staff(client, django_user_model, "view", "pause")
    assert client.post(PAUSE, {"queue": "emails", "pause": "1"}).status_code == 302
    assert len(pauses.paused()) == 1


def test_a_request_without_its_token_is_refused(admin_user: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    assert client.post(PAUSE, {"queue": "emails", "pause": "1"}).status_code == 403
    assert client.get(PAUSE).status_code == 302, "after a login there is no form any more"
    assert pauses.paused() == []


@pytest.mark.any_database
def test_bars_stand_on_each_other_and_end_below_the_top() -> None:
    columns = [charts.Column("A", "a", [3, 0]), charts.Column("B", "b", [1, None])]
    chart = charts.bars("n", "T", ["10:00", "11:00"], columns, "Runs")
    lower, upper = chart.marks
    assert float(upper.y) + float(upper.height) == pytest.approx(float(lower.y), abs=0.2)
    assert float(upper.y) >= charts.TOP
    assert chart.rows == [("10:00", ["3", "1"])]
    assert chart.summary == "Runs from 10:00 to 11:00: 3 a, 1 b."


@pytest.mark.any_database
def test_a_line_is_broken_where_nothing_has_run() -> None:
    columns = [charts.Column("p50", "p50", [0.01, 0.02, None, 1e9])]
    chart = charts.lines("n", "T", list("abcd"), columns, lambda seconds: f"{seconds}")
    assert [len(mark.points.split()) for mark in chart.marks] == [2, 2]
    heights = [float(point.split(",")[1]) for mark in chart.marks for point in mark.points.split()]
    assert charts.TOP <= min(heights) < max(heights) <= charts.HEIGHT - charts.BOTTOM


@pytest.mark.any_database
def test_an_empty_chart_says_so() -> None:
    assert charts.bars("n", "T", ["a"], [charts.Column("A", "a", [0])], "Runs").is_empty
    chart = charts.lines("n", "T", ["a"], [charts.Column("A", "a", [None])], str)
    assert chart.is_empty
    assert "no runs" in chart.summary
