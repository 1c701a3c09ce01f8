"""What the admin shows of tasks."""

from __future__ import annotations

from typing import Any

import pytest
from background_task.admin import CompletedTaskAdmin, TaskAdmin
from background_task.models import CompletedTask, Task
from background_task.tasks import tasks as registry
from django.contrib import admin
from django.test import Client, RequestFactory

from bgtasks.admin import OutcomeAdmin
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


class TenantAdmin(admin.ModelAdmin):
    """A mixin of a project: whoever looks sees the rows of their tenant only, here none."""

    readonly_fields = ("priority",)

    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).none()

    def changelist_view(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return "the mixin's list"

    def changeform_view(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return "the mixin's form"


@pytest.mark.parametrize(
    ("engine", "model"),
    [(TaskAdmin, Task), (CompletedTaskAdmin, CompletedTask), (OutcomeAdmin, Outcome)],
)
def test_p10_mixins_of_a_projects_admin_are_asked(
    engine: Any, model: Any, staff: Client, rf: RequestFactory
) -> None:
    mine = type("Mine", (engine, TenantAdmin), {})(model, admin.site)
    request = rf.get("/")
    assert engine(model, admin.site).get_queryset(request).exists()
    assert not mine.get_queryset(request).exists()
    assert mine.changelist_view(request) == "the mixin's list"
    assert mine.changeform_view(request, "1") == "the mixin's form"
    assert "priority" in mine.get_readonly_fields(request)
