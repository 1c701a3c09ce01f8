from __future__ import annotations

import logging

import pytest
from background_task.models import Task
from django.test import Client

from config.logs import NoTracebackForRefusals
from signup.models import Avatar, Report, User
from signup.tasks import send_welcome_email
from tests.conftest import run_queued

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("boss", email="boss@example.com"))
    return client


def test_the_start_page_says_what_this_is(client: Client) -> None:
    page = client.get("/").content.decode()
    assert "Nobody waits for slow work" in page
    assert 'href="/signup/"' in page


def test_the_admin_lists_waiting_and_completed_tasks(admin: Client) -> None:
    Task.objects.all().delete()
    send_welcome_email(1)
    listed = admin.get("/admin/background_task/task/").content.decode()
    assert "signup.tasks.send_welcome_email" in listed
    run_queued()
    listed = admin.get("/admin/background_task/completedtask/").content.decode()
    assert "signup.tasks.send_welcome_email" in listed


def test_the_admin_shows_avatars_and_reports_but_changes_none(admin: Client, user: User) -> None:
    avatar = Avatar.objects.create(user=user)
    report = Report.objects.create(created_by=user, start="2026-01-01", end="2026-01-02")
    for name, row in (("avatar", avatar), ("report", report)):
        assert str(row.pk) in admin.get(f"/admin/signup/{name}/").content.decode()
        assert admin.get(f"/admin/signup/{name}/{row.pk}/change/").status_code == 200
        assert admin.post(f"/admin/signup/{name}/{row.pk}/change/", {}).status_code == 403
        assert admin.get(f"/admin/signup/{name}/add/").status_code == 403


def test_a_page_that_is_not_there_is_a_page(client: Client) -> None:
    response = client.get("/nope/")
    assert response.status_code == 404
    assert "There is nothing here" in response.content.decode()


def test_pages_forbid_scripts_and_frames_of_others(client: Client) -> None:
    policy = client.get("/").headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_the_admin_too_refuses_a_name_in_another_case(admin: Client, user: User) -> None:
    other = User.objects.create_user("ben")
    form = admin.get(f"/admin/signup/user/{other.pk}/change/").context["adminform"].form
    fields = {name: value for name, value in form.initial.items() if isinstance(value, str)}
    fields |= {"username": "ZOE", "date_joined_0": "2026-01-01", "date_joined_1": "00:00"}
    page = admin.post(f"/admin/signup/user/{other.pk}/change/", fields).content.decode()
    assert "A user with that username already exists." in page


def test_a_refusal_is_one_line_in_the_log() -> None:
    refusal = logging.makeLogRecord({"name": "django.request", "levelno": logging.WARNING})
    failure = logging.makeLogRecord({"name": "django.request", "levelno": logging.ERROR})
    for record in (refusal, failure):
        record.exc_info = (ValueError, ValueError(), None)
        assert NoTracebackForRefusals().filter(record)
    assert refusal.exc_info is None
    assert failure.exc_info


def test_browsers_find_an_icon_on_the_admin_too(client: Client) -> None:
    assert client.get("/favicon.ico").headers["Location"] == "/static/favicon.svg"


def test_a_robot_cannot_log_in_by_get(client: Client) -> None:
    assert client.get("/logout/").status_code == 405
