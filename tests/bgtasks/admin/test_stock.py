"""What the pages of upstream, and those of single tables, show of tasks."""

from __future__ import annotations

from typing import Any

import pytest
from background_task.admin import CompletedTaskAdmin, TaskAdmin
from background_task.models import CompletedTask, Task
from background_task.tasks import tasks as registry
from django.contrib import admin
from django.test import Client, RequestFactory

from bgtasks import AsyncResult
from bgtasks.admin.stock import OutcomeAdmin
from bgtasks.models import Action, Attempt, Outcome
from bgtasks.queue import claims
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


TASKS = "/admin/background_task/task/"


def two() -> tuple[int, int]:
    """The ids of a task that waits, and of one that a worker has."""
    waiting, held = task(["b"]), task(["c"])
    assert claims.claim_row(held, "bg~abc.0-1")
    return waiting.pk, held.pk


def test_what_is_selected_is_cancelled_and_not_deleted(staff: Client) -> None:
    waiting, held = two()
    assert "Cancel selected tasks" in shown(staff, "background_task/task/")
    chosen = {"action": "delete_selected", "_selected_action": [waiting, held]}
    asked = staff.post(TASKS, chosen)
    assert "Cancel 2 tasks?" in asked.content.decode()
    assert Task.objects.filter(pk=waiting).exists()
    response = staff.post(TASKS, chosen | {"post": "yes"}, follow=True)
    assert [str(each) for each in response.context["messages"]] == [
        "Tasks cancelled: 1.",
        "Tasks left, for a worker has them or they have ended: 1.",
    ]
    assert AsyncResult(waiting).cancelled()
    assert Task.objects.filter(pk=held).exists()
    assert Action.objects.get().by == "admin"


def test_all_tasks_that_are_listed_can_be_cancelled(staff: Client) -> None:
    waiting, held = two()
    chosen = {"action": "delete_selected", "_selected_action": [waiting], "select_across": "1"}
    asked = staff.post(TASKS, chosen).content.decode()
    assert f"Cancel {Task.objects.count()} tasks?" in asked
    staff.post(TASKS, chosen | {"post": "yes"})
    assert [row.pk for row in Task.objects.all()] == [held]


def test_nothing_that_runs_is_deleted_beneath_its_worker(staff: Client) -> None:
    waiting, held = two()
    assert staff.post(f"{TASKS}{held}/delete/", {"post": "yes"}).status_code == 403
    assert Task.objects.filter(pk=held).exists()
    assert staff.post(f"{TASKS}{waiting}/delete/", {"post": "yes"}).status_code == 302
    assert AsyncResult(waiting).cancelled()
