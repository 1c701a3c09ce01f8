"""The Django admin of tasks, attempts, outcomes and workers.

The pages of tasks and completed tasks are those of django-background-tasks, with its two actions
mended and with fewer permissions. The other pages show our own tables and change nothing.
"""

from __future__ import annotations

from typing import Any

from background_task.admin import CompletedTaskAdmin, TaskAdmin
from django.contrib import admin
from django.db.models import OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.utils.html import format_html

from bgtasks.models import Attempt, CompletedTask, Outcome, Task, Worker
from bgtasks.queue import claims


@admin.action(description="priority += 1")
def inc_priority(modeladmin: Any, request: Any, queryset: Any) -> None:
    """Raise the priority of the chosen rows by one, from what the database has at that moment."""
    claims.change_priority(queryset, 1)


@admin.action(description="priority -= 1")
def dec_priority(modeladmin: Any, request: Any, queryset: Any) -> None:
    """Lower the priority of the chosen rows by one, from what the database has at that moment."""
    claims.change_priority(queryset, -1)


# The fields of a row that may be changed: they say when it runs and who runs it, not what runs.
CHANGEABLE = {"priority", "queue", "repeat", "repeat_until", "run_at", "verbose_name"}


def readonly_fields(self: Any, request: Any, obj: Any = None) -> list[str]:
    """All fields but those of `CHANGEABLE`.

    If the name or the arguments could be changed, whoever has the permission to change rows could
    run any task with any arguments.
    """
    return [field.name for field in self.opts.fields if field.name not in CHANGEABLE]


def nobody(self: Any, request: Any, obj: Any = None) -> bool:
    """A permission that nobody has: calls write the rows, and workers the completed ones."""
    return False


@admin.display(description="error")
def error(row: Any) -> str:
    """Whether a row has an error, as a word: Django's icon for True is a green tick."""
    return "yes" if row.has_error() else ""


for _admin in (TaskAdmin, CompletedTaskAdmin):
    _admin.list_display = [error if name == "has_error" else name for name in _admin.list_display]
TaskAdmin.actions = [inc_priority, dec_priority]
TaskAdmin.get_readonly_fields = readonly_fields
TaskAdmin.has_add_permission = nobody
CompletedTaskAdmin.has_add_permission = nobody
CompletedTaskAdmin.has_change_permission = nobody


class ReadOnlyAdmin(admin.ModelAdmin):
    """The admin of a table that only bgtasks itself writes."""

    def has_add_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        return False


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ("name", "host", "pid", "processes", "threads", "started_at", "heartbeat_at")


def _name(rows: Any, key: str) -> Subquery:
    """SQL for the task name of the row whose id stands in the column `key`."""
    return Subquery(rows.filter(pk=OuterRef(key)).values("task_name")[:1])


class TaskNameAdmin(ReadOnlyAdmin):
    """The admin of a table that has ids of tasks; it shows their names too.

    Attributes:
        name: SQL for the name of the task.
    """

    name: Any

    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).annotate(_task_name=self.name)

    @admin.display(description="task")
    def task_name(self, row: Any) -> str:
        return row._task_name or ""


@admin.register(Outcome)
class OutcomeAdmin(TaskNameAdmin):
    name = _name(CompletedTask.objects, "completed_id")
    list_display = ("task_id", "task_name", "state", "attempts", "finished_at", "completed_id")
    list_filter = ("state",)
    search_fields = ("=task_id", "=completed_id")
    ordering = ("-finished_at",)


@admin.register(Attempt)
class AttemptAdmin(TaskNameAdmin):
    name = Coalesce(
        _name(Task.objects, "task_id"),
        Subquery(
            Outcome.objects.filter(pk=OuterRef("task_id"))
            .annotate(_name=_name(CompletedTask.objects, "completed_id"))
            .values("_name")[:1]
        ),
    )
    list_display = ("task_id", "task_name", "number", "state", "ended_at", "claim")
    fields = ("task_id", "number", "state", "claim", "started_at", "ended_at", "story")

    @admin.display(description="error")
    def story(self, row: Attempt) -> str:
        return format_html("<pre>{}</pre>", row.error)  # <pre> keeps a traceback's indentation

    list_filter = ("state",)
    search_fields = ("=task_id", "error")
    ordering = ("-ended_at",)
