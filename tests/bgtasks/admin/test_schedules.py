"""The page of schedules, and running one of them now."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from background_task.models import Task
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from bgtasks import background
from bgtasks.models import Action
from bgtasks.queue import cron_slots
from signup.tasks import discard_files as task
from tests.bgtasks.supervisor.cron_helpers import give_cron_line

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/admin/bgtasks/operations/schedules/"
TASKS = "/admin/bgtasks/operations/tasks/"
RUN = f"{URL}run/"
PAUSE = f"{URL}pause/"
LATER = timedelta(hours=1)


@background(name="tests.schedules.nightly", queue="night")
def _nightly() -> None: ...


@pytest.fixture
def nightly(monkeypatch: pytest.MonkeyPatch) -> Any:
    return give_cron_line(_nightly, "30 2 * * *", monkeypatch)


def text(client: Client) -> str:
    response = client.get(URL)
    assert response.status_code == 200
    return response.content.decode()


def repeating() -> Task:
    row: Task = task(["a"], repeat=3600, schedule=timezone.now() + LATER)
    return row


def test_it_shows_cron_tasks_and_repeating_ones(admin_client: Client, nightly: Any) -> None:
    row = repeating()
    page = text(admin_client)
    assert f"?name={nightly.name}" in page
    assert "<code>30 2 * * *</code>" in page
    assert f'operations/tasks/{row.pk}/">task {row.pk}</a>' in page
    assert "every hour" in page
    assert page.count("<li><time datetime=") >= 10


def test_a_cron_task_is_run_now(admin_client: Client, admin_user: Any, nightly: Any) -> None:
    answer = admin_client.post(RUN, {"name": nightly.name}, follow=True)
    row = Task.objects.get(task_name=nightly.name)
    assert f"Task {row.pk} was enqueued: {nightly.name}." in answer.content.decode()
    assert row.queue == "night"
    action = Action.objects.get()
    assert (action.task_id, action.kind, action.by) == (row.pk, "run_now", admin_user.username)
    assert LogEntry.objects.get().object_id == str(row.pk)


def test_a_repeating_task_is_run_now_and_keeps_its_time_table(admin_client: Client) -> None:
    row = repeating()
    admin_client.post(RUN, {"id": row.pk})
    assert Task.objects.get(pk=row.pk).run_at <= timezone.now()
    assert Action.objects.get().task_id == row.pk


def test_a_cron_line_is_paused_and_resumed(admin_client: Client, nightly: Any) -> None:
    answer = admin_client.post(PAUSE, {"name": nightly.name}, follow=True).content.decode()
    assert f"The cron line of {nightly.name} was paused." in answer
    assert f'name="resume" value="1" aria-label="Resume {nightly.name}"' in answer
    assert LogEntry.objects.get().object_id == nightly.name
    assert "somebody else was faster" in (
        admin_client.post(PAUSE, {"name": nightly.name}, follow=True).content.decode()
    )
    answer = admin_client.post(PAUSE, {"name": nightly.name, "resume": "1"}, follow=True)
    assert f"The cron line of {nightly.name} was resumed." in answer.content.decode()
    assert cron_slots.paused() == {}


def test_a_repeating_task_is_paused_and_resumed(admin_client: Client) -> None:
    row = repeating()
    answer = admin_client.post(PAUSE, {"id": row.pk}, follow=True).content.decode()
    assert f"Task {row.pk} was paused." in answer
    assert f'name="resume" value="1" aria-label="Resume {task.name}"' in answer
    assert LogEntry.objects.get().object_id == str(row.pk)
    assert "when it is resumed" in admin_client.get(f"{TASKS}{row.pk}/").content.decode()
    assert "somebody else was faster" in (
        admin_client.post(PAUSE, {"id": row.pk}, follow=True).content.decode()
    )
    answer = admin_client.post(PAUSE, {"id": row.pk, "resume": "1"}, follow=True).content.decode()
    assert f"Task {row.pk} was resumed." in answer
    assert Task.objects.get(pk=row.pk).run_at == row.run_at


@pytest.mark.parametrize("data", [{"id": "4711"}, {"id": "x"}, {"id": "4711", "resume": "1"}])
def test_what_does_not_repeat_is_not_paused(admin_client: Client, data: dict[str, str]) -> None:
    row = task(["a"], schedule=timezone.now() + LATER)
    for given in (data, {**data, "id": row.pk}):
        answer = admin_client.post(PAUSE, given, follow=True).content.decode()
        assert 'class="error"' in answer
    assert Task.objects.get(pk=row.pk).run_at == row.run_at


@pytest.mark.parametrize("name", ["os.abort", task.name, ""])
def test_what_has_no_cron_line_is_not_paused(admin_client: Client, name: str) -> None:
    answer = admin_client.post(PAUSE, {"name": name}, follow=True)
    assert 'class="error"' in answer.content.decode()
    assert cron_slots.paused() == {}


def test_who_may_only_act_pauses_no_cron_line(
    client: Client, django_user_model: Any, nightly: Any
) -> None:
    user = django_user_model.objects.create_user("clerk", is_staff=True)
    names = ["view_operations", "act_operations"]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    assert client.post(PAUSE, {"name": nightly.name}).status_code == 403
    assert cron_slots.paused() == {}
    assert f"Pause {nightly.name}" not in text(client)


@pytest.mark.parametrize("data", [{"name": "os.abort"}, {"name": task.name}, {"id": "4711"}, {}])
def test_what_is_no_schedule_is_not_run(admin_client: Client, data: dict[str, str]) -> None:
    before = Task.objects.count()  # a mail, to whoever was registered
    answer = admin_client.post(RUN, data, follow=True)
    assert 'class="error"' in answer.content.decode()
    assert Task.objects.count() == before


@pytest.mark.parametrize("permissions", [["view"], ["view", "pause"], ["act"]])
def test_who_may_not_act_runs_nothing(
    client: Client, django_user_model: Any, nightly: Any, permissions: list[str]
) -> None:
    user = django_user_model.objects.create_user("clerk", is_staff=True)
    names = [f"{permission}_operations" for permission in permissions]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    assert client.post(RUN, {"name": nightly.name}).status_code == 403
    assert not Task.objects.filter(task_name=nightly.name).exists()
    if "view" in permissions:
        assert "Run now" not in text(client)
