"""What the admin shows of tasks."""

from __future__ import annotations

import pytest
from background_task.models import Task
from background_task.tasks import tasks as registry
from django.test import Client

from bgtasks.models import Attempt, Outcome
from signup.tasks import discard_files as task

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(admin_client: Client) -> Client:
    """Of a site on which one task has succeeded, and another has failed once."""
    Task.objects.all().delete()
    task([])
    task(["a"], priority=-1)
    Task.objects.filter(priority=-1).update(task_params="[[7], {}]")  # not a list of names
    while registry.run_next_task():
        pass
    assert (Outcome.objects.count(), Attempt.objects.count()) == (1, 1)
    return admin_client


def shown(staff: Client, page: str) -> str:
    response = staff.get(f"/admin/{page}")
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize("page", ["outcome", "attempt"])
def test_outcomes_and_attempts_are_listed_with_the_names_of_their_tasks(
    staff: Client, page: str
) -> None:
    assert f">{task.name}</td>" in shown(staff, f"bgtasks/{page}/")


def test_a_traceback_keeps_its_indentation(staff: Client) -> None:
    story = shown(staff, f"bgtasks/attempt/{Attempt.objects.get().pk}/change/")
    assert "<pre>Traceback (most recent call last):\n  File" in story


def test_an_error_is_no_green_tick(staff: Client) -> None:
    assert '<td class="field-error">yes</td>' in shown(staff, "background_task/task/")
    successes = shown(staff, "background_task/completedtask/")
    assert '<td class="field-error">' in successes
    assert "icon-no" not in successes.split("field-error")[1].split("</td>")[0]
